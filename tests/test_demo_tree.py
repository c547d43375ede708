"""The demo's simulated vLLM, run for real: server, clients, patches, campaign. No speed is asserted by the clock."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isobench_tui.campaign.spec import CampaignFile

REPO = Path(__file__).resolve().parents[1]
DEMO = REPO / "examples" / "demo"
TREE = DEMO / "tree"
PATCHES = DEMO / "patches"
REAL = REPO.parent / "shared" / "data" / "vllm" / "bench"
MAPPING = REPO.parent / "shared" / "data" / "iso-bench" / "benchmark_mode_mapping.subset.json"
DEADLINE_S = 60.0

SERVING = "benchmarks/benchmark_serving.py"
CLI = "vllm.entrypoints.cli.main"
BLOCK_ROW = re.compile(r".{40} -?[\d.]+ *")


def environment(tree: Path) -> dict[str, str]:
    """Like the driver's: the tree on PYTHONPATH, unbuffered; and no bytecode, so that the tree stays as it is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIT_"))}
    return {**kept, "PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run(tree: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A program of the tree: a script, or a module where the name does not end in .py."""
    head = [argv[0]] if argv[0].endswith(".py") else ["-m", argv[0]]
    return subprocess.run(
        [sys.executable, *head, *argv[1:]],
        cwd=tree,
        env=environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Server:
    port: int
    log_file: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, body: object) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        match = re.search(rf"^{re.escape(name)}\{{[^}}]*\}} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        assert match, name
        return float(match[1])

    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for_status(self, status: int) -> None:
        """Until /health answers `status`; a server that ends first fails the test with its log."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(OSError):
                if self.get("/health")[0] == status:
                    return
            time.sleep(0.02)
        pytest.fail(f"/health never answered {status}:\n{self.log()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)


@contextlib.contextmanager
def serving(tree: Path, folder: Path, *options: str) -> Iterator[Server]:
    """A server of the tree that is ready, with model id `m`."""
    port = free_port()
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "--host", "127.0.0.1"]
    log_file = folder / "server.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*argv, "--port", str(port), *options], cwd=tree, env=environment(tree), stdout=log, stderr=log
        )
    server = Server(port, log_file, process)
    try:
        server.wait_for_status(200)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(TREE, tmp_path_factory.mktemp("server"), "--disable-log-requests", "--dtype", "float16") as ready:
        yield ready


def patched(tmp_path: Path, name: str) -> Path:
    """A copy of the tree with a patch of the demo."""
    copy = tmp_path / name
    shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert apply(copy, name) == 0
    return copy


def apply(tree: Path, name: str, *options: str) -> int:
    argv = ["git", "apply", *options, str(PATCHES / f"{name}.diff")]
    env = {**environment(tree), "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    return subprocess.run(argv, cwd=tree, env=env, capture_output=True, timeout=DEADLINE_S, check=False).returncode


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
    tree = tmp_path / "tree"
    shutil.copytree(TREE, tree, ignore=shutil.ignore_patterns("__pycache__"))
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


@pytest.mark.parametrize("path", sorted(PATCHES.glob("*.diff")), ids=lambda path: path.stem)
def test_each_diff_applies_or_does_not(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tree"
    shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    expected = path.stem != "does-not-apply"
    assert (apply(copy, path.stem, "--check") == 0) is expected
    dry = subprocess.run(
        ["patch", "-p1", "-F0", "--dry-run", "-i", str(path)], cwd=copy, capture_output=True, timeout=60, check=False
    )
    assert (dry.returncode == 0) is expected
    if path.stem == "empty":
        assert re.findall(r"^diff --git .*$", path.read_text(), re.MULTILINE) == [
            "diff --git a/model_patch.diff b/model_patch.diff"
        ]


RATES = """
import json, logging
logging.disable(logging.CRITICAL)
from vllm.config import EngineConfig
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.engine.llm_engine import LLMEngine
from vllm.sequence import Sequence

def requests(engine, count, given, asked):
    for number in range(count):
        engine.add_request(Sequence(str(number), [number] * given, asked, 0.0, lambda tokens, finished: None))

served = AsyncLLMEngine(EngineConfig("m"))
requests(served, 100, 1024, 128)
serving = 0.0
while served.engine.has_unfinished_requests():
    outputs, seconds = served.advance()
    serving += seconds
    served.send(outputs, serving)
plain = LLMEngine(EngineConfig("m"))
requests(plain, 200, 256, 256)
offline = 0.0
while plain.has_unfinished_requests():
    offline += plain.step()[1]
print(json.dumps([100 * 128 / serving, 200 * 256 / offline]))
"""


def rates(tree: Path) -> tuple[float, float]:
    """Output tokens per simulated second, serving and offline: what the constants in the tree say, not the clock."""
    argv = [sys.executable, "-c", RATES]
    done = subprocess.run(
        argv, cwd=tree, env=environment(tree), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    serving, offline = json.loads(done.stdout)
    return serving, offline


def test_patches_are_as_fast_as_they_are_called(tmp_path: Path) -> None:
    base = rates(TREE)
    got = {name: rates(patched(tmp_path, name)) for name in names("faster-") | {"human", "slower"}}
    assert rates(TREE) == base
    for name, (serving, offline) in got.items():
        if name.startswith("faster-"):
            assert serving >= base[0]
            assert offline >= base[1]
            assert serving > 1.1 * base[0] or offline > 1.1 * base[1], name
    assert got["faster-frontend"][0] > 2 * base[0] > 4 * got["slower"][0]
    assert got["faster-frontend"][0] > 1.1 * got["faster-batch-output"][0] > 1.2 * got["faster-overlap"][0]
    assert got["human"][1] > 1.5 * base[1]
    assert got["human"][0] > 1.1 * base[0]


def names(prefix: str) -> set[str]:
    return {path.stem for path in PATCHES.glob(f"{prefix}*.diff")}


def test_breaks_server_ends_it_with_the_cause_in_the_log(tmp_path: Path) -> None:
    tree = patched(tmp_path, "breaks-server")
    done = run(tree, "vllm.entrypoints.openai.api_server", "--port", str(free_port()))
    assert done.returncode == 1
    assert "NameError: name 'BatchDetokenizer' is not defined" in done.stdout
    assert f'File "{tree}/vllm/engine/llm_engine.py"' in done.stdout
    assert done.stdout.rstrip().endswith("RuntimeError: Engine core initialization failed. See root cause above.")


def sources() -> list[Path]:
    return sorted(path for path in TREE.rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(TREE)))
def test_runs_on_python_3_8_with_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module or ""]
        for name in found:
            assert name.split(".")[0] in sys.stdlib_module_names | {"vllm"}


def test_nothing_compiled_in_the_repository() -> None:
    if not (REPO / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "examples"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    assert not [name for name in listed.splitlines() if name.endswith((".pyc", ".so"))]


GPT5 = {"19d98e0c", "58eee5f2", "a3223766", "b690e348", "bc7c4d20", "d7740ea4"}
SONNET = {
    *("9ed82e70", "b690e348", "d7740ea4", "e206b543", "e3580537"),
    *("e7b20426", "fa63e710", "fc542144", "fc7b8d1e", "fe66b347"),
}


def campaign(name: str) -> CampaignFile:
    with (DEMO / name).open("rb") as file:
        return CampaignFile.model_validate(tomllib.load(file))


def test_campaign_has_the_16_runs_and_their_baselines() -> None:
    spec = campaign("campaign.toml")
    assert spec.campaign.simulated
    assert spec.engine.kind == "process"
    runs = {(agent, task.commit[:8]) for task in spec.tasks for agent in task.patches}
    assert runs == {("trae_gpt5_0123", c) for c in GPT5} | {("trae_sonnet45_0123", c) for c in SONNET}
    assert len(spec.tasks) == len({task.commit for task in spec.tasks}) == 14
    assert sorted(task.repeats for task in spec.tasks if task.repeats) == [3, 3]
    assert sum((1 + len(task.patches)) * (task.repeats or 1) for task in spec.tasks) == 38
    overridden = {row.model: row.use for row in spec.model_overrides}
    assert overridden["meta-llama/Llama-3.1-8B-Instruct"] == "meta-llama/Meta-Llama-3-8B-Instruct"
    for task in spec.tasks:
        assert bool(task.override) is ("--model meta-llama/Llama-3.1" in task.perf_command)


@pytest.mark.parametrize("name", ["campaign.toml", "docker/campaign.toml"])
def test_campaign_names_files_that_exist(name: str) -> None:
    spec = campaign(name)
    folder = (DEMO / name).parent
    assert spec.campaign.simulated
    for task in spec.tasks:
        for path in task.patches.values():
            assert (folder / path).is_file(), path
    if spec.engine.kind == "process":
        assert spec.images.baseline is not None
        assert (folder / spec.images.baseline / "vllm" / "__init__.py").is_file()


def test_campaign_runs_the_published_commands() -> None:
    if not MAPPING.exists():
        pytest.skip("no published mapping beside this checkout")
    published = json.loads(MAPPING.read_text())
    for task in campaign("campaign.toml").tasks:
        row = published[task.commit[:8]]
        assert task.commit.startswith(row["commit_full"])
        assert task.parent == row["parent_commit"]
        if row["perf_command"] is not None:
            assert task.perf_command == row["perf_command"]
