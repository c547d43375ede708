"""The line that tells what went wrong, out of any log."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.results.errors import KEEP, find_error_lines, last_line, root_cause
from isobench_tui.results.judge import dead_engine

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "vllm" / "failures"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the saved failures of real vLLM are not here")

WORKER = "(Worker pid=20) ERROR 11-22 08:51:46 [multiproc_executor.py:953] "
ENGINE = "(EngineCore pid=10) ERROR 11-22 08:51:48 [core.py:1510] "
CHAIN = "\n".join(
    [
        "(APIServer pid=5) WARNING 11-22 08:51:30 [system_utils.py:255] errors like `OSError: [Errno 24] Too many`",
        "OSError: [Errno 24] Too many open files",
        WORKER + "WorkerProc failed to start.",
        WORKER + "Traceback (most recent call last):",
        WORKER + '  File "/x/llama.py", line 3, in f',
        WORKER + "    raise ValueError(scale)",
        WORKER + "ValueError: Unknown scale llama9",
        ENGINE + "EngineCore failed to start.",
        ENGINE + "KeyError: 'never mind'",
        "Traceback (most recent call last):",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        "  warnings.warn('resource_tracker: There appear to be %d '",
    ]
)


def test_a_workers_exception_beats_those_that_follow_from_it() -> None:
    found = root_cause("server.log", CHAIN.encode())
    assert found is not None
    assert (found.file, found.line) == ("server.log", 7)
    assert found.text.endswith("ValueError: Unknown scale llama9")


def test_the_engines_exception_beats_the_api_servers() -> None:
    log = "\n".join(line for line in CHAIN.splitlines() if "Worker" not in line)
    found = root_cause("server.log", log.encode())
    assert found is not None
    assert found.text.endswith("KeyError: 'never mind'")


def test_a_symptom_is_better_than_nothing() -> None:
    found = root_cause("server.log", CHAIN.splitlines()[-2].encode())
    assert found is not None
    assert "initialization failed" in found.text


def test_pydantic_says_what_is_wrong_on_the_next_line() -> None:
    log = b"x\npydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, no such model\n y"
    found = root_cause("server.log", log)
    assert found is not None
    assert (found.line, found.text) == (3, "Value error, no such model")


@pytest.mark.parametrize(
    "line",
    [
        "vllm: error: unrecognized arguments: --no-such-flag",
        "bash: line 1: foo: command not found",
        "python3: can't open file '/x/benchmark_serving.py': [Errno 2] No such file or directory",
        "error: patch failed: vllm/x.py:12",
        "1 out of 2 hunks FAILED -- saving rejects to file x.rej",
        "write /var/lib/x: No space left on device",
        "torch.OutOfMemoryError: CUDA out of memory.",
        "[rank0]: RuntimeError: NCCL error",
        "ERROR:    Exception in ASGI application",
        "Error 0: Bad Request",
        "Killed",
    ],
)
def test_lines_that_tell_an_error(line: str) -> None:
    found = root_cause("a.log", f"fine\n{line}\nfine\n".encode())
    assert found is not None
    assert (found.line, found.text) == (2, line)


@pytest.mark.parametrize(
    "line",
    [
        "INFO 11-22 08:43:44 [x.py:1] ValueError: told as information",
        "Failed requests:                         0",
        "    raise ValueError(",
        "Error 0: Traceback (most recent call last):",
        "no errors here",
        "x.py:1165: UserWarning: All requests failed.",
    ],
)
def test_lines_that_tell_none(line: str) -> None:
    assert find_error_lines(line.encode()) == []


def test_colours_and_progress_bars_hide_nothing() -> None:
    log = b"one\n 50%|##  |\r100%|####|\r\x1b[31mValueError: red\x1b[0m\n"
    found = root_cause("a.log", log)
    assert found is not None
    assert (found.line, found.text) == (2, "ValueError: red")


def test_millions_of_error_lines_are_not_kept() -> None:
    assert len(find_error_lines(b"ValueError: x\n" * 5000)) == KEEP


def test_last_line_of_a_log_that_tells_no_error(tmp_path: Path) -> None:
    log = b"a\n" * 100_000 + b"the end\n\n  \n"
    found = last_line("a.log", log)
    assert found is not None
    assert (found.line, found.text) == (100_001, "the end")
    assert last_line("a.log", b"\n\n") is None


def test_a_mapped_file_reads_like_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(CHAIN.encode())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        assert find_error_lines(log) == find_error_lines(CHAIN.encode())
        assert last_line("x", log) == last_line("x", CHAIN.encode())


def test_a_dead_engine_counts_only_while_the_server_was_in_use() -> None:
    dead = b"(APIServer pid=1) ERROR 11-22 09:04:01 [a.py:9] vllm.v1.engine.exceptions.EngineDeadError: EngineCore\n"
    stop = b"(APIServer pid=1) INFO 11-22 09:04:01 [launcher.py:2] [shutdown] API server: shutdown triggered\n"
    begin = b"INFO 11-22 09:00:00 [api_server.py:1] non-default args: {}\n"
    found = dead_engine("server.log", begin + dead + stop)
    assert found is not None
    assert found.line == 2
    assert dead_engine("server.log", begin + stop + dead) is None
    again = dead_engine("server.log", begin + stop + dead + begin + dead)
    assert again is not None
    assert again.line == 5


WILD = [
    "Error",
    "ValueError: ",
    "(Worker pid=1) ",
    "ERROR 11-22 08:51:46 [a.py:1] ",
    "\n",
    "\r",
    "\0",
    "\x1b[31m",
    ".",
    "1 validation error for X",
    "Traceback (most recent call last):",
    " ",
    "EngineDeadError",
    "ÿ",
    "_" * 50,
]


@given(
    st.one_of(
        st.binary(max_size=500),
        st.lists(
            st.sampled_from(WILD),
            max_size=30,
        ).map(lambda parts: "".join(parts).encode("latin-1")),
    )
)
def test_no_log_is_too_wild(log: bytes) -> None:
    for line in find_error_lines(log):
        assert 1 <= line.line <= log.count(b"\n") + 1
        assert line.text
        assert line.text.isprintable() or "\t" in line.text or any(char.isspace() for char in line.text)
    cause = root_cause("a", log)
    assert (cause is None) == (find_error_lines(log) == [])
    last_line("a", log)
    dead_engine("a", log)


TELLING = {
    "00_no_vllm_dist_metadata.log": (25, "PackageNotFoundError: No package metadata was found for vllm"),
    "arch_unknown.log": (52, "Model architectures ['FooForCausalLM'] are not supported"),
    "bench_throughput_bad_model.log": (92, "OSError: Repo id must use alphanumeric chars"),
    "cli_unknown_arg.log": (5, "unrecognized arguments: --no-such-flag"),
    "client_no_server.log": (201, "Cannot connect to host"),
    "corrupt_weights.log": (104, "SafetensorError"),
    "hub_gated.log": (87, "You are trying to access a gated repo"),
    "hub_notfound.log": (89, "is not a valid model identifier"),
    "kv_cache_too_small.log": (65, "larger than the available KV cache memory"),
    "live_kill9_engine.server.log": (110, "EngineDeadError"),
    "live_killed_during_bench.client.log": (232, "Response payload is not completed"),
    "live_port_in_use_by_vllm.server.log": (38, "[Errno 98] Address already in use"),
    "live_too_long.client.log": (17, "Bad Request"),
    "model_path_not_found.log": (52, "Repo id must be in the form"),
    "no_tokenizer.log": (83, "Couldn't instantiate the backend tokenizer"),
    "oldclient_no_server_0.4.2.log": (49, "IndexError"),
    "oldclient_no_server_0.4.3.log": (70, "Cannot connect to host"),
    "patch_import_error.log": (58, "No module named 'vllm.utils.fast_paths'"),
    "patch_nameerror_model.log": (85, "NameError: name 'undefined_helper'"),
    "rlimit_as.log": (91, "can't allocate memory"),
    "rope_unknown.log": (113, "Unknown RoPE scaling type llama9"),
}


@needs_shared
@pytest.mark.parametrize("name", TELLING)
def test_telling_line_of_real_failures(name: str) -> None:
    found = root_cause(name, (SHARED / name).read_bytes())
    assert found is not None
    line, text = TELLING[name]
    assert found.line == line
    assert text in found.text


@needs_shared
def test_real_dead_engines() -> None:
    assert dead_engine("s", (SHARED / "live_kill9_engine.server.log").read_bytes()) is not None
    for name in ("live_sigint", "live_client_first", "live_client_errors", "live_killed_during_bench"):
        assert dead_engine("s", (SHARED / f"{name}.server.log").read_bytes()) is None
