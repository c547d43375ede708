"""The rule table: every class has a case of its own, every rule and every pattern decides one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.campaign.models import Workload
from isobench_tui.results import rules as table
from isobench_tui.results.classes import DEFAULT_BLAME, blame_for
from isobench_tui.results.clues import Context
from isobench_tui.results.diagnose import diagnose, explain
from isobench_tui.results.facts import AttemptFacts
from isobench_tui.results.judge import judge
from isobench_tui.results.models import ClientResult, TrialFacts
from isobench_tui.results.rules import TABLE, Rule, remedy, rule

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the saved failures of real programs are not here")

NAMES = [
    "image_missing",
    "pull_failed",
    "disk_full",
    "engine_error",
    "gated_auth",
    "model_not_found",
    "model_unsupported",
    "env_broken",
    "bench_script_missing",
    "bench_script_deprecated",
    "bench_arg_incompatible",
    "harness_misconfig",
    "gpu_busy_leaked",
    "gpu_lost",
    "gpu_oom_capacity",
    "host_oom",
    "driver_mismatch",
    "multi_gpu_required",
    "port_in_use",
    "quoting",
    "patch_empty",
    "patch_not_applied",
    "patch_not_compiled",
    "patch_crash",
    "server_crash",
    "server_timeout",
    "client_failed",
    "no_metrics",
    "parse_error",
    "timeout",
    "cancelled",
    "interrupted",
    "unknown",
]
"""All classes, by the names that results carry."""

WORKER = "(Worker pid=20) ERROR 11-22 08:51:46 [multiproc_executor.py:953] "
BUSY = (
    "ValueError: Free memory on device (7.08/79.11 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 71.2 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
TORCH_OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB. GPU 0 has a total capacity of "
    "79.11 GiB of which 50.56 MiB is free. Process 3861 has {} GiB memory in use. Of the allocated memory {} GiB is "
    "allocated by PyTorch, and 120.00 MiB is reserved by PyTorch but unallocated."
)
TOO_LONG = "Value error, User-specified max_model_len (4096) is greater than the derived max_model_len (2048)"
PYDANTIC = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/usr/lib/python3.12/runpy.py", line 88, in run\n'
    '  File "/opt/x/vllm/engine/core.py", line 12, in step\n'
    '  File "/usr/lib/python3.12/site-packages/torch/nn.py", line 7, in call\n'
)


NOTHING = Context()


@dataclass(frozen=True)
class Case:
    """What one attempt left behind, and the class that it must get."""

    failure: str
    logs: Mapping[str, str]
    context: Context = NOTHING
    options: Mapping[str, Any] = field(default_factory=dict)

    def found(self, rules: Sequence[Rule] | None = None) -> str:
        texts = {name: text.encode() for name, text in self.logs.items()}
        return diagnose(texts, context=self.context, rules=rules, **self.options).failure


def server(failure: str, text: str, context: Context = NOTHING, **options: Any) -> Case:
    return Case(failure, {"server.log": f"loading\n{text}\nmore\n"}, context, options)


def client(failure: str, text: str, **options: Any) -> Case:
    return Case(failure, {"client-00.log": f"Namespace()\n{text}\n"}, options=options)


PATCHED = Context(patched=True, patch_files=("vllm/engine/core.py", "vllm/x.py"))
OTHERS = Context(patched=True, patch_files=("vllm/y.py",))

CASES = [
    server("disk_full", "OSError: [Errno 28] No space left on device"),
    Case("disk_full", {"setup.log": "docker: failed to register layer: write /x.so: no space left on device\n"}),
    server("disk_full", f"{WORKER}OSError: [Errno 122] Disk quota exceeded\n{WORKER}KeyError: 'so it goes'"),
    server("gpu_lost", "RuntimeError: Failed to initialize NVML: Unknown Error"),
    server("gpu_lost", f"[ 9.1] NVRM: Xid (PCI:0000:1b:00): 79, pid=9, has fallen off the bus.\n{WORKER}KeyError: 1"),
    server("gpu_lost", "RuntimeError: No CUDA GPUs are available"),
    server("driver_mismatch", "RuntimeError: Failed to initialize NVML: Driver/library version mismatch"),
    server("driver_mismatch", "RuntimeError: CUDA driver version is insufficient for CUDA runtime version"),
    Case("driver_mismatch", {"engine.log": "docker: Error response from daemon: could not select device driver\n"}),
    server("host_oom", "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    server("host_oom", "Killed"),
    server("host_oom", "[1.0] Out of memory: Killed process 12 (python3)\nValueError: pipe closed"),
    Case("host_oom", {"server.log": "still fine\n"}, options={"oom_killed": True}),
    Case("patch_empty", {"setup.log": "error: No valid patches in input (allow with --allow-empty)\n"}),
    Case("patch_not_applied", {"setup.log": "error: patch failed: vllm/x.py:12\n"}),
    Case("patch_not_applied", {"x.log": "Hunk #1 FAILED at 3.\n2 out of 2 hunks FAILED\nImportError: after it\n"}),
    Case("patch_not_applied", {"x.log": "AGENT_PATCH_APPLIED_FALLBACK\nKeyError: 'after it'\n"}),
    client("quoting", "huggingface_hub.errors.HFValidationError: Repo id must use alphanumeric chars: ''[ngram]''."),
    client("quoting", "bash: -c: line 1: unexpected EOF while looking for matching `''"),
    server("gated_auth", "OSError: You are trying to access a gated repo.\nMake sure to have access to it"),
    server("gated_auth", "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://x/y"),
    server("model_not_found", "OSError: a/b is not a local folder and is not a valid model identifier listed on x"),
    server("model_not_found", "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'a/b': '/no'"),
    server("model_not_found", "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files"),
    server("model_not_found", f"{WORKER}safetensors_rust.SafetensorError: incomplete metadata"),
    server("model_unsupported", f"{WORKER}ValueError: Unknown RoPE scaling type llama9"),
    server("model_unsupported", PYDANTIC + "  Value error, Model architectures ['Foo'] are not supported for now."),
    server("model_unsupported", "ValueError: Couldn't instantiate the backend tokenizer from one of:"),
    client("bench_script_missing", "python3: can't open file '/x/benchmark_serving.py': [Errno 2] No such file"),
    client("bench_script_deprecated", "DEPRECATED: This script has been moved to the vLLM CLI."),
    client("bench_arg_incompatible", "bench.py: error: argument --dataset-name: invalid choice: 'random'"),
    server("bench_arg_incompatible", "vllm: error: unrecognized arguments: --no-such-flag"),
    server("multi_gpu_required", "ValueError: Tensor parallel size (4) cannot be larger than the number of GPUs (1)"),
    server("multi_gpu_required", "ValueError: World size (4) is larger than the number of available GPUs (1)"),
    server("multi_gpu_required", "ValueError: The number of required GPUs exceeds the total number of GPUs"),
    server("port_in_use", "OSError: [Errno 98] Address already in use"),
    server("gpu_busy_leaked", BUSY),
    server("gpu_busy_leaked", WORKER + TORCH_OOM.format("79.05", "20.10")),
    server("harness_misconfig", BUSY.replace("7.08", "70.30")),
    server("harness_misconfig", PYDANTIC + TOO_LONG),
    server("harness_misconfig", PYDANTIC + TOO_LONG, Context(argv=("vllm", "--max-model-len=4096"))),
    server("harness_misconfig", "ValueError: The model's max seq len (131072) is larger than the maximum number of "
           "tokens that can be stored in KV cache (50352)."),
    server("harness_misconfig", "ValueError: To serve at least one request with the model's max seq len (16384), x"),
    client("harness_misconfig", "FileNotFoundError: [Errno 2] No such file or directory: '/data/sharegpt.json'"),
    server("gpu_oom_capacity", WORKER + TORCH_OOM.format("79.05", "78.02")),
    server("gpu_oom_capacity", "ValueError: No available memory for the cache blocks."),
    server("patch_crash", TRACEBACK + "TypeError: no such luck", PATCHED),
    server("patch_crash", TRACEBACK.replace("torch/nn", "vllm/core") + "  x\nSyntaxError: '(' was never closed"),
    server("patch_crash", TRACEBACK.replace("torch/nn", "vllm/y") + "ImportError: cannot import name 'X' from "
           "partially initialized module 'vllm.config' (/opt/x/vllm/config.py)"),
    server("env_broken", TRACEBACK + "ImportError: cannot import name 'LogitsWarper' from 'transformers'"),
    server("env_broken", "ModuleNotFoundError: No module named 'pandas'", OTHERS),
    server("env_broken", TRACEBACK + "NameError: name 'x' is not defined", Context(patched=False)),
    Case("image_missing", {"engine.log": "docker: Error response from daemon: manifest for a:b not found: manifest "
                                         "unknown: manifest unknown\n"}),
    Case("pull_failed", {"engine.log": "docker: Error response from daemon: toomanyrequests: you have reached it\n"}),
    Case("pull_failed", {"engine.log": "docker: read tcp: connection reset by peer.\n"}),
    Case("engine_error", {"engine.log": "docker: Error response from daemon: OCI runtime create failed: x\n"}),
    Case("server_crash", {"x.log": "SERVER_CRASHED\n"}),
    server("server_crash", TRACEBACK + "TypeError: no such luck", OTHERS),
    server("server_crash", TOO_LONG.replace("Value error,", "ValueError:"), Context(argv=("vllm", "serve"))),
    server("server_crash", "the last words", exit_code=137),
    Case("server_timeout", {"x.log": "loading\nSERVER_TIMEOUT\n"}),
    client("timeout", "still at it", exit_code=124),
    client("client_failed", "aiohttp.ClientConnectorError: Cannot connect to host 127.0.0.1:8000"),
    client("client_failed", "ValueError: Initial test run failed - Please make sure", exit_code=1),
    client("client_failed", "Segmentation fault (core dumped)"),
    client("no_metrics", "it says nothing", exit_code=0),
    Case("parse_error", {"x.log": "ValueError: could not convert string to float: '.'\n"}),
    client("interrupted", "cut off", exit_code=143),
    Case("unknown", {"x.log": "nothing at all\n"}),
]  # fmt: skip
"""Logs alone, as `isobench diagnose` sees them."""

END = {"event": "end", "exit_code": 0, "outcome": "ok", "phase": "measure"}


def attempt(**changed: Any) -> AttemptFacts:
    load = Workload(mode="throughput", model="m", client=("vllm",), writes_result=True)
    whole: dict[str, Any] = {"workload": load, "events": (END,), "exit_code": 0}
    return AttemptFacts(**(whole | changed))


def fail(failure: str) -> dict[str, Any]:
    said = {"event": "fail", "phase": "setup", "failure": failure, "reason": "so it is"}
    return {"events": (said, {**END, "exit_code": 1, "outcome": "failed"}), "exit_code": 1}


UNREAD = TrialFacts(0, True, 0, ClientResult(reason="no result", problems=("the result file is no JSON: x",)))
JUDGED = [
    ("cancelled", attempt(cancelled=True)),
    ("interrupted", attempt(interrupted=True)),
    ("timeout", attempt(timed_out="image")),
    ("server_timeout", attempt(timed_out="server")),
    ("patch_empty", attempt(**fail("patch_empty"))),
    ("patch_not_compiled", attempt(**fail("patch_not_compiled"))),
    ("engine_error", attempt(engine_failure=("engine_error", "the engine is away"))),
    ("driver_mismatch", attempt(engine_failure=("engine_error", 'could not select device driver "nvidia"'))),
    ("disk_full", attempt(**fail("env_broken"), logs={"setup.log": b"error: No space left on device\n"})),
    ("env_broken", attempt(**fail("env_broken"), logs={"setup.log": b"OSError: 401 Client Error\n"})),
    ("parse_error", attempt(trials=(UNREAD,))),
    ("no_metrics", attempt(trials=(replace(UNREAD, result=ClientResult(reason="none")),))),
    ("unknown", attempt(exit_code=7)),
]
"""What more than logs is known of: the runner's, the engine's and the driver's word."""


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.failure}:{next(iter(case.logs.values()))[-40:].strip()}"
)
def test_every_case_gets_its_class(case: Case) -> None:
    assert case.found() == case.failure


@pytest.mark.parametrize(("failure", "facts"), JUDGED, ids=[failure for failure, _ in JUDGED])
def test_what_the_runner_knows(failure: str, facts: AttemptFacts) -> None:
    found = judge(facts).diagnosis
    assert found is not None
    assert found.failure == failure


def test_the_table_has_every_class_once_and_says_what_to_do() -> None:
    assert sorted(one.failure for one in TABLE) == sorted(NAMES)
    blames = {"agent", "harness", "image", "infra", "config", "capacity", "undetermined"}
    for one in TABLE:
        assert one.blame in blames - {"agent"}, "nobody is blamed before the siblings are known"
        assert re.fullmatch(r"[A-Z`][^\n]{20,160}[^.]\.", one.remedy), one.failure
        assert str(one.retry)
    assert rule("no such class") is None
    assert remedy("no such class") == ""
    assert {case.failure for case in CASES} | {failure for failure, _ in JUDGED} == set(NAMES)


@pytest.mark.parametrize("gone", [one for one in TABLE if one.failure != "unknown"], ids=lambda one: one.failure)
def test_without_a_rule_some_case_changes_its_class(gone: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """`unknown` is left out: it is what remains where no rule holds."""
    left = [one for one in TABLE if one is not gone]
    if any(case.found(left) != case.failure for case in CASES):
        return
    monkeypatch.delitem(DEFAULT_BLAME, gone.failure)
    assert any((found := judge(facts).diagnosis) and found.failure != wanted for wanted, facts in JUDGED)


@pytest.mark.parametrize(
    ("owner", "index"), [(one, index) for one in TABLE for index in range(len(one.patterns))],
    ids=lambda value: value.failure if isinstance(value, Rule) else str(value),
)  # fmt: skip
def test_without_a_pattern_some_case_changes_its_class(owner: Rule, index: int) -> None:
    kept = tuple(pattern for at, pattern in enumerate(owner.patterns) if at != index)
    left = [replace(one, patterns=kept) if one is owner else one for one in TABLE]
    assert any(case.found(left) != case.failure for case in [*CASES, *WORDS])


WORDS = [
    Case("timeout", {"x.log": "error: Benchmark timed out after 900s\n"}),
    Case("no_metrics", {"x.log": "error: No throughput metrics in output\n"}),
]


def test_other_peoples_messages_are_explained() -> None:
    assert explain("Agent benchmark timed out after 1800s") == "timeout"
    assert explain("No metrics in agent output") == "no_metrics"
    assert explain("could not convert string to float: '.'") == "parse_error"
    assert explain("Server startup timeout after patch") == "server_timeout"
    assert explain("Server crashed after applying patch") == "server_crash"
    assert explain("[Errno 32] Broken pipe") is None


# ---------------------------------------------------------------------------------------------- root before symptom


def test_the_whole_log_is_read_and_the_cause_named_with_its_line() -> None:
    noise = "".join(f"INFO 11-22 09:00:00 [x.py:1] request {n} done\n" for n in range(60_000))
    log = noise + WORKER + TORCH_OOM.format(79, 78) + "\nRuntimeError: Engine core initialization failed.\n" + noise
    found = diagnose({"server.log": log.encode()}, exit_code=1)
    assert (found.failure, found.blame) == ("gpu_oom_capacity", "capacity")
    assert found.evidence is not None
    assert (found.evidence.file, found.evidence.line) == ("server.log", 60_001)


def test_what_follows_of_the_cause_does_not_hide_it() -> None:
    chain = (
        f"{WORKER}torch.OutOfMemoryError: CUDA out of memory.\n{WORKER}KeyError: 'request 7'\nValueError: closed\n"
    )
    assert server("gpu_oom_capacity", chain).found() == "gpu_oom_capacity"


def test_an_old_error_far_above_is_not_the_cause() -> None:
    old = "ModuleNotFoundError: No module named 'triton'\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    log = old + "INFO fine\n" * 1000 + TRACEBACK + "TypeError: no such luck"
    assert server("server_crash", log).found() == "server_crash"


def test_the_clients_complaint_gives_way_to_the_servers_cause() -> None:
    logs = {
        "client-00.log": "aiohttp.ClientConnectorError: Cannot connect to host 127.0.0.1:8000\n",
        "server.log": f"{WORKER}ValueError: Unknown RoPE scaling type llama9\n",
    }
    found = diagnose({name: text.encode() for name, text in logs.items()}, exit_code=1)
    assert found.failure == "model_unsupported"
    assert found.evidence is not None
    assert found.evidence.file == "server.log"


def test_a_traceback_leads_to_the_patch_through_other_peoples_code() -> None:
    found = diagnose({"server.log": (TRACEBACK + "TypeError: x\n").encode()}, context=PATCHED)
    assert (found.failure, found.frame, found.blame) == ("patch_crash", "vllm/engine/core.py:12", "undetermined")
    mixed = TRACEBACK.splitlines(keepends=True)
    other = '(Worker pid=3) ERROR 11-22 08:51:46 [a.py:9]   File "/opt/x/vllm/y.py", line 4, in z\n'
    log = "".join([*mixed[:3], other, *mixed[3:], "TypeError: x\n"])
    assert diagnose({"server.log": log.encode()}, context=OTHERS).frame == "", "that line is of another process"


def test_words_do_not_overrule_what_the_driver_says_of_the_patch() -> None:
    log = {"server.log": ("2 out of 2 hunks FAILED\n" + TRACEBACK + "TypeError: x\n").encode()}
    assert diagnose(log).failure == "patch_not_applied"
    assert diagnose(log, context=PATCHED).failure == "patch_crash"


def test_a_capacity_is_not_blamed_on_a_patched_tree() -> None:
    assert blame_for("gpu_oom_capacity", patched=True) == "undetermined"
    log = {"server.log": (WORKER + TORCH_OOM.format(79, 78)).encode()}
    assert diagnose(log, context=PATCHED).blame == "undetermined"


@given(
    st.binary(max_size=300), st.sampled_from(["server.log", "client-00.log", "x"]), st.integers(-1, 200) | st.none()
)
def test_no_log_is_too_wild(log: bytes, name: str, code: int | None) -> None:
    found = diagnose({name: log}, exit_code=code)
    assert found.failure in NAMES
    found.reason.encode()


@given(st.sampled_from([case for case in CASES if "server.log" in case.logs]), st.integers(0, 30), st.integers(0, 30))
def test_noise_around_it_changes_nothing(case: Case, before: int, after: int) -> None:
    noise = "(APIServer pid=1) INFO 11-22 09:04:01 [a.py:2] Avg prompt throughput: 1.0 tokens/s\r 50%|### |\n"
    noisy = replace(case, logs={"server.log": noise * before + case.logs["server.log"] + noise * after})
    assert noisy.found() == case.failure


# ------------------------------------------------------------------------------------------------------- real logs

REAL = {
    "00_no_vllm_dist_metadata": "env_broken",
    "arch_unknown": "model_unsupported",
    "bench_throughput_bad_model": "model_not_found",
    "cli_unknown_arg": "bench_arg_incompatible",
    "client_no_server": "client_failed",
    "corrupt_weights": "model_not_found",
    "hub_gated": "gated_auth",
    "hub_notfound": "model_not_found",
    "kv_cache_too_small": "harness_misconfig",
    "live_client_errors.server": "unknown",
    "live_client_first.client": "unknown",
    "live_client_first.server": "unknown",
    "live_kill9_engine.server": "server_crash",
    "live_killed_during_bench.client": "client_failed",
    "live_killed_during_bench.server": "server_crash",
    "live_port_in_use_by_vllm.server": "port_in_use",
    "live_sigint.server": "unknown",
    "live_too_long.client": "client_failed",
    "model_path_not_found": "model_not_found",
    "no_tokenizer": "model_unsupported",
    "oldclient_no_server_0.4.2": "client_failed",
    "oldclient_no_server_0.4.3": "client_failed",
    "oldclient_no_server_0.6.6.post1": "client_failed",
    "patch_import_error": "patch_crash",
    "patch_nameerror_model": "patch_crash",
    "rlimit_as": "host_oom",
    "rope_unknown": "model_unsupported",
}
"""Failures of real vLLM; those that are `unknown` are logs of programs that did as they were told."""


def real(name: str) -> tuple[bytes, int | None]:
    folder = SHARED / "vllm" / "failures"
    code = folder / f"{name}.rc"
    said = re.search(r"\d+$", code.read_text().strip()) if code.exists() else None
    return (folder / f"{name}.log").read_bytes(), int(said[0]) if said else None


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_failures_of_real_vllm(name: str) -> None:
    log, code = real(name)
    assert diagnose({f"{name}.log": log}, exit_code=code).failure == REAL[name]


@needs_shared
@pytest.mark.parametrize(
    ("name", "file", "frame"),
    [
        ("patch_import_error", "vllm/v1/engine/core.py", "vllm/v1/engine/core.py:24"),
        ("patch_nameerror_model", "vllm/model_executor/models/llama.py", "vllm/model_executor/models/llama.py:"),
    ],
)
def test_real_tracebacks_lead_to_the_patch(name: str, file: str, frame: str) -> None:
    log, code = real(name)
    known = diagnose({"server.log": log}, exit_code=code, context=Context(patched=True, patch_files=(file,)))
    assert known.failure == "patch_crash"
    assert known.frame.startswith(frame)
    other = diagnose({"server.log": log}, exit_code=code, context=Context(patched=True, patch_files=("vllm/z.py",)))
    assert (other.failure != "patch_crash", other.frame) == (True, "")


@needs_shared
@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("claude_code__d7740ea4", "image_missing"),
        ("codex__c0569dbc", "patch_not_applied"),
        ("trae_gpt5_0123__a3223766", "harness_misconfig"),
        ("trae_gpt5__d7740ea4", "disk_full"),
        ("trae_gpt5__dae68969", "disk_full"),
        ("trae_sonnet45_0123__d7740ea4__human", "bench_script_missing"),
    ],
)
def test_outputs_of_the_runner_before_us(name: str, failure: str) -> None:
    raw = json.loads((SHARED / "iso-bench" / "results" / f"{name}.json").read_text())["raw_output"]
    assert diagnose({"raw_output": raw.encode()}).failure == failure


# ---------------------------------------------------------------------------------------------------- command line


def cli(*argv: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "isobench_tui", *map(str, argv)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout if code in {0, 1} else done.stderr


def test_diagnose_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text(TRACEBACK + "TypeError: \x1b[31mno\x1b[0m luck\n")
    patch = tmp_path / "a.diff"
    patch.write_text("--- a/vllm/engine/core.py\n+++ b/vllm/engine/core.py\n@@ -1 +1 @@\n-x\n+y\n")
    alone = json.loads(cli("diagnose", tmp_path, "--exit", "1", "--json"))
    assert (alone["class"], alone["blame"], alone["retry"]["attempts"]) == ("server_crash", "undetermined", 2)
    known = json.loads(cli("diagnose", tmp_path / "server.log", "--patch", patch, "--json"))
    assert known["class"] == "patch_crash"
    assert known["evidence"] == {"file": str(tmp_path / "server.log"), "line": 5, "text": "TypeError: no luck"}
    assert known["remedy"] == remedy("patch_crash")
    assert json.loads(cli("diagnose", tmp_path, "--oom-killed", "--json"))["class"] == "host_oom"
    text = cli("diagnose", tmp_path)
    assert text.startswith("server_crash (blame: undetermined)\n")
    assert "to do: Read the server's log" in text
    assert "no-such.log" in cli("diagnose", tmp_path / "no-such.log", code=2)
    (tmp_path / "empty").mkdir()
    assert "holds no *.log" in cli("diagnose", tmp_path / "empty", code=2)


def test_parse_of_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "client.log"
    log.write_text("Throughput: 4.00 requests/s, 64.00 total tokens/s, 32.00 output tokens/s\n")
    found = json.loads(cli("parse", log, "--json"))
    assert found["mode"] == "throughput"
    assert found["metrics"] == {"requests_per_second": 4, "tokens_per_second": 64, "output_throughput": 32}
    assert found["problems"] == []
    assert "requests_per_second" in cli("parse", log, "--mode", "throughput")
    assert json.loads(cli("parse", log, "--mode", "latency", "--json", code=1))["metrics"] == {}
    log.write_text('{"elapsed_time": 2.0, "num_requests": 4, "requests_per_second": 2.0, "tokens_per_second": 9.5}')
    found = json.loads(cli("parse", log, "--json"))
    assert (found["mode"], found["window_s"], found["metrics"]["tokens_per_second"]) == ("throughput", 2.0, 9.5)
    log.write_text("")
    found = json.loads(cli("parse", log, "--json", code=1))
    assert (found["mode"], found["problems"]) == (None, ["the file holds no complete result of any mode"])


def test_the_docstring_of_the_table_is_true() -> None:
    causes = [one.symptom for one in TABLE]
    assert causes == sorted(causes), "causes stand above symptoms"
    assert table.TABLE is TABLE
