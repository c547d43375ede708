"""The demo's simulated vLLM, run for real: its server and its clients. No speed is asserted by the clock."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demotree import DEADLINE_S, REPO, TREE, Server, copied, free_port, run, serving

REAL = REPO.parent / "shared" / "data" / "vllm" / "bench"
SERVING = "benchmarks/benchmark_serving.py"
CLI = "vllm.entrypoints.cli.main"
BLOCK_ROW = re.compile(r".{40} -?[\d.]+ *")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(TREE, tmp_path_factory.mktemp("server"), "--disable-log-requests", "--dtype", "float16") as ready:
        yield ready


def client(server: Server, folder: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """A serving run that ends with code 0: what it printed, and its JSON."""
    saved = ("--save-result", "--result-dir", str(folder), "--result-filename", "client.json")
    done = run(TREE, SERVING, "--model", "m", "--port", str(server.port), *saved, *options)
    assert done.returncode == 0, done.stdout
    return done.stdout, json.loads((folder / "client.json").read_text())


def real(name: str) -> dict[str, Any]:
    """A result of the real vLLM."""
    path = REAL / name
    if not path.exists():
        pytest.skip("no recorded outputs of the real vLLM beside this checkout")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def block(text: str) -> list[str]:
    lines = text.splitlines()
    begin = max(i for i, line in enumerate(lines) if " Serving Benchmark Result " in line)
    return lines[begin : lines.index("=" * 50, begin) + 1]


SMALL = ("--num-prompts", "20", "--random-input-len", "64", "--random-output-len", "32", "--ignore-eos")


def test_serving_prints_and_writes_what_vllm_does(server: Server, tmp_path: Path) -> None:
    before = server.metric("vllm:generation_tokens_total")
    text, result = client(server, tmp_path, *SMALL, "--seed", "1")
    assert result["completed"] == result["num_prompts"] == 20
    assert result["failed"] == 0
    assert result["total_input_tokens"] == 20 * 64
    assert result["total_output_tokens"] == 20 * 32
    assert server.metric("vllm:generation_tokens_total") - before == 20 * 32
    rows = block(text)
    assert rows[0] == "============ Serving Benchmark Result ============"
    assert f"{'Successful requests:':<40} {20:<10}" in rows
    assert f"{'Output token throughput (tok/s):':<40} {result['output_throughput']:<10.2f}" in rows
    assert f"{'Median TPOT (ms):':<40} {result['median_tpot_ms']:<10.2f}" in rows
    assert all(BLOCK_ROW.fullmatch(row) or re.fullmatch(r"[-=].{48}[-=]", row) for row in rows)
    assert result["simulated"] is True
    assert "SIMULATED" in text


def test_serving_has_the_lines_and_keys_of_the_real_one(server: Server, tmp_path: Path) -> None:
    expected = real("serve.json")
    text, result = client(server, tmp_path, *SMALL, "--save-detailed")
    assert set(result) - {"simulated"} == set(expected)
    for key, value in expected.items():
        assert type(result[key]) is type(value), key
    labels = [re.split(r"  +|: ", line)[0] for line in block((REAL / "serve.log").read_text())]
    assert [re.split(r"  +|: ", line)[0] for line in block(text)] == labels
    compact = real("serve_0.30.0.json")
    assert set(client(server, tmp_path, *SMALL)[1]) - {"simulated"} == set(compact)


def test_bench_serve_checks_readiness_and_keeps_the_rate(server: Server, tmp_path: Path) -> None:
    options = ("--model", "m", "--served-model-name", "m", "--host", "localhost", "--port", str(server.port))
    rate = ("--request-rate", "400", "--max-concurrency", "4", "--percentile-metrics", "ttft,e2el")
    where = ("--save-result", "--save-detailed", "--result-dir", str(tmp_path), "--result-filename", "c.json")
    done = run(TREE, CLI, "bench", "serve", *options, *rate, *where, *SMALL, "--ready-check-timeout-sec", "30")
    assert done.returncode == 0, done.stdout
    assert "Initial test run completed." in done.stdout
    result = json.loads((tmp_path / "c.json").read_text())
    assert result["request_rate"] == 400.0
    assert result["output_lens"] == [32] * 20
    assert "mean_e2el_ms" in result
    assert "mean_tpot_ms" not in result
    begin, end = (
        result["start_times"],
        [s + d for s, d in zip(result["start_times"], result["latencies"], strict=True)],
    )
    assert max(sum(b <= at < e for b, e in zip(begin, end, strict=True)) for at in begin) <= 4


def test_server_answers_and_says_that_it_is_simulated(server: Server) -> None:
    assert json.loads(server.get("/version")[1]) == {"version": "0.0.0+simulated"}
    assert [card["id"] for card in json.loads(server.get("/v1/models")[1])["data"]] == ["m"]
    assert server.get("/nothing")[0] == 404
    log = server.log()
    for line in (
        "SIMULATED: no model runs here",
        "non-default args:",
        "Initializing a V1 LLM engine (v0.0.0+simulated) with config: model='m'",
        "GPU KV cache size: ",
        "Starting vLLM server on http://127.0.0.1:",
        "INFO:     Application startup complete.",
    ):
        assert line in log
    assert re.search(r"^\(EngineCore pid=\d+\) INFO \d\d-\d\d \d\d:\d\d:\d\d \[\w+\.py:\d+\] ", log, re.MULTILINE)


def test_completions_without_a_stream_and_bad_requests(server: Server) -> None:
    status, answer = server.post({"model": "m", "prompt": "one two three", "max_tokens": 5})
    assert (status, answer["usage"]["completion_tokens"], answer["usage"]["prompt_tokens"]) == (200, 5, 3)
    assert "simulated" in answer["choices"][0]["text"]
    assert server.post({"model": "other", "prompt": "a"})[0] == 404
    bodies: list[object] = [[], {"model": "m"}, {"model": "m", "prompt": "a", "max_tokens": 0}]
    for bad in [*bodies, {"model": "m", "prompt": []}]:
        assert server.post(bad)[0] == 400


def test_throughput_line_is_logged_under_load(server: Server, tmp_path: Path) -> None:
    options = ("--num-prompts", "300", "--random-input-len", "600", "--random-output-len", "200", "--seed", "9")
    client(server, tmp_path, *options)
    line = (
        r"Avg prompt throughput: [\d.]+ tokens/s, Avg generation throughput: [\d.]+ tokens/s, "
        r"Running: \d+ reqs, Waiting: \d+ reqs, GPU KV cache usage: [\d.]+%, Prefix cache hit rate: [\d.]+%"
    )
    deadline = time.monotonic() + DEADLINE_S
    while not re.search(line, server.log()):
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.05)


def test_same_seed_twice_is_answered_by_the_prefix_cache(server: Server, tmp_path: Path) -> None:
    client(server, tmp_path, *SMALL, "--seed", "41")
    first = server.metric("vllm:prefix_cache_hits_total")
    client(server, tmp_path, *SMALL, "--seed", "42")
    assert server.metric("vllm:prefix_cache_hits_total") == first
    client(server, tmp_path, *SMALL, "--seed", "41")
    assert server.metric("vllm:prefix_cache_hits_total") == first + 20 * 48  # whole blocks of 16 but the last one


def test_failed_requests_do_not_fail_the_client(server: Server, tmp_path: Path) -> None:
    long = ("--num-prompts", "3", "--random-input-len", "140000", "--random-output-len", "4")
    text, result = client(server, tmp_path, *long)
    assert (result["completed"], result["failed"], result["output_throughput"]) == (0, 3, 0.0)
    assert "Error 0: Bad Request" in text
    assert f"{'Failed requests:':<40} {3:<10}" in block(text)


def test_client_without_a_server(tmp_path: Path) -> None:
    options = ("--model", "m", "--port", str(free_port()), *SMALL)
    saved = ("--save-result", "--result-dir", str(tmp_path), "--result-filename", "c.json")
    done = run(TREE, SERVING, *options, *saved)
    assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "c.json").read_text())["completed"] == 0
    checked = run(TREE, CLI, "bench", "serve", *options, "--ready-check-timeout-sec", "1")
    assert checked.returncode == 1
    assert "ValueError: Initial test run failed" in checked.stdout


def test_offline_modes_print_and_write_what_vllm_does(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    sizes = ("--input-len", "32", "--output-len", "16", "--num-prompts", "8", "--seed", "3")
    done = run(TREE, CLI, "bench", "throughput", "--model", "m", *sizes, "--output-json", str(out))
    assert done.returncode == 0, done.stdout
    line = r"^Throughput: [\d.]+ requests/s, [\d.]+ total tokens/s, [\d.]+ output tokens/s$"
    assert re.search(line, done.stdout, re.MULTILINE)
    assert "Total num output tokens:  128" in done.stdout
    assert "SIMULATED" in done.stdout
    throughput = json.loads(out.read_text())
    assert throughput["total_num_tokens"] == 8 * 48

    script = ("benchmarks/benchmark_latency.py", "--input_len", "32", "--batch_size=4", "--num-iters", "5")
    done = run(TREE, *script, "--model", "m", "--output-json", str(out))
    assert done.returncode == 0, done.stdout
    assert re.search(r"^Avg latency: [\d.]+ seconds$", done.stdout, re.MULTILINE)
    assert re.search(r"^99% percentile latency: [\d.]+ seconds$", done.stdout, re.MULTILINE)
    assert "SIMULATED" in done.stdout
    latency = json.loads(out.read_text())
    assert len(latency["latencies"]) == 5

    assert set(throughput) - {"simulated"} == set(real("throughput.json"))
    assert set(latency) - {"simulated"} == set(real("latency.json"))
    assert set(latency["percentiles"]) == set(real("latency.json")["percentiles"])


@pytest.mark.parametrize(
    "argv",
    [
        ("vllm.entrypoints.openai.api_server",),
        (CLI, "serve", "m"),
        (CLI, "bench", "serve", "--model", "m"),
        (CLI, "bench", "throughput"),
        (CLI, "bench", "latency"),
        (SERVING, "--model", "m"),
        ("benchmarks/benchmark_throughput.py",),
        ("benchmarks/benchmark_latency.py",),
    ],
    ids=" ".join,
)
def test_unknown_option_exits_2(argv: tuple[str, ...]) -> None:
    done = run(TREE, *argv, "--no-such-flag")
    assert done.returncode == 2
    assert "error: unrecognized arguments: --no-such-flag" in done.stdout


def test_the_serving_client_does_not_know_engine_options() -> None:
    assert run(TREE, SERVING, "--model", "m", "--dtype", "float16").returncode == 2


def test_a_longer_context_than_the_model_has_ends_the_server() -> None:
    argv = ("--model", "facebook/opt-125m", "--max-model-len", "4096", "--port", str(free_port()))
    done = run(TREE, "vllm.entrypoints.openai.api_server", *argv)
    assert done.returncode == 1
    assert "User-specified max_model_len (4096) is greater than the derived max_model_len" in done.stdout


def test_port_in_use_and_sigterm(tmp_path: Path) -> None:
    with serving(TREE, tmp_path) as first:
        second = run(TREE, "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(first.port))
        assert second.returncode == 1
        assert "Address already in use" in second.stdout
        assert first.stop() == 0
        assert "Application shutdown complete." in first.log()


def test_engine_that_dies_under_load(tmp_path: Path) -> None:
    """As with the real one: cut streams count as successes, /health answers 503, and every exit code is 0."""
    tree = copied(tmp_path)
    source = tree / "vllm" / "engine" / "llm_engine.py"
    marker = "        batch = self.scheduler.schedule()\n"
    text = source.read_text()
    assert marker in text
    source.write_text(text.replace(marker, marker + "        assert self.generation_tokens < 200, 'lost a block'\n"))
    with serving(tree, tmp_path) as server:
        printed, result = client(server, tmp_path, *SMALL)
        assert "Serving Benchmark Result" in printed
        assert result["total_output_tokens"] < 20 * 32
        server.wait_for_status(503)
        assert server.stop() == 0
        assert "AssertionError: lost a block" in server.log()
        assert "EngineDeadError" in server.log()
