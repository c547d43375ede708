"""What clients print and write becomes metrics, or a reason why it does not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.campaign.models import Mode
from isobench_tui.results.live import latest
from isobench_tui.results.metrics import CORE, describe, headline
from isobench_tui.results.models import ClientResult
from isobench_tui.results.parse import MAX_JSON, MAX_METRICS, parse_client
from isobench_tui.results.text import clean, lines

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "vllm"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the saved outputs of real vLLM are not here")
MODES: tuple[Mode, ...] = ("serving", "throughput", "latency", "prefix_caching")


def block(*, total: str = "Total token throughput (tok/s):", **values: str) -> str:
    """A serving block of vLLM 0.13+ with some values replaced; an empty value leaves its row out."""
    rows = {
        "Successful requests:": values.get("completed", "40"),
        "Failed requests:": values.get("failed", "0"),
        "Benchmark duration (s):": values.get("duration", "12.50"),
        "Total input tokens:": "2560",
        "Total generated tokens:": values.get("tokens", "1280"),
        "Request throughput (req/s):": values.get("requests", "3.20"),
        "Output token throughput (tok/s):": values.get("output", "102.40"),
        "Peak output token throughput (tok/s):": "130.00",
        "Peak concurrent requests:": "40.00",
        total: "307.20",
    }
    table = "".join(f"{label:<40} {value:<10}\n" for label, value in rows.items() if value)
    return (
        f"{' Serving Benchmark Result ':=^50}\n{table}{'Time to First Token':-^50}\n"
        f"{'Mean TTFT (ms):':<40} {values.get('ttft', '25.00'):<10}\n"
        f"{'P99.9 TTFT (ms):':<40} {'80.50':<10}\n{'=' * 50}\n"
    )


def written(**changed: object) -> bytes:
    whole: dict[str, object] = {
        "num_prompts": 40,
        "request_rate": "inf",
        "completed": 40,
        "failed": 0,
        "duration": 12.5,
        "total_input_tokens": 2560,
        "total_output_tokens": 1280,
        "request_throughput": 3.2,
        "output_throughput": 102.4,
        "total_token_throughput": 307.2,
        "mean_ttft_ms": 25.0,
    }
    return json.dumps(whole | changed).encode()


def values(result: ClientResult) -> dict[str, float]:
    return {item.name: item.value for item in result.metrics}


def test_serving_block_alone() -> None:
    result = parse_client("serving", block().encode(), None)
    found = values(result)
    assert result.reason is None
    assert found["output_throughput"] == 102.4
    assert found["total_token_throughput"] == 307.2
    assert found["p99.9_ttft_ms"] == 80.5
    assert (result.asked, result.completed, result.failed, result.output_tokens) == (40, 40, 0, 1280)
    assert result.window_s == 12.5


def test_block_of_an_old_client_has_no_failed_line() -> None:
    result = parse_client("serving", block(failed="", total="Total Token throughput (tok/s):").encode(), None)
    assert values(result)["total_token_throughput"] == 307.2
    assert (result.asked, result.completed, result.failed) == (None, 40, None)


def rows(*lines: str) -> str:
    """A table as a version printed it."""
    table = "".join(f"{label:<40} {value:<10}\n" for label, _, value in (line.partition("|") for line in lines))
    return f"{' Serving Benchmark Result ':=^50}\n{table}{'=' * 50}\n"


REST = ("Successful requests:|40", "Benchmark duration (s):|12.50", "Total input tokens:|2560",
        "Total generated tokens:|1280", "Request throughput (req/s):|3.20")  # fmt: skip
OUTPUT, TTFT = "Output token throughput (tok/s):|102.40", "Mean TTFT (ms):|25.00"
VERSIONS: list[tuple[str, Mode, str, dict[str, float]]] = [
    (
        "0.3.3",
        "serving",
        "Successful requests: 40\nBenchmark duration: 12.500000 s\nTotal input tokens: 2560\n"
        "Total generated tokens: 1280\nRequest throughput: 3.20 requests/s\nInput token throughput: 204.80 tokens/s\n"
        "Output token throughput: 102.40 tokens/s\nMean TTFT: 25.00 ms\nMedian TTFT: 24.00 ms\nP99 TTFT: 80.50 ms\n"
        "Mean TPOT: 9.00 ms\nMedian TPOT: 8.00 ms\nP99 TPOT: 12.00 ms\n",
        {"output_throughput": 102.4, "input_throughput": 204.8, "p99_tpot_ms": 12.0, "duration": 12.5},
    ),
    ("0.4", "serving", rows(*REST, "Input token throughput (tok/s):|204.80", OUTPUT, TTFT),
     {"input_throughput": 204.8, "output_throughput": 102.4, "mean_ttft_ms": 25.0}),
    ("0.6", "serving", rows(*REST, OUTPUT, "Total Token throughput (tok/s):|307.20", TTFT, "P99 E2EL (ms):|99.00"),
     {"total_token_throughput": 307.2, "p99_e2el_ms": 99.0}),
    ("0.6.4", "serving", "Maximum request concurrency: None\n" + rows(*REST, "Request goodput (req/s):|2.50", OUTPUT),
     {"request_goodput": 2.5, "output_throughput": 102.4}),
    ("0.11.1", "serving", rows(*REST, "Failed requests:|0", OUTPUT, "Peak output token throughput (tok/s):|130.00",
                               "Peak concurrent requests:|40.00"),
     {"max_output_tokens_per_s": 130.0, "max_concurrent_requests": 40.0}),
    ("0.13", "serving", rows(*REST, OUTPUT, "Total token throughput (tok/s):|307.20", "P99.9 ITL (ms):|7.00"),
     {"total_token_throughput": 307.2, "p99.9_itl_ms": 7.0}),
    ("0.2", "throughput", "Throughput: 15.80 requests/s, 8088.76 tokens/s\n",
     {"requests_per_second": 15.8, "tokens_per_second": 8088.76}),
    ("0.8", "throughput", "Throughput: 15.80 requests/s, 8088.76 total tokens/s, 2000.50 output tokens/s\n"
     "Total num prompt tokens:  256\nTotal num output tokens:  128\n", {"output_throughput": 2000.5}),
    ("0.2", "latency", "Avg latency: 4.150542 seconds\n", {"avg_latency": 4.150542}),
    ("0.5.1", "latency", "Avg latency: 4.15 seconds\n99% percentile latency: 4.4 seconds\n", {"p99_latency": 4.4}),
    ("0.4", "prefix_caching", "------warm up------\ncost time 9.0\n------start generating------\ncost time 3.5\n",
     {"cost_time": 3.5}),
]  # fmt: skip
"""The first version of each form that a client's output has had."""


@pytest.mark.parametrize(("since", "mode", "log", "wanted"), VERSIONS, ids=[f"{v[1]}-{v[0]}" for v in VERSIONS])
def test_every_form_since_its_first_version(since: str, mode: Mode, log: str, wanted: dict[str, float]) -> None:
    result = parse_client(mode, f"Namespace(version='{since}')\n{log}".encode(), None)
    assert (result.reason, result.problems) == (None, ())
    assert {name: values(result).get(name) for name in wanted} == wanted
    if mode == "serving":
        assert (result.completed, result.output_tokens, result.window_s) == (40, 1280, 12.5)


def test_a_client_older_than_any_token_count_has_no_result() -> None:
    """`benchmark_serving.py` of 0.2.0 - 0.3.2 neither counts what failed nor any token: its number proves nothing."""
    log = b"Total time: 10.00 s\nThroughput: 4.00 requests/s\nAverage latency: 2.50 s\n"
    assert parse_client("serving", log, None).reason


def test_last_complete_block_counts() -> None:
    log = block(output="1.00") + block(output="2.00") + block(output="3.00").removesuffix("=" * 50 + "\n")
    assert values(parse_client("serving", log.encode(), None))["output_throughput"] == 2.0


def test_progress_bars_colours_and_log_lines_change_nothing() -> None:
    noisy = block().replace(
        "\n", "\r\n(APIServer pid=1) INFO 11-22 08:43:44 [x.py:1] Avg prompt throughput: 9.9 tokens/s\r\n"
    )
    noisy = "  0%|   | 0/40\r100%|###| 40/40 \x1b[A\x1b[32mdone\x1b[0m" + noisy
    assert values(parse_client("serving", noisy.encode(), None)) == values(
        parse_client("serving", block().encode(), None)
    )


def test_json_wins_and_rounding_is_no_disagreement() -> None:
    result = parse_client("serving", block().encode(), written(output_throughput=102.4049))
    assert values(result)["output_throughput"] == 102.4049
    assert result.disagreements == ()


def test_disagreement_beyond_rounding_is_listed() -> None:
    result = parse_client("serving", block().encode(), written(output_throughput=250.0))
    assert values(result)["output_throughput"] == 250.0
    assert result.disagreements == ("output_throughput: printed 102.4, written 250",)


@pytest.mark.parametrize(
    ("log", "raw", "reason"),
    [
        (b"", None, "no complete result"),
        (b"Avg prompt throughput: 12793.9 tokens/s", None, "no complete result"),
        (block().removesuffix("=" * 50 + "\n").encode(), None, "no complete result"),
        (f"{' Serving Benchmark Result ':=^50}\n{'=' * 50}\n".encode(), None, "no complete result"),
        (block(output=".").encode(), None, "output_throughput is '.', not a number"),
        (block(output="nan").encode(), None, "output_throughput is nan"),
        (block(output="inf").encode(), None, "output_throughput is inf"),
        (block(output="0.00").encode(), None, "output_throughput is 0"),
        (block(output="-3.00").encode(), None, "output_throughput is -3"),
        (block(tokens="0").encode(), None, "total_output_tokens is 0"),
        (block(completed="0", failed="40").encode(), None, "no request completed"),
        (block().encode(), written(output_throughput=math.nan), "output_throughput is nan"),
        (block(output="").encode(), None, "output_throughput is missing"),
    ],
)
def test_no_metrics_with_the_reason(log: bytes, raw: bytes | None, reason: str) -> None:
    result = parse_client("serving", log, raw)
    assert result.metrics == ()
    assert reason in (result.reason or "")


def test_a_minor_metric_that_is_no_number_is_left_out_and_told() -> None:
    result = parse_client("serving", block(ttft="nan").encode(), None)
    assert result.reason is None
    assert "mean_ttft_ms" not in values(result)
    assert result.problems == ("mean_ttft_ms is nan and was left out",)


def test_goodput_key_with_a_colon() -> None:
    found = values(parse_client("serving", b"", written(**{"request_goodput:": 2.5})))
    assert found["request_goodput"] == 2.5


def test_goodput_that_was_not_asked_for_is_no_problem() -> None:
    result = parse_client("serving", b"", written(request_goodput=None, rtfx=0.0, label=None))
    assert result.problems == ()
    assert "request_goodput" not in values(result)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[1, 2]",
        b'"text"',
        b'{"output_throughput": "fast"}',
        b'{"output_throughput": true, "num_prompts": 1e400}',
        b'{"output_throughput": {"a": []}}',
        b'{"num_prompts": ' + b"9" * 4000 + b"}",
        b'{"num_prompts": ' + b"9" * 5000 + b"}",
        b" " * (MAX_JSON + 1),
    ],
)
def test_hostile_result_file_falls_back_to_the_block(raw: bytes) -> None:
    result = parse_client("serving", block().encode(), raw)
    assert values(result)["output_throughput"] == 102.4
    assert result.problems


def test_a_result_file_cannot_name_metrics_without_end() -> None:
    raw = json.dumps({"avg_latency": 1.0, "percentiles": {f"1.{n}": 1.0 for n in range(5000)}}).encode()
    assert len(parse_client("latency", b"", raw).metrics) <= MAX_METRICS


@pytest.mark.parametrize("tail", ["8088.76 tokens/s", "8088.76 total tokens/s, 2000.50 output tokens/s"])
def test_throughput_line(tail: str) -> None:
    log = f"Processed prompts: 100%|##| est. speed input: 1.0 toks/s\nThroughput: 15.80 requests/s, {tail}\n"
    result = parse_client("throughput", log.encode(), None)
    found = values(result)
    assert (found["requests_per_second"], found["tokens_per_second"]) == (15.8, 8088.76)
    assert found.get("output_throughput") == (2000.5 if "output" in tail else None)


def test_throughput_json_gives_requests_and_window() -> None:
    raw = json.dumps(
        {
            "elapsed_time": 4.0,
            "num_requests": 8,
            "total_num_tokens": 384,
            "requests_per_second": 2.0,
            "tokens_per_second": 96.0,
        }
    ).encode()
    log = b"Throughput: 2.00 requests/s, 96.00 total tokens/s, 32.00 output tokens/s\n" + (
        b"Total num prompt tokens:  256\nTotal num output tokens:  128\n"
    )
    result = parse_client("throughput", log, raw)
    assert (result.asked, result.completed, result.output_tokens, result.window_s) == (8, 8, 128, 4.0)
    assert parse_client("throughput", log, None).window_s == 4.0


def test_latency_percentiles_from_print_and_json() -> None:
    log = b"Avg latency: 4.150542 seconds\n50% percentile latency: 4.1 seconds\n99% percentile latency: 4.4 seconds\n"
    printed = values(parse_client("latency", log, None))
    assert printed == {"avg_latency": 4.150542, "p50_latency": 4.1, "p99_latency": 4.4}
    raw = b'{"avg_latency": 4.150542, "latencies": [4.0, 4.3], "percentiles": {"50": 4.1, "99": 4.4, "x": 1}}'
    result = parse_client("latency", log, raw)
    assert values(result) == printed
    assert (result.window_s, result.disagreements) == (8.3, ())


def test_the_engines_own_throughput_is_never_a_result() -> None:
    log = b"INFO x.py:1] Avg prompt throughput: 12793.9 tokens/s, Avg generation throughput: 1.0 tokens/s\n"
    for mode in MODES:
        assert parse_client(mode, log, None).metrics == ()


def test_prefix_caching_counts_the_run_after_the_warm_up() -> None:
    log = b"------warm up------\ncost time 9.0\n------start generating------\ncost time 3.5\n"
    assert values(parse_client("prefix_caching", log, None)) == {"cost_time": 3.5}
    assert parse_client("prefix_caching", log[:40], None).metrics == ()


def test_every_headline_is_a_core_metric() -> None:
    for mode in MODES:
        assert headline(mode) in CORE[mode]
        assert describe(headline(mode)) is not None


def test_latest_live_values_of_both_engines() -> None:
    old = (
        b"INFO 05-04 12:00:00 metrics.py:1] Avg prompt throughput: 10.5 tokens/s, Avg generation throughput: 20.0 "
        b"tokens/s, Running: 3 reqs, Swapped: 0 reqs, Pending: 7 reqs, GPU KV cache usage: 12.5%, "
        b"CPU KV cache usage: 0.0%.\n"
    )
    new = (
        b"(APIServer pid=1) INFO 11-22 08:43:44 [loggers.py:1] Engine 000: Avg prompt throughput: 1.0 tokens/s, "
        b"Avg generation throughput: 99.5 tokens/s, Running: 40 reqs, Waiting: 2 reqs, GPU KV cache usage: 3.1%, "
        b"Prefix cache hit rate: 0.0%\n"
    )
    first, second = latest(old), latest(old + new)
    assert first is not None
    assert second is not None
    assert (first.prompt_tokens_s, first.waiting, first.kv_cache_percent) == (10.5, 7, 12.5)
    assert (second.generation_tokens_s, second.running, second.waiting, second.kv_cache_percent) == (99.5, 40, 2, 3.1)
    assert latest(b"nothing") is None


def test_lines_are_numbered_by_newlines_and_cleaned() -> None:
    log = b"one\r\ntwo a\rtwo b\n\n\x1b]0;title\x07four\x00\x00four b\n\xff\xc2\x9b31mfive\xe2\x80\xae"
    assert list(lines(log)) == [(1, "one"), (2, "two a"), (2, "two b"), (4, "four"), (4, "four b"), (5, "�five")]


@given(st.text())
def test_clean_text_holds_no_control_sequence(text: str) -> None:
    shown = clean(text)
    assert all(char == "\t" or (ord(char) >= 32 and not 127 <= ord(char) < 160) for char in shown)
    shown.encode()


wild = st.one_of(
    st.binary(max_size=400),
    st.lists(
        st.sampled_from(
            [
                f"{' Serving Benchmark Result ':=^50}",
                "=" * 50,
                "Output token throughput (tok/s): ",
                "Request throughput (req/s): ",
                "Throughput: 1.0 requests/s, ",
                "Avg latency: ",
                " seconds",
                "50% percentile latency: ",
                "nan",
                "-1",
                "1e999",
                "1,000.5",
                "inf",
                "\n",
                "\r",
                "\x1b[",
                "------start generating------",
                "cost time ",
            ]
        ),
        max_size=30,
    ).map(lambda parts: "".join(parts).encode()),
)
hostile_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["completed", "output_throughput", "avg_latency", "percentiles", "latencies", "50", "num_requests"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@given(st.sampled_from(MODES), wild, st.none() | st.binary(max_size=100) | hostile_json)
def test_no_input_crashes_the_parser_or_yields_a_wild_metric(mode: Mode, log: bytes, raw: bytes | None) -> None:
    result = parse_client(mode, log, raw)
    assert (result.reason is None) == bool(result.metrics)
    for item in result.metrics:
        assert math.isfinite(item.value)
        assert item.value >= 0
    assert all(item.value > 0 for item in result.metrics if item.name in CORE[mode])


@given(
    st.lists(st.binary(max_size=60).filter(lambda noise: b"Serving Benchmark" not in noise), max_size=5),
    st.integers(0, 5),
)
def test_noise_around_a_block_never_changes_it(noise: list[bytes], at: int) -> None:
    parts = [*noise[:at], b"\n" + block().encode(), *noise[at:]]
    assert values(parse_client("serving", b"\n".join(parts), None)) == values(
        parse_client("serving", block().encode(), None)
    )


def _mode(path: Path) -> Mode:
    for name, mode in (("serv", "serving"), ("through", "throughput"), ("latency", "latency")):
        if path.name.startswith(name):
            return mode  # type: ignore[return-value]
    raise AssertionError(path)


REAL = sorted([*SHARED.glob("bench/*.log"), *SHARED.glob("old/*.log")])
NO_RESULT = {"serving_0.10.2", "throughput_0.10.2", "latency_0.10.2", "throughput_0.2.0"}


@needs_shared
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_outputs_of_real_clients(path: Path) -> None:
    mode = _mode(path)
    raw = path.with_suffix(".json")
    result = parse_client(mode, path.read_bytes(), raw.read_bytes() if raw.exists() else None)
    if path.stem in NO_RESULT:
        assert "no complete result" in (result.reason or "")
        return
    assert result.reason is None
    assert (result.disagreements, result.problems) == ((), ())
    assert headline(mode) in values(result)
    if mode == "serving":
        assert result.completed
        assert result.window_s
    alone = parse_client(mode, path.read_bytes(), None)
    assert set(values(alone)) <= set(values(result))


@needs_shared
def test_numbers_of_real_clients() -> None:
    def real(mode: Mode, name: str) -> dict[str, float]:
        return values(
            parse_client(mode, (SHARED / f"{name}.log").read_bytes(), (SHARED / f"{name}.json").read_bytes())
        )

    assert real("serving", "bench/serve")["output_throughput"] == 1882.1940120357986
    assert real("serving", "bench/serve_goodput")["p90_e2el_ms"] == 258.0491024000821
    assert real("throughput", "bench/throughput")["output_throughput"] == 2530.06
    assert real("latency", "bench/latency")["p99_latency"] == 0.07171990264001579
    assert real("serving", "old/serving_0.8.5")["request_goodput"] == 40.733951839309775
