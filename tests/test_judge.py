"""Success is earned; everything else has a class, a sentence and the line that proves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.campaign.models import Mode, Validity, Workload
from isobench_tui.results.classes import DEFAULT_BLAME
from isobench_tui.results.facts import ForeignProcess, GpuFacts, MachineFacts
from isobench_tui.results.judge import AttemptFacts, judge
from isobench_tui.results.metrics import metric
from isobench_tui.results.models import ClientResult, TrialFacts, Verdict
from isobench_tui.results.parse import parse_client

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "vllm" / "failures"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the saved failures of real vLLM are not here")

HEALTHY = {"event": "health", "status": 200, "alive": True}
END = {"event": "end", "exit_code": 0, "outcome": "ok", "phase": "measure"}
CLEAN_SERVER = b"INFO 11-22 09:00:00 [api.py:1] non-default args: {}\nINFO:     Application startup complete.\n"


def result(output: float = 100.0, **changed: Any) -> ClientResult:
    whole: dict[str, Any] = {
        "metrics": (metric("output_throughput", output), metric("mean_ttft_ms", 20.0)),
        "asked": 40,
        "completed": 40,
        "failed": 0,
        "output_tokens": 1280,
        "window_s": 60.0,
    }
    return ClientResult(**(whole | changed))


def trial(index: int = 0, *, counted: bool = True, exit_code: int | None = 0, **changed: Any) -> TrialFacts:
    return TrialFacts(index, counted, exit_code, result(**changed))


def facts(mode: Mode = "serving", **changed: Any) -> AttemptFacts:
    load = Workload(mode=mode, model="m", client=("vllm",), asked=40, output_tokens=1280)
    whole: dict[str, Any] = {
        "workload": load,
        "events": (HEALTHY, END),
        "trials": (trial(),),
        "logs": {"server.log": CLEAN_SERVER, "client-00.log": b"fine\n", "setup.log": b"fine\n"},
        "exit_code": 0,
        "validity": Validity(min_warmups=0),
    }
    return AttemptFacts(**(whole | changed))


def failure(verdict: Verdict) -> str:
    assert verdict.diagnosis is not None
    assert verdict.metrics == ()
    assert verdict.diagnosis.reason.endswith((".", "…")) or verdict.diagnosis.evidence is not None
    return verdict.diagnosis.failure


def flag_names(verdict: Verdict) -> dict[str, str]:
    names = [flag.name for flag in verdict.flags]
    assert len(names) == len(set(names))
    return {flag.name: flag.effect for flag in verdict.flags}


def test_success_is_valid_and_carries_the_means() -> None:
    warm = trial(0, counted=False, output=1.0)
    logs = {"server.log": CLEAN_SERVER, "client-01.log": b"fine\n", "client-02.log": b"fine\n"}
    verdict = judge(facts(trials=(warm, trial(1, output=100.0), trial(2, output=110.0)), logs=logs))
    assert (verdict.outcome, verdict.diagnosis, verdict.flags, verdict.valid) == ("success", None, (), True)
    assert {item.name: item.value for item in verdict.metrics} == {"output_throughput": 105.0, "mean_ttft_ms": 20.0}


def test_a_metric_that_one_trial_lacks_has_no_mean() -> None:
    other = TrialFacts(1, True, 0, result(metrics=(metric("output_throughput", 50.0),)))
    assert [item.name for item in judge(facts(trials=(trial(), other))).metrics] == ["output_throughput"]


@pytest.mark.parametrize("mode", ["throughput", "latency"])
def test_offline_modes_need_no_server(mode: Mode) -> None:
    load = Workload(mode=mode, model="m", client=("vllm",))
    verdict = judge(facts(mode, workload=load, events=(END,), logs={"client-00.log": b""}))
    assert verdict.outcome == "success"


DEAD = CLEAN_SERVER + (
    b"(EngineCore pid=2) ERROR 11-22 09:04:00 [core.py:1] ZeroDivisionError: in the scheduler\n"
    b"(APIServer pid=1) ERROR 11-22 09:04:01 [a.py:9] vllm.v1.engine.exceptions.EngineDeadError: EngineCore\n"
)


@pytest.mark.parametrize(
    ("changed", "wanted", "words"),
    [
        ({"logs": {"server.log": DEAD}}, "server_crash", "engine died"),
        ({"events": ({**HEALTHY, "status": 503}, END)}, "server_crash", "503"),
        ({"events": ({**HEALTHY, "status": None}, END)}, "server_crash", "nothing"),
        (
            {"events": ({"event": "health", "status": None, "alive": False, "exit_code": 137}, END)},
            "server_crash",
            "137",
        ),
        ({"events": (END,)}, "unknown", "/health"),
        ({"trials": ()}, "no_metrics", "no counted trial"),
        ({"trials": (trial(counted=False),)}, "no_metrics", "no counted trial"),
        ({"trials": (trial(exit_code=1),)}, "client_failed", "exited with 1"),
        ({"trials": (trial(counted=False, exit_code=2), trial(1))}, "client_failed", "trial 0"),
        ({"trials": (trial(failed=4, completed=36),)}, "client_failed", "4 of 40 requests failed"),
        ({"trials": (trial(completed=39, failed=None),)}, "client_failed", "39 of 40 requests completed"),
        ({"trials": (trial(output_tokens=331),)}, "client_failed", "331 of 1280 output tokens"),
        ({"trials": (trial(metrics=(), reason="output_throughput is nan"),)}, "no_metrics", "is nan"),
        ({"trials": (trial(completed=None, failed=None),)}, "no_metrics", "does not say"),
        ({"exit_code": 1, "events": (HEALTHY,)}, "unknown", "code 1"),
        ({"exit_code": None, "signal": 9, "events": (HEALTHY,)}, "unknown", "signal 9"),
        ({"exit_code": None}, "unknown", "unknown way"),
        ({"oom_killed": True}, "host_oom", "memory"),
    ],
)
def test_what_is_no_success(changed: Mapping[str, Any], wanted: str, words: str) -> None:
    verdict = judge(facts(**changed))
    assert verdict.outcome == "failed"
    assert failure(verdict) == wanted
    assert verdict.diagnosis is not None
    assert words in verdict.diagnosis.reason


def test_the_crash_beats_the_clients_complaint() -> None:
    logs = {"server.log": DEAD, "client-00.log": b"ConnectionRefusedError: no\n"}
    said = {"event": "fail", "phase": "measure", "failure": "client_failed", "reason": "exit code 1"}
    verdict = judge(facts(exit_code=1, events=(said, {**END, "exit_code": 1, "outcome": "failed"}), logs=logs))
    assert failure(verdict) == "server_crash"
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.evidence is not None
    assert (verdict.diagnosis.evidence.file, verdict.diagnosis.evidence.line) == ("server.log", 3)


@pytest.mark.parametrize(
    ("changed", "outcome", "wanted"),
    [
        ({"cancelled": True, "engine_failure": ("disk_full", "no space")}, "cancelled", "cancelled"),
        ({"interrupted": True}, "interrupted", "interrupted"),
        ({"exit_code": 143}, "interrupted", "interrupted"),
        ({"timed_out": "server"}, "timed_out", "server_timeout"),
        ({"timed_out": "image"}, "timed_out", "timeout"),
        ({"exit_code": 124, "events": ({**END, "outcome": "timed_out", "phase": "setup"},)}, "timed_out", "timeout"),
        ({"engine_failure": ("image_missing", "manifest unknown")}, "failed", "image_missing"),
        ({"engine_failure": ("never heard of", "x")}, "failed", "unknown"),
    ],
)
def test_endings_from_outside(changed: Mapping[str, Any], outcome: str, wanted: str) -> None:
    verdict = judge(facts(**changed))
    assert (verdict.outcome, failure(verdict)) == (outcome, wanted)


def test_a_failure_beside_a_full_disk_is_nobodys() -> None:
    said = {"event": "fail", "phase": "measure", "failure": "client_failed", "reason": "the client ended with 1"}
    end = {**END, "exit_code": 75, "outcome": "failed"}
    verdict = judge(facts(exit_code=75, interrupted=True, unseen_full=True, events=(said, end)))
    assert (verdict.outcome, failure(verdict)) == ("interrupted", "interrupted")
    assert verdict.diagnosis is not None
    assert "disk was full" in verdict.diagnosis.reason


def test_on_a_disk_that_was_full_the_driver_must_have_said_that_all_went_well() -> None:
    end = {**END, "exit_code": 75}
    assert judge(facts(exit_code=75, events=(HEALTHY, end))).outcome == "success"
    assert judge(facts(exit_code=75, events=(HEALTHY,))).outcome == "failed", "its last word had no room"
    assert judge(facts(exit_code=75, events=(HEALTHY, {**end, "outcome": "failed"}))).outcome == "failed"


def test_a_timeout_names_its_phase_and_shows_the_last_word() -> None:
    verdict = judge(facts(timed_out="server", logs={"server.log": b"Loading weights\nstill loading\n"}))
    assert verdict.diagnosis is not None
    assert "`server`" in verdict.diagnosis.reason
    assert verdict.diagnosis.evidence is not None
    assert verdict.diagnosis.evidence.text == "still loading"


FAILED = {"event": "end", "exit_code": 1, "outcome": "failed", "phase": "setup"}


@pytest.mark.parametrize(
    ("said", "logs", "wanted", "evidence"),
    [
        (
            {"failure": "patch_not_applied", "phase": "setup", "reason": "hunk 1", "file": "setup.log", "line": 2},
            {"setup.log": b"git apply\nerror: patch failed: vllm/x.py:12\nmore\n"},
            "patch_not_applied",
            ("setup.log", 2, "error: patch failed: vllm/x.py:12"),
        ),
        (
            {"failure": "env_broken", "phase": "setup", "reason": "no python imports vllm"},
            {"setup.log": b"Traceback (most recent call last):\nModuleNotFoundError: No module named 'vllm'\n"},
            "env_broken",
            ("setup.log", 2, "ModuleNotFoundError: No module named 'vllm'"),
        ),
        (
            {"failure": "bench_script_missing", "phase": "measure", "reason": "no benchmark_serving.py in /a, /b"},
            {"server.log": DEAD},
            "bench_script_missing",
            ("events.jsonl", 3, "no benchmark_serving.py in /a, /b"),
        ),
        (
            {"failure": "server_crash", "phase": "server", "reason": "ended with 1"},
            {"server.log": b"OSError: [Errno 98] Address already in use\n"},
            "port_in_use",
            ("server.log", 1, "OSError: [Errno 98] Address already in use"),
        ),
        (
            {"failure": ["no", "string"], "phase": 7, "line": True, "file": {}},
            {},
            "unknown",
            ("events.jsonl", 3, ""),
        ),
    ],
)
def test_what_the_driver_says_failed(
    said: Mapping[str, Any], logs: Mapping[str, bytes], wanted: str, evidence: tuple[str, int, str]
) -> None:
    events = ({"event": "fail", **said}, FAILED)
    verdict = judge(facts(exit_code=1, events=events, event_lines=(3, 4), logs=logs, trials=()))
    assert verdict.outcome == "failed"
    assert failure(verdict) == wanted
    assert verdict.diagnosis is not None
    proof = verdict.diagnosis.evidence
    assert proof is not None
    assert (proof.file, proof.line, proof.text) == evidence


def test_the_agent_is_never_blamed_here() -> None:
    assert "agent" not in DEFAULT_BLAME.values()
    verdict = judge(facts(oom_killed=True, patched=True))
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.blame == "undetermined"
    unpatched = judge(facts(oom_killed=True)).diagnosis
    assert unpatched is not None
    assert unpatched.blame == "capacity"


APPLIED = {"event": "patch", "applied": True, "method": "git", "files": []}


@pytest.mark.parametrize(
    ("patch", "flag", "effect"),
    [
        ({"applied": False, "failure": "patch_empty"}, "patch_empty", "invalidates"),
        ({"applied": False, "failure": "patch_not_applied", "reason": "hunk 1"}, "patch_not_applied", "invalidates"),
        ({"applied": "yes"}, "patch_not_applied", "invalidates"),
        ({"trimmed": ["tests/a.py", "docs/b.md"]}, "patch_trimmed", "notes"),
        ({"compiled": ["csrc/a.cu"]}, "patch_not_compiled", "invalidates"),
        ({"not_imported": ["vllm/a.py"]}, "patched_tree_not_imported", "invalidates"),
    ],
)
def test_flags_of_a_patch(patch: Mapping[str, Any], flag: str, effect: str) -> None:
    verdict = judge(facts(patched=True, events=({**APPLIED, **patch}, HEALTHY, END)))
    assert verdict.outcome == "success"
    assert flag_names(verdict) == {flag: effect}
    assert verdict.valid == (effect == "notes")


def test_a_patch_that_applied_raises_nothing_and_a_silent_driver_does() -> None:
    assert judge(facts(patched=True, events=(APPLIED, HEALTHY, END))).valid
    assert flag_names(judge(facts(patched=True))) == {"patch_not_applied": "invalidates"}


def test_flags_of_the_measurement() -> None:
    override = {"event": "override", "model": "a/b", "use": "c/d", "applied": True, "reason": "rope"}
    short = trial(window_s=3.18, disagreements=("x: printed 1, written 2",))
    verdict = judge(facts(trials=(short,), events=(override, HEALTHY, END)))
    assert flag_names(verdict) == {"short_window": "notes", "metrics_disagree": "notes", "model_overridden": "notes"}
    assert verdict.valid
    texts = " ".join(flag.text for flag in verdict.flags)
    for number in ("3.18", "30 s", "printed 1, written 2", "c/d ran instead of a/b: rope"):
        assert number in texts
    lost = judge(facts(trials=(trial(failed=4, completed=36),)))
    assert flag_names(lost) == {"failed_requests": "invalidates"}
    refused = judge(facts(events=({**override, "applied": False}, HEALTHY, END)))
    assert refused.flags == ()


def busy(memory: int, name: str = "python3") -> MachineFacts:
    return MachineFacts((GpuFacts("0", 60.0, (ForeignProcess(77, name, memory),)),))


def slowed(watched: float = 60.0, **seconds: float) -> MachineFacts:
    return MachineFacts((GpuFacts("0", watched), GpuFacts("1", watched, (), seconds, 1320.0, 1980.0)))


@pytest.mark.parametrize(
    ("machine", "flag", "effect", "words"),
    [
        (busy(7 * 2**30), "gpu_busy", "invalidates", "python3 (77) held 7,168 MiB of GPU 0"),
        (busy(2**30, "\x1b[31mevil\n"), "gpu_busy", "invalidates", "evil (77) held"),
        (
            slowed(hw_thermal_slowdown=12.0, sw_power_cap=60.0),
            "throttled",
            "invalidates",
            "hw_thermal_slowdown 12 of 60 s, at 1,320 of 1,980 MHz",
        ),
        (slowed(hw_power_brake_slowdown=3.1), "throttled", "invalidates", "hw_power_brake_slowdown 3.1 of 60 s"),
        (slowed(sw_power_cap=31.0), "throttled", "notes", "sw_power_cap 31 of 60 s"),
    ],
)
def test_flags_of_the_machine(machine: MachineFacts, flag: str, effect: str, words: str) -> None:
    verdict = judge(facts(machine=machine))
    assert flag_names(verdict) == {flag: effect}
    assert words in verdict.flags[0].text
    assert verdict.valid == (effect == "notes")


@pytest.mark.parametrize(
    "machine",
    [
        MachineFacts(),
        busy(256 * 2**20),
        slowed(hw_slowdown=3.0),
        slowed(sw_power_cap=30.0),
        slowed(gpu_idle=60.0),
        slowed(0.0, hw_slowdown=0.0),
    ],
)
def test_a_machine_at_rest_raises_nothing(machine: MachineFacts) -> None:
    assert judge(facts(machine=machine)).flags == ()


CLIENT = {"event": "client", "files": ["vllm/benchmarks/serve.py", "vllm/benchmarks/datasets.py"], "sha256": "a"}
RUNNING = {"event": "server", "pid": 3}


def cached(*shares: int, queries: int = 1000) -> tuple[dict[str, Any], ...]:
    return tuple({"event": "cache", "index": at, "queries": queries, "hits": hits} for at, hits in enumerate(shares))


def load(*argv: str, mode: Mode = "serving", **more: Any) -> Workload:
    return Workload(mode=mode, model="m", client=("vllm", *argv), asked=40, output_tokens=1280, **more)


LATENCY = {"mode": "latency", "trials": (trial(asked=None, completed=None, failed=None),), "events": (END,)}
WARM = Validity(min_warmups=1)


@pytest.mark.parametrize(
    ("changed", "flag", "effect", "words"),
    [
        ({"trials": (trial(asked=4, completed=4),), "workload": Workload(mode="serving", model="m", client=("v",))},
         "too_few_requests", "invalidates", "4 requests completed, fewer than 10"),
        ({"trials": (trial(asked=1, completed=1),), "workload": Workload(mode="serving", model="m", client=("v",))},
         "too_few_requests", "invalidates", "1 request completed"),
        ({"validity": WARM}, "no_warmup", "notes", "0 warm-ups"),
        ({"validity": Validity(min_warmups=3), "workload": load("--num-warmups", "2")}, "no_warmup", "notes", "2 "),
        ({**LATENCY, "validity": WARM, "workload": load("--num-iters-warmup=0", mode="latency")},
         "no_warmup", "notes", "0 warm-ups"),
        ({"patched": True, "patch_files": ("vllm/benchmarks/serve.py", "vllm/x.py"),
          "events": (CLIENT, APPLIED, HEALTHY, END)},
         "client_modified", "invalidates", "1 of 2 files that measure it: vllm/benchmarks/serve.py"),
        ({"events": (RUNNING, *cached(10, 900), HEALTHY, END)},
         "prefix_cache_reuse", "invalidates", "900 of 1,000 prompt tokens of trial 1 were cached, 1% of its"),
        ({"logs": {"server.log": CLEAN_SERVER}}, "evidence_missing", "invalidates", "0 bytes of client-00.log"),
        ({"logs": {"client-00.log": b"x"}}, "evidence_missing", "invalidates", "0 bytes of server.log"),
        ({"logs": {"client-00.log": b"x"}, "unread": {"server.log": "server.log is not a plain file"}},
         "evidence_missing", "invalidates", "server.log is not a plain file"),
        ({"holes": {"server.log": 1_048_576}}, "evidence_missing", "notes", "1,048,576 bytes of server.log"),
        ({"workload": load(writes_result=True), "trials": (trial(problems=("the result file is no JSON: x",)),)},
         "evidence_missing", "notes", "the result file is no JSON: x (trial 0)"),
    ],
)  # fmt: skip
def test_flags_of_the_attempts_own_files(changed: dict[str, Any], flag: str, effect: str, words: str) -> None:
    verdict = judge(facts(**changed))
    assert verdict.outcome == "success", verdict.diagnosis
    assert flag_names(verdict) == {flag: effect}
    assert words in verdict.flags[0].text
    assert verdict.valid == (effect == "notes")


@pytest.mark.parametrize(
    "changed",
    [
        {"trials": (trial(0, counted=False), trial(1)), "validity": WARM,
         "logs": {"server.log": b"x", "client-00.log": b"x", "client-01.log": b"x"}},
        {"workload": load("--num-warmups", "5"), "validity": WARM},
        {**LATENCY, "validity": WARM, "workload": load("--num-iters-warmup", "x", mode="latency")},
        {**LATENCY, "mode": "prefix_caching", "validity": WARM},
        {"patched": True, "patch_files": ("vllm/benchmarks/serve.py",),
         "events": (CLIENT, {**APPLIED, "trimmed": ["vllm/benchmarks/serve.py"]}, HEALTHY, END)},
        {"events": (RUNNING, *cached(900, 940), HEALTHY, END)},
        {"events": (RUNNING, *cached(10), RUNNING, *cached(900), HEALTHY, END)},
        {"events": (*cached(0, 5, queries=0), *cached(3, -1), {"event": "cache", "queries": "9"}, HEALTHY, END)},
    ],
)  # fmt: skip
def test_what_raises_none_of_them(changed: dict[str, Any]) -> None:
    verdict = judge(facts(**changed))
    assert verdict.outcome == "success", verdict.diagnosis
    assert {*flag_names(verdict)} <= {"patch_trimmed"}


def test_a_patched_job_that_never_came_to_its_patch_raises_nothing() -> None:
    verdict = judge(facts(patched=True, trials=(), events=(), engine_failure=("image_missing", "gone")))
    assert verdict.flags == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
event = st.builds(
    lambda name, fields: {"event": name, **fields},
    st.sampled_from(
        ["start", "phase", "override", "patch", "server", "ready", "trial", "health", "fail", "end", 3, None]
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "phase",
                "failure",
                "reason",
                "file",
                "line",
                "outcome",
                "applied",
                "trimmed",
                "compiled",
                "status",
                "alive",
            ]
        ),
        json_values | st.sampled_from(["client_failed", "server_crash", "timeout", "server.log", "ok"]),
        max_size=6,
    ),
)


@given(
    st.lists(event, max_size=6),
    st.binary(max_size=80),
    st.sampled_from([0, 1, 124, 143, None]),
    st.booleans(),
    st.sampled_from(["serving", "throughput", "latency"]),
)
def test_no_claim_crashes_the_judge(
    events: list[dict[str, Any]], log: bytes, code: int | None, patched: bool, mode: Mode
) -> None:
    logs = {"server.log": log, "client-00.log": log, "setup.log": log}
    verdict = judge(facts(mode, events=tuple(events), logs=logs, exit_code=code, patched=patched))
    assert (verdict.outcome == "success") == (verdict.diagnosis is None)
    for found in verdict.flags:
        found.text.encode()
    if verdict.diagnosis is not None:
        assert verdict.diagnosis.failure in DEFAULT_BLAME
        verdict.diagnosis.reason.encode()


def _startup(name: str) -> AttemptFacts:
    """A real server's failure to start, as the driver reports it."""
    log = (SHARED / f"{name}.log").read_bytes()
    said = {"event": "fail", "phase": "server", "failure": "server_crash", "reason": "the server ended with code 1"}
    return facts(exit_code=1, events=(said, FAILED), trials=(), logs={"server.log": log})


@needs_shared
@pytest.mark.parametrize(
    ("name", "wanted", "words"),
    [
        ("rope_unknown", "model_unsupported", "Unknown RoPE scaling type llama9"),
        ("arch_unknown", "model_unsupported", "Model architectures"),
        ("corrupt_weights", "model_not_found", "SafetensorError"),
        ("kv_cache_too_small", "harness_misconfig", "KV cache is needed"),
        ("patch_nameerror_model", "env_broken", "undefined_helper"),
        ("patch_import_error", "env_broken", "fast_paths"),
        ("live_port_in_use_by_vllm.server", "port_in_use", "Address already in use"),
    ],
)
def test_real_servers_that_did_not_start(name: str, wanted: str, words: str) -> None:
    verdict = judge(_startup(name))
    assert (verdict.outcome, failure(verdict)) == ("failed", wanted)
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.evidence is not None
    assert words in verdict.diagnosis.evidence.text


def _live(name: str, asked: int, health: Mapping[str, Any], tokens: int | None = None) -> Verdict:
    """A real client that exited with 0, judged with the answer that /health gave afterwards."""
    stem = SHARED / name
    log = next(path for path in (Path(f"{stem}.client.log"), Path(f"{stem}.log")) if path.exists()).read_bytes()
    raw = next(path for path in (Path(f"{stem}.client.json"), Path(f"{stem}.json")) if path.exists()).read_bytes()
    server = Path(f"{stem}.server.log")
    logs = {"client-00.log": log} | ({"server.log": server.read_bytes()} if server.exists() else {})
    load = Workload(mode="serving", model="m", client=("vllm",), asked=asked, output_tokens=tokens)
    ran = TrialFacts(0, True, 0, parse_client("serving", log, raw))
    return judge(facts(workload=load, trials=(ran,), events=({"event": "health", **health}, END), logs=logs))


@needs_shared
def test_real_clients_that_exit_with_0() -> None:
    well = {"status": 200, "alive": True}
    assert failure(_live("client_no_server", 4, well)) == "client_failed"
    assert failure(_live("live_too_long", 3, well)) == "client_failed"
    gone = {"status": None, "alive": False, "exit_code": 137}
    assert failure(_live("live_killed_during_bench", 400, gone)) == "server_crash"
    assert failure(_live("live_killed_during_bench", 400, well)) == "client_failed"
    good = _live("live_client_first", 4, well, tokens=64)
    assert good.outcome == "success"
    assert flag_names(good) == {"short_window": "notes", "too_few_requests": "invalidates"}
    assert failure(_live("live_client_first", 4, well, tokens=128)) == "client_failed"


@needs_shared
def test_a_real_engine_that_was_killed() -> None:
    log = (SHARED / "live_kill9_engine.server.log").read_bytes()
    verdict = judge(facts(logs={"server.log": log, "client-00.log": b""}))
    assert failure(verdict) == "server_crash"
    assert verdict.diagnosis is not None
    assert verdict.diagnosis.evidence is not None
    assert "EngineDeadError" in verdict.diagnosis.evidence.text
