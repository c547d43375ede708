"""Names in the archives of ISO-Bench's runners: whose result a file holds, and what its metrics are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from isobench_tui.campaign.models import Arm, Mode
from isobench_tui.results.metrics import describe

MODEL_OVERRIDES: Final[Mapping[str, str]] = {
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct": "meta-llama/Meta-Llama-3-70B-Instruct",
    "ibm-ai-platform/Bamba-9B-v2": "meta-llama/Meta-Llama-3-8B-Instruct",
    "ibm-ai-platform/Bamba-9B": "meta-llama/Meta-Llama-3-8B-Instruct",
}
"""What `run_3way_benchmarks.py` ran in place of the model that it then wrote down."""

COMMIT = re.compile(r"[0-9a-f]{8,40}")
_FOLDER = re.compile(r"(?:iso_bench|omniperf)_results_3way_(\w+)")
_ITS_NAME = re.compile(r"([0-9a-f]{8,40})_(agent|human|baseline)_result")
_FLAT = re.compile(r"([a-z]\w*?)__([0-9a-f]{8,40})(?:__(agent|human|baseline))?")
_STARTS = re.compile(r"([0-9a-f]{8,40})(?:_|$)")


def of_path(path: str) -> tuple[str, str, Arm | None]:
    """(agent, commit, arm) as far as a path tells them: `…_results_3way_AGENT/results/COMMIT_ARM_result.json`.

    Collections of such files name them `AGENT__COMMIT.json` and `AGENT__COMMIT__ARM.json`.
    """
    pure = PurePath(path)
    folders = [found[1] for part in pure.parts[:-1] if (found := _FOLDER.fullmatch(part))]
    agent, commit, arm = (folders[-1] if folders else ""), "", ""
    name = pure.name.split(".", 1)[0]
    if found := _ITS_NAME.fullmatch(name):
        commit, arm = found[1], found[2]
    elif found := _FLAT.fullmatch(name):
        agent, commit, arm = found[1], found[2], found[3] or "agent"
    elif found := _STARTS.match(name):
        commit = found[1]
    elif COMMIT.fullmatch(pure.parent.name):
        commit = pure.parent.name
    return agent, commit, as_arm(arm)


def as_arm(text: object) -> Arm | None:
    """One of the three arms, None for any other word."""
    arms: tuple[Arm, ...] = ("baseline", "human", "agent")
    return next((arm for arm in arms if arm == text), None)


_TIMES = re.compile(r"(ttft|tpot|itl|e2el)_(mean|median|std|p\d{1,3}(?:\.\d+)?)(?:_ms)?")
_PLAIN_TIMES = re.compile(r"(?:mean|median|std|p\d{1,3}(?:\.\d+)?)_(?:ttft|tpot|itl|e2el)_ms")
_AVERAGE = re.compile(r"(?:latency_avg|avg_latency)(_ms|_s)?")
_PERCENTILE = re.compile(r"(?:latency_p(\d{1,3})|p(\d{1,3})_latency)(_ms|_s)?")
_UNIT = re.compile(r"_(?:req|tok)_s$")
_RATES: Final[Mapping[Mode, Mapping[str, str]]] = {
    "serving": {
        "request_throughput": "request_throughput",
        "throughput_req": "request_throughput",
        "output_token_throughput": "output_throughput",
        "output_throughput": "output_throughput",
        "throughput_tok": "output_throughput",
        "total_token_throughput": "total_token_throughput",
        "input_token_throughput": "input_throughput",
    },
    "throughput": {
        "throughput_tok": "tokens_per_second",
        "total_token_throughput": "tokens_per_second",
        "throughput_req": "requests_per_second",
        "request_throughput": "requests_per_second",
        "output_token_throughput": "output_throughput",
    },
    "latency": {},
    "prefix_caching": {
        "input_throughput": "input_throughput",
        "output_throughput": "output_throughput",
        "input_token_throughput": "input_throughput",
        "output_token_throughput": "output_throughput",
    },
}
_SECONDS = {"cost_time_s": "cost_time", "cost_time": "cost_time", "generate_time_s": "cost_time"}


def our_name(mode: Mode, key: str) -> tuple[str, float] | None:
    """Our name of a recorded metric and what its value is multiplied with; None where the mode has no such metric."""
    if mode == "serving":
        if found := _TIMES.fullmatch(key):
            return f"{found[2]}_{found[1]}_ms", 1.0
        if _PLAIN_TIMES.fullmatch(key):
            return key, 1.0
    if mode == "latency":
        if found := _AVERAGE.fullmatch(key):
            return "avg_latency", _factor(found[1])
        if found := _PERCENTILE.fullmatch(key):
            return f"p{found[1] or found[2]}_latency", _factor(found[3])
        return None
    if mode == "prefix_caching" and key in _SECONDS:
        return _SECONDS[key], 1.0
    stem = _UNIT.sub("", key)
    short = stem if stem != "throughput" else "throughput_req" if key.endswith("_req_s") else "throughput_tok"
    if name := _RATES[mode].get(short):
        return name, 1.0
    return (key, 1.0) if mode == "throughput" and key in {"tokens_per_second", "requests_per_second"} else None


def _factor(unit: str | None) -> float:
    return 0.001 if unit == "_ms" else 1.0


def is_rate(key: str) -> bool:
    """Whether a recorded key is a throughput, whatever the mode."""
    return "throughput" in key or key.endswith(("_tok_s", "_req_s"))


def mode_of_metrics(keys: frozenset[str]) -> Mode | None:
    """The mode that alone has metrics of these names; None if they do not tell."""
    if any(_TIMES.fullmatch(key) or _PLAIN_TIMES.fullmatch(key) for key in keys):
        return "serving"
    if any(_AVERAGE.fullmatch(key) or _PERCENTILE.fullmatch(key) for key in keys):
        return "latency"
    if keys & {"generate_time_s", "cost_time_s", "cost_time", "warmup_time_s"}:
        return "prefix_caching"
    if any(
        key.startswith(("output_token_throughput", "total_token_throughput", "request_throughput")) for key in keys
    ):
        return "serving"
    return "throughput" if any(is_rate(key) for key in keys) else None


def known(mode: Mode, recorded: Mapping[str, float]) -> dict[str, float]:
    """The recorded metrics under our names and in our units; what is no metric of the mode is left out."""
    out: dict[str, float] = {}
    for key, value in recorded.items():
        named = our_name(mode, key)
        if named is not None and describe(named[0]) is not None and value >= 0:
            out.setdefault(named[0], value * named[1])
    return out
