"""What a benchmark client printed and wrote -> ClientResult.

Formats: `vllm bench serve|throughput|latency` of vLLM 0.8 - 0.33 and the scripts `benchmarks/benchmark_*.py` of 0.2 -
0.10.1 (serving: 0.3.3), as their own sources print them. Both inputs are hostile; nothing here raises for any bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isobench_tui.campaign.models import Mode
from isobench_tui.results.metrics import CORE, describe, metric
from isobench_tui.results.models import ClientResult
from isobench_tui.results.text import Hints, LogBytes, clean, clip

MAX_JSON = 64 * 1024**2
"""Bytes of a result file that are accepted; vLLM's detailed files take about 1 KiB a request."""
MAX_METRICS = 200
"""Metrics kept of one run: a hostile file may name any number of percentiles."""
_EXACT = 2**53
MAX_WORDS = 20
"""Problems, and disagreements, that are listed."""

_NUMBER = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)", re.IGNORECASE)


@dataclass
class _Printed:
    """Numbers of a printed block with the decimals they were printed with, and tokens that are no numbers."""

    values: dict[str, float] = field(default_factory=dict)
    decimals: dict[str, int] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, token: str) -> None:
        if name in self.values or name in self.bad:
            return
        if _NUMBER.fullmatch(token) is None:
            self.bad[name] = clip(token, 40)
            return
        plain = token.replace(",", "")
        self.values[name] = float(plain)
        mantissa, _, exponent = plain.lower().partition("e")
        self.decimals[name] = len(mantissa.partition(".")[2]) - (int(exponent[:6]) if exponent else 0)


_SERVING_LABELS = {
    "Successful requests": "completed",
    "Failed requests": "failed",
    "Benchmark duration (s)": "duration",
    "Total input tokens": "total_input_tokens",
    "Total generated tokens": "total_output_tokens",
    "Request throughput (req/s)": "request_throughput",
    "Request goodput (req/s)": "request_goodput",
    "Input token throughput (tok/s)": "input_throughput",
    "Output token throughput (tok/s)": "output_throughput",
    "Peak output token throughput (tok/s)": "max_output_tokens_per_s",
    "Peak concurrent requests": "max_concurrent_requests",
    "Total Token throughput (tok/s)": "total_token_throughput",  # 0.6.0 - 0.12
    "Total token throughput (tok/s)": "total_token_throughput",  # 0.13+
}
_HEADER = re.compile(r"={3,} Serving Benchmark Result ={3,}\s*$")
_FOOTER = re.compile(r"(?<!=)={50}\s*$")
_ROW = re.compile(
    r"(?<![\w-])("
    + "|".join(re.escape(label) for label in _SERVING_LABELS)
    + r"|(Mean|Median|P\d{1,3}(?:\.\d+)?) (TTFT|TPOT|ITL|E2EL) \(ms\)"
    + r"):\s+(\S+)\s*$"
)


_FIRST_LABELS = {
    "Successful requests": "completed",
    "Benchmark duration": "duration",
    "Total input tokens": "total_input_tokens",
    "Total generated tokens": "total_output_tokens",
    "Request throughput": "request_throughput",
    "Input token throughput": "input_throughput",
    "Output token throughput": "output_throughput",
}
_FIRST_ROW = re.compile(
    rf"(?<![\w-])({'|'.join(_FIRST_LABELS)}|(Mean|Median|P99) (TTFT|TPOT))"
    r": (\S+)(?: (?:s|ms|requests/s|tokens/s))?\s*$"
)
"""`benchmark_serving.py` of 0.3.3: no table around it, `Benchmark duration: 0.515772 s`, `Mean TTFT: 3.14 ms`."""
_FIRST_AND_LAST = ("completed", "p99_tpot_ms")


_SERVING_HINTS = Hints(
    b"requests", b"duration", b"tokens", b"throughput", b"goodput", b"TTFT", b"TPOT", b"ITL", b"E2EL", b"Serving",
    b"=====",
)  # fmt: skip
"""Each line of a block holds one."""


def _serving_block(log: LogBytes) -> _Printed | None:
    """The last block that has its header and its closing line of 50 '=' (in 0.3.3: its first and its last row)."""
    complete: _Printed | None = None
    current: _Printed | None = None
    for piece in _SERVING_HINTS.pieces(log):
        text = piece.text
        if _HEADER.search(text):
            current = _Printed()
        elif early := _FIRST_ROW.search(text):
            label, statistic, what, token = early.groups()
            name = f"{statistic}_{what}_ms".lower() if statistic else _FIRST_LABELS[label]
            if name == _FIRST_AND_LAST[0]:
                current = _Printed()
            if current is not None:
                current.add(name, token)
                complete = current if name == _FIRST_AND_LAST[1] else complete
        elif current is None:
            continue
        elif _FOOTER.search(text):
            complete, current = current, None
        elif row := _ROW.search(text):
            label, statistic, what, token = row.groups()
            name = f"{statistic}_{what}_ms".lower() if statistic else _SERVING_LABELS[label]
            current.add(name, token)
    return complete


_THROUGHPUT = re.compile(
    r"(?<!\w)(?<!prompt )Throughput: (\S+) requests/s, (\S+) (?:total )?tokens/s(?:, (\S+) output tokens/s)?\s*$"
)
_TOTAL = re.compile(r"(?<!\w)Total num (prompt|output) tokens:\s+(\d{1,15})\s*$")


_THROUGHPUT_HINTS = Hints(b"Throughput", b"Total num")


def _throughput_block(log: LogBytes) -> _Printed | None:
    """The last `Throughput:` line and the token counts below it (0.8+)."""
    found: _Printed | None = None
    for piece in _THROUGHPUT_HINTS.pieces(log):
        text = piece.text
        if row := _THROUGHPUT.search(text):
            found = _Printed()
            for name, token in zip(
                ("requests_per_second", "tokens_per_second", "output_throughput"), row.groups(), strict=True
            ):
                if token is not None:
                    found.add(name, token)
        elif found is not None and (row := _TOTAL.search(text)):
            found.add("total_input_tokens" if row[1] == "prompt" else "total_output_tokens", row[2])
    return found


_AVERAGE = re.compile(r"(?<!\w)Avg latency: (\S+) seconds\s*$")
_PERCENTILE = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d+)?)% percentile latency: (\S+) seconds\s*$")


_LATENCY_HINTS = Hints(b"Avg latency", b"percentile")


def _latency_block(log: LogBytes) -> _Printed | None:
    """The last `Avg latency:` line and the percentiles below it (0.4.1+)."""
    found: _Printed | None = None
    for piece in _LATENCY_HINTS.pieces(log):
        text = piece.text
        if row := _AVERAGE.search(text):
            found = _Printed()
            found.add("avg_latency", row[1])
        elif found is not None and (row := _PERCENTILE.search(text)):
            found.add(f"p{row[1]}_latency", row[2])
    return found


_GENERATING = re.compile(r"-{3,}start generating-{3,}")
_COST = re.compile(r"(?<!\w)cost time (\S+)\s*$")
_SPEED = re.compile(r"est\. speed input: (\S+) toks/s, output: (\S+) toks/s(?=[],\s]|$)")


_PREFIX_CACHING_HINTS = Hints(b"start generating", b"cost time", b"est. speed")


def _prefix_caching_block(log: LogBytes) -> _Printed | None:
    """`cost time` after the last `start generating`, with the last speeds of the progress bar before it (0.4.1+).

    The warm-up before prints the same lines; that it is no result is all that tells them apart.
    """
    found: _Printed | None = None
    speeds: re.Match[str] | None = None
    generating = False
    for piece in _PREFIX_CACHING_HINTS.pieces(log):
        text = piece.text
        if _GENERATING.search(text):
            found, speeds, generating = None, None, True
        elif not generating:
            continue
        elif row := _COST.search(text):
            found = _Printed()
            found.add("cost_time", row[1])
            if speeds is not None:
                found.add("input_throughput", speeds[1])
                found.add("output_throughput", speeds[2])
        else:
            speeds = _SPEED.search(text) or speeds
    return found


_BLOCKS: dict[Mode, Callable[[LogBytes], _Printed | None]] = {
    "serving": _serving_block,
    "throughput": _throughput_block,
    "latency": _latency_block,
    "prefix_caching": _prefix_caching_block,
}


def _float(value: object) -> float | None:
    """A JSON number as float; None for everything else, True and integers beyond a float's range among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _count(value: float | None) -> int | None:
    """A number that counts something, as int; None for fractions, negatives, NaN and what no float holds exactly."""
    if value is None or not 0 <= value <= _EXACT or value != int(value):
        return None
    return int(value)


_MISSPELLED = {
    "request_goodput:": "request_goodput",  # 0.6.4 - 0.9.1
    "request_inthroughput": "request_throughput",  # 0.3.3
}


@dataclass
class _Written:
    values: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    window_s: float | None = None


def _written(mode: Mode, raw: bytes | None) -> _Written:
    """The numbers of the client's own result JSON; whatever is wrong with it is told in `problems`."""
    out = _Written()
    if raw is None:
        return out
    if len(raw) > MAX_JSON:
        out.problems.append(f"the result file has {len(raw)} bytes, more than {MAX_JSON}, and was not read")
        return out
    try:
        loaded = json.loads(raw)
    except (ValueError, RecursionError, MemoryError) as error:
        why = clean(str(error)) or type(error).__name__
        out.problems.append(f"the result file is no JSON: {clip(why, 200)}")
        return out
    if not isinstance(loaded, dict):
        out.problems.append(f"the result file holds a {type(loaded).__name__}, not an object")
        return out
    flat: dict[str, object] = dict(loaded)
    for spelled, name in _MISSPELLED.items():
        if spelled in flat:
            flat.setdefault(name, flat[spelled])
    if mode == "latency":
        percentiles = flat.get("percentiles")
        if isinstance(percentiles, dict):
            flat |= {f"p{key}_latency": value for key, value in percentiles.items()}
        out.window_s = _total(flat.get("latencies"))
    for name, value in flat.items():
        if value is None or (
            describe(name) is None and name not in {"completed", "failed", "num_prompts", "num_requests"}
        ):
            continue
        number = _float(value)
        if number is None:
            out.problems.append(f"{name} in the result file is a {type(value).__name__}, not a number")
        else:
            out.values[name] = number
    return out


def _total(latencies: object) -> float | None:
    """Sum of a list of seconds; None if it is anything else."""
    if not isinstance(latencies, list) or not latencies:
        return None
    numbers = [_float(value) for value in latencies]
    known = [value for value in numbers if value is not None and math.isfinite(value) and value >= 0]
    return math.fsum(known) if len(known) == len(numbers) else None


def _disagreements(printed: _Printed, written: Mapping[str, float]) -> tuple[str, ...]:
    """Names whose printed value is not the JSON's value rounded to the printed decimals."""
    out = []
    for name, shown in printed.values.items():
        exact = written.get(name)
        if exact is None or (math.isnan(shown) and math.isnan(exact)):
            continue
        slack = 0.5 * 10.0 ** -max(-300, min(300, printed.decimals[name])) + 1e-9 * abs(exact)
        if not abs(shown - exact) <= slack and shown != exact:
            out.append(f"{name}: printed {shown:g}, written {exact:g}")
    return tuple(out)


def _why_none(mode: Mode, values: Mapping[str, float], bad: Mapping[str, str]) -> str | None:
    """Why these numbers are no result; None if they are one."""
    if values.get("completed") == 0:
        return "no request completed"
    for name in ("total_output_tokens", "total_num_tokens"):
        if values.get(name) == 0:
            return f"{name} is 0"
    for name in CORE[mode]:
        if name not in values:
            return f"{name} is {bad[name]!r}, not a number" if name in bad else f"{name} is missing"
        if not math.isfinite(values[name]) or values[name] <= 0:
            return f"{name} is {values[name]:g}"
    return None


def _clean_metrics(values: Mapping[str, float], bad: Mapping[str, str]) -> tuple[dict[str, float], list[str]]:
    """The finite, non-negative metrics among `values`, and a word about each of the others."""
    kept: dict[str, float] = {}
    problems = [f"{name} is {token!r}, not a number" for name, token in bad.items() if name not in values]
    for name, value in values.items():
        if describe(name) is None:
            continue
        if math.isfinite(value) and value >= 0:
            if len(kept) < MAX_METRICS:
                kept[name] = value
        else:
            problems.append(f"{name} is {value:g} and was left out")
    return kept, problems


def _window(mode: Mode, values: Mapping[str, float], written: _Written) -> float | None:
    """Seconds that were measured, where the client says so."""
    window = values.get(
        {"serving": "duration", "throughput": "elapsed_time"}.get(mode, "cost_time"), written.window_s
    )
    if window is None and mode == "throughput" and values.get("tokens_per_second", 0) > 0:
        tokens = [values.get("total_input_tokens"), values.get("total_output_tokens")]
        known = [count for count in tokens if count is not None]
        window = sum(known) / values["tokens_per_second"] if len(known) == 2 else None
    return window if window is not None and math.isfinite(window) and window >= 0 else None


def parse_client(mode: Mode, log: LogBytes, result_json: bytes | None) -> ClientResult:
    """Read one run of the client. Never raises.

    The client's own JSON wins over what it printed, number by number; where the two differ by more than the rounding
    of the print, the difference is listed. A log without a complete block and without a JSON has no metrics.
    """
    printed = _BLOCKS[mode](log)
    written = _written(mode, result_json)
    values = {**(printed.values if printed else {}), **written.values}
    bad = printed.bad if printed else {}
    if values or bad:
        reason = _why_none(mode, values, bad)
    else:
        reason = "the client's log holds no complete result" + ("" if result_json is None else ", nor does its file")
    kept, problems = _clean_metrics(values, bad)
    asked = _count(values.get("num_prompts" if mode == "serving" else "num_requests"))
    completed = _count(values.get("completed", values.get("num_requests") if mode == "throughput" else None))
    failed = _count(values.get("failed"))
    if asked is None and completed is not None and failed is not None:
        asked = completed + failed
    if failed is None and asked is not None and completed is not None:
        failed = max(0, asked - completed)
    return ClientResult(
        metrics=() if reason else tuple(metric(name, value) for name, value in kept.items()),
        reason=reason,
        asked=asked,
        completed=completed,
        failed=failed,
        output_tokens=_count(values.get("total_output_tokens")),
        window_s=_window(mode, values, written),
        disagreements=_disagreements(printed, written.values)[:MAX_WORDS] if printed else (),
        problems=(*written.problems, *problems)[:MAX_WORDS],
    )
