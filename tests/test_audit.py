"""`isobench audit`: every schema, every dirt, every flag; and the real archive, where it is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legacy_files import (
    COMMIT,
    CRASH,
    LATENCY,
    PARENT,
    PULL,
    RECORDED,
    REJECTED,
    failed,
    serving,
    threeway,
    write,
)

from isobench_tui.cli.main import main
from isobench_tui.results.audit import VERDICTS, Audited, audit, reread
from isobench_tui.results.legacy import Record, read

SHARED = Path(__file__).parents[2] / "shared" / "data"
RESULTS = SHARED / "iso-bench" / "results"
REPO = Path(__file__).parents[1]
AGENT_FILE = f"omniperf_results_3way_trae_gpt5/results/{COMMIT[:8]}_agent_result.json"
real = pytest.mark.skipif(not RESULTS.is_dir(), reason="the archive's files are not at hand")


def records(content: Any, name: str = AGENT_FILE) -> list[Record]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return list(read(name, data).records)


def one(content: Any, name: str = AGENT_FILE) -> Audited:
    reading = read(name, content if isinstance(content, bytes) else json.dumps(content).encode())
    found = audit(reading.records, reading.troubles)
    assert len(found) == 1
    return found[0]


def flag(found: Audited, name: str) -> str:
    return next((flag.text for flag in found.flags if flag.name == name), "")


def run(*argv: str | Path) -> int:
    return main(["audit", *(str(arg) for arg in argv)])


# ---------------------------------------------------------------------------------------------------- schemas


def test_threeway() -> None:
    found = one(threeway())
    record = found.record
    assert record is not None
    assert (record.schema, record.agent, record.arm) == ("threeway", "trae_gpt5", "agent")
    assert (record.commit, record.parent, record.mode) == (COMMIT, PARENT, "serving")
    assert found.verdict == "confirmed"
    assert found.metrics["output_throughput"] == 2560
    assert found.result.completed == 100, "vLLM's own block counts, not the harness's copy"
    assert found.result.window_s == 2.5


def test_flat_baseline() -> None:
    row = threeway(benchmark_type="serving", ttft_mean=100.5, throughput_tok_s=2560.0, throughput_req_s=None)
    del row["metrics"]
    [record] = records(row, "COMMIT.json")
    assert (record.schema, record.arm) == ("flat_baseline", "baseline")
    assert record.recorded == {"ttft_mean": 100.5, "throughput_tok_s": 2560.0}
    assert record.mode == "serving"
    row["throughput_tok_s"] = 2561.0
    assert "2561 recorded, output_throughput 2560" in flag(one(row), "recorded_metric_wrong")


def test_separate_agent() -> None:
    row = {
        "commit": COMMIT[:8],
        "commit_full": COMMIT,
        "benchmark_type": "serving",
        "benchmark_source": "separate",
        "status": "success",
        "metrics": {"mean_ttft_ms": 100.5, "output_throughput": 2560.0},
        "raw_output": serving(),
    }
    found = one(row)
    assert found.record is not None
    assert (found.record.schema, found.verdict) == ("separate", "confirmed")


def test_rerun_has_a_record_for_each_arm() -> None:
    arm = {"status": "success", "metrics": {"latency_avg_ms": 4150.0, "throughput_tok_s": 2635.1}}
    line = "INFO 01-16 18:19:20 [metrics.py:481] Avg prompt throughput: 2635.1 tokens/s, Running: 8 reqs\n"
    row = {
        "commit_short": COMMIT[:8],
        "commit_full": COMMIT,
        "parent_hash": PARENT,
        "model": "facebook/opt-125m",
        "benchmark_type": "latency",
        "baseline_command": "python benchmarks/benchmark_latency.py --model facebook/opt-125m",
        "test_command": "python benchmarks/benchmark_latency.py --model facebook/opt-125m --enforce-eager",
        "is_asymmetric": True,
        "num_trials": 1,
        **{name: {**arm, "raw_output": line + LATENCY} for name in ("baseline", "human", "agent")},
    }
    found = audit(records(row, "reruns/0123abcd_result.json"))
    assert [one.record.arm for one in found if one.record] == ["baseline", "human", "agent"]
    assert {one.verdict for one in found} == {"incomparable"}
    assert found[0].metrics == {"avg_latency": 4.15, "p50_latency": 4.17, "p99_latency": 4.45}
    wrong = flag(found[0], "recorded_metric_wrong")
    assert "throughput_tok_s: 2635.1 recorded" in wrong
    assert "engine's own log line 1" in wrong
    assert "latency_avg_ms" not in wrong, "milliseconds and seconds are one number"


def test_modal_instance_and_result() -> None:
    row = {
        "instance": {"commit_hash": COMMIT, "commit_subject": "faster", "perf_command": "vllm bench serve --model m"},
        "result": {
            "status": "baseline_failed",
            "error": "SERVER_TIMEOUT",
            "commit": COMMIT[:8],
            "full_commit": COMMIT,
            "parent_commit": PARENT,
            "model": "m",
            "gpu_config": "H100:1",
            "has_agent_patch": False,
        },
    }
    found = one(row)
    assert found.record is not None
    assert (found.record.schema, found.record.commit, found.record.mode) == ("modal", COMMIT, "serving")
    assert found.diagnosis is not None
    assert found.diagnosis.failure == "server_timeout"


def test_modal_hero_in_a_progress_file() -> None:
    hero = {
        "commit": COMMIT,
        "model": "m",
        "gpu_config": "H100:1",
        "status": "error",
        "error": "agent failed",
        "baseline_metrics": {"request_throughput": 40.0, "output_throughput": 2560.0},
        "baseline_raw": serving(),
        "human_metrics": {},
        "human_raw": CRASH,
        "agent_metrics": None,
    }
    found = audit(records({"timestamp": "t", "completed": 1, "results": [hero]}, "progress.json"))
    assert [(one.record.arm, one.verdict) for one in found if one.record] == [
        ("baseline", "confirmed"),
        ("human", "explained"),
    ]


def test_docker_and_sglang_arms() -> None:
    arm = {
        "status": "success",
        "metrics": {"generate_time_s": 3.9, "warmup_time_s": 4.0, "input_throughput": 16727.7},
    }
    raw = "------start generating------\nest. speed input: 16727.70 toks/s, output: 5186.87 toks/s]\ncost time 3.9\n"
    row = {"commit": COMMIT[:8], "timestamp": None, "results": {"baseline": {**arm, "raw_output": raw}, "human": arm}}
    first, second = audit(records(row, "docker/0123abcd/benchmark_result.json"))
    assert (first.verdict, first.mode) == ("confirmed", "prefix_caching")
    assert (second.verdict, flag(second, "evidence_missing")) == ("unproven", "0 bytes of output were kept")
    isolated = {"commit": COMMIT[:8], "variants": {"baseline": arm, "claude_code": arm}}
    agents = [(record.arm, record.agent) for record in records(isolated, "0123abcd_isolated.json")]
    assert agents == [("baseline", ""), ("agent", "claude_code")]


def test_pass_at_k_lines() -> None:
    shared = {
        "item_id": "vllm_core-0006",
        "sample_index": 0,
        "human_commit": COMMIT,
        "parent_commit": PARENT,
        "model": "m",
        "agent_name": "codex_cli",
        "model_name": "gpt-5",
    }
    rows = [
        {**shared, "status": "success", "metrics": RECORDED, "raw_output": serving()},
        {**shared, "status": "empty_patch"},
        {**shared, "status": "image_not_found", "error": "Docker image not found: x"},
        {**shared, "status": "no_parent_commit", "error": "No parent_commit in benchmark mapping"},
        {**shared, "status": "benchmark_failed", "error": "No metrics", "raw_output": REJECTED + CRASH},
        {**shared, "status": "timeout", "error": "Timed out after 900s"},
    ]
    text = "\n".join(json.dumps(row) for row in rows[:3]) + '\n{"item_id": "cut\n\n'
    text += "\n".join(json.dumps(row) for row in rows[3:])
    reading = read("agent_benchmark_results.jsonl", text.encode())
    found = audit(reading.records, reading.troubles)
    assert [one.record.part if one.record else "" for one in found] == [
        "line 1", "line 2", "line 3", "line 6", "line 7", "line 8", "",
    ]  # fmt: skip
    classes = [one.diagnosis.failure if one.diagnosis else "" for one in found]
    assert classes == [
        "", "patch_empty", "image_missing", "harness_misconfig", "patch_not_applied", "timeout", "parse_error",
    ]  # fmt: skip
    assert found[0].record is not None
    assert found[0].record.agent == "codex_cli/gpt-5"
    assert found[-1].verdict == "unreadable"
    assert found[-1].remarks[0].startswith("not JSON at line 4")


def test_native() -> None:
    row = threeway(
        runner="native",
        perf_command="python benchmarks/benchmark_latency.py --model facebook/opt-125m",
        metrics={"avg_latency_s": 4.15, "p50_latency_s": 4.17, "throughput_req_s": None},
        raw_output=LATENCY,
    )
    found = one(row)
    assert found.record is not None
    assert (found.record.schema, found.mode, found.verdict) == ("native", "latency", "confirmed")


# ------------------------------------------------------------------------------------------------------- dirt


def test_two_runs_that_wrote_one_file() -> None:
    text = json.dumps(failed("Server crashed after applying patch", REJECTED + CRASH), indent=2)
    found = one((text + 'timestamp": "2026-01-15 05:38:17"\n}').encode())
    assert found.diagnosis is not None
    assert found.diagnosis.failure == "patch_not_applied"
    assert "several runs wrote this file" in found.remarks[0]
    assert not found.agrees
    sound = one((json.dumps(threeway(), indent=2) + '"\n}').encode())
    assert (sound.verdict, sound.agrees) == ("damaged", False)


def test_two_documents_in_one_file() -> None:
    text = json.dumps(threeway()) + json.dumps(threeway(status="error"))
    found = records(text.encode())
    assert [(record.part, record.status) for record in found] == [("document 1", "success"), ("document 2", "error")]
    assert all("2 JSON documents in one file" in record.problems[0] for record in found)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (json.dumps(threeway()).encode()[:300], "cut off"),
        (b"Traceback (most recent call last):\n", "not JSON at line 1"),
        (b'{\n"status": oops}', "not JSON at line 2"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_what_cannot_be_read_is_told(data: bytes, why: str) -> None:
    found = one(data)
    assert found.verdict == "unreadable"
    assert why in found.remarks[0]
    assert found.diagnosis is not None
    assert (found.diagnosis.failure, found.diagnosis.blame) == ("parse_error", "harness")
    assert found.diagnosis.evidence is not None


def test_odd_values_are_told_and_left_out() -> None:
    row = threeway(
        metrics={**RECORDED, "itl_mean_ms": float("nan"), "tpot_mean_ms": 10**400, "note": "fast", "ok": True},
        raw_output=["no", "text"],
        model="unknown",
        human_commit_full="not a commit",
    )
    found = one(row)
    assert found.record is not None
    assert found.record.recorded == RECORDED
    assert (found.record.model, found.record.commit) == ("", COMMIT[:8])
    assert found.verdict == "unproven"
    assert [text.split(" ")[0] for text in found.remarks] == ["itl_mean_ms", "tpot_mean_ms", "raw_output"]


def test_bytes_that_are_no_text() -> None:
    data = json.dumps(threeway(model="x\ud800y")).encode() + b"\xff"
    found = one(data)
    assert found.record is not None
    assert found.record.model == "xy"
    assert found.remarks[0].startswith("not UTF-8 at byte")


def test_a_file_named_after_another_commit() -> None:
    [record] = records(threeway(), "results/ffffffff_agent_result.json")
    assert record.commit == COMMIT
    assert "ffffffff" in record.problems[0]


def test_sound_json_that_is_no_result() -> None:
    for value in ({"a3223766": {"commit_full": COMMIT}}, [], [1], "text", 3, None, {"status": "success"}):
        reading = read("mapping.json", json.dumps(value).encode())
        assert (reading.records, reading.troubles, reading.known) == ((), (), False)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([
    *threeway(), "results", "variants", "instance", "result", "baseline", "agent", "commit", "commit_short", "runner",
    "benchmark_type", "item_id", "sample_index", "agent_metrics", "agent_raw", "ttft_mean", "gpu_config", "role",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from([AGENT_FILE, "x.jsonl", "a__0123abcd.json"]))
def test_no_values_can_break_it(changes: dict[str, Any], name: str) -> None:
    for row in (changes, threeway(**changes)):
        reading = read(name, json.dumps(row).encode())
        for found in audit(reading.records, reading.troubles):
            assert found.verdict in VERDICTS
            assert all(value >= 0 for value in found.metrics.values())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_can_break_it(data: bytes) -> None:
    reading = read(AGENT_FILE, data)
    assert all(found.verdict in VERDICTS for found in audit(reading.records, reading.troubles))


# ---------------------------------------------------------------------------------------------- the judgements


def test_a_success_that_kept_only_the_progress_of_its_pull() -> None:
    found = one(threeway(raw_output=PULL))
    assert (found.verdict, found.metrics) == ("unproven", {})
    assert flag(found, "evidence_missing") == "all 6 kept lines are the progress of the image's pull"


def test_a_number_that_the_output_contradicts() -> None:
    found = one(threeway(metrics={**RECORDED, "output_token_throughput_tok_s": 9999.0}))
    assert found.verdict == "corrected"
    assert "9999 recorded, output_throughput 2560 tok/s in the output" in flag(found, "recorded_metric_wrong")


def test_a_forced_patch_is_the_class_even_if_a_crash_follows() -> None:
    found = one(failed("Server crashed after applying patch", REJECTED + CRASH))
    assert found.diagnosis is not None
    assert (found.diagnosis.failure, found.diagnosis.evidence.line if found.diagnosis.evidence else 0) == (
        "patch_not_applied",
        3,
    )
    assert found.verdict == "explained"
    claimed = one(threeway(raw_output=REJECTED + serving()))
    assert claimed.verdict == "invalid"
    assert flag(claimed, "patch_not_applied") == "1 out of 1 hunk FAILED"
    human = one(threeway(raw_output=REJECTED + serving()), f"{COMMIT[:8]}_human_result.json")
    assert human.verdict == "confirmed", "only the agents' arms are patched"


def test_overridden_models() -> None:
    named = "meta-llama/Llama-3.1-8B-Instruct"
    found = one(threeway(model=named))
    assert found.verdict == "corrected"
    assert flag(found, "model_overridden").startswith("meta-llama/Meta-Llama-3-8B-Instruct ran by the runner's table")
    own_words = one(threeway(model=named, raw_output=f"Namespace(model='{named}', num_prompts=100)\n" + serving()))
    assert (own_words.verdict, flag(own_words, "model_overridden")) == ("confirmed", "")
    other = one(threeway(raw_output="Namespace(model='Qwen/Qwen3-8B')\n" + serving()))
    assert flag(other, "model_overridden") == "Qwen/Qwen3-8B ran by its own words, facebook/opt-125m is recorded"
    never = one(failed("No metrics in agent output", "docker: x: manifest unknown: manifest unknown\n", model=named))
    assert flag(never, "model_overridden") == ""


def test_arms_that_measured_different_workloads() -> None:
    rows = {"agent": serving(), "human": serving(tokens=23100), "baseline": serving(1, 231)}
    found = audit([
        record
        for arm, raw in rows.items()
        for record in records(threeway(raw_output=raw), f"codex__{COMMIT[:8]}__{arm}.json")
    ])  # fmt: skip
    assert [one.verdict for one in found] == ["incomparable", "incomparable", "invalid"]
    assert "tokens a prompt: 256 here, 231 in the human arm" in flag(found[0], "workload_mismatch")
    assert "requests: 100 here, 1 in the baseline arm" in flag(found[0], "workload_mismatch")
    assert flag(found[2], "too_few_requests") == "1 request, fewer than 10"
    assert flag(found[0], "short_window") == "measured for 2.5 s, less than 30 s"
    same = audit([
        record
        for arm in rows
        for record in records(threeway(), f"codex__{COMMIT[:8]}__{arm}.json")
    ])  # fmt: skip
    assert {one.verdict for one in same} == {"confirmed"}


def test_failed_requests_of_a_recorded_success() -> None:
    raw = serving(both=False).replace(
        "Benchmark duration", "Failed requests:                         4\nBenchmark duration", 1
    )
    found = one(threeway(raw_output=raw))
    assert (found.verdict, flag(found, "failed_requests")) == ("invalid", "requests failed: 4 of 104")


@pytest.mark.parametrize(
    ("error", "raw", "failure", "verdict"),
    [
        ("Agent benchmark timed out after 1800s", "", "timeout", "failed"),
        ("Timeout after 900s", "", "timeout", "failed"),
        ("Missing parent_commit - cannot determine baseline image", "", "harness_misconfig", "explained"),
        ("could not convert string to float: '.'", "", "parse_error", "failed"),
        ("[Errno 32] Broken pipe", "", "unknown", "unproven"),
        ("No metrics in agent output", "docker: write /x: no space left on device\n", "disk_full", "explained"),
        ("No latency metrics in output", LATENCY, "parse_error", "explained"),
        ("Server crashed during startup", "SERVER_CRASHED\n", "server_crash", "failed"),
    ],
)
def test_failures(error: str, raw: str, failure: str, verdict: str) -> None:
    found = one(failed(error, raw))
    assert found.diagnosis is not None
    assert (found.diagnosis.failure, found.verdict) == (failure, verdict)
    assert found.remedy
    assert found.agrees == (verdict == "failed")


def test_a_success_without_a_number_is_none() -> None:
    found = one(threeway(metrics={}, raw_output="BENCHMARK_DONE\n"))
    assert found.diagnosis is not None
    assert (found.diagnosis.failure, found.verdict) == ("no_metrics", "invalid")


def test_of_two_blocks_with_different_numbers_the_last_counts() -> None:
    raw = serving() + serving().replace("2560.00", "2000.00", 1)
    assert {m.name: m.value for m in reread("serving", raw.encode()).metrics}["output_throughput"] == 2560
    first = serving(both=False).replace("2560.00", "2000.00") + serving(both=False)
    assert {m.name: m.value for m in reread("serving", first.encode()).metrics}["output_throughput"] == 2560


# ------------------------------------------------------------------------------------------------ the command


EMPTY = "diff --git a/model_patch.diff b/model_patch.diff\nnew file mode 100644\nindex 0000000..e69de29\n"
SOUND = "diff --git a/vllm/envs.py b/vllm/envs.py\n--- a/vllm/envs.py\n+++ b/vllm/envs.py\n@@ -1 +1 @@\n-a\n+b\n"


def json_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_json_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, AGENT_FILE, threeway())
    assert run(tmp_path, "--json") == 0
    [row] = json_of(capsys)
    assert {"file", "status", "error", "class", "blame", "evidence", "remedy", "flags"} <= set(row)
    assert {"metrics", "recorded_metrics", "verdict"} <= set(row)
    assert (row["file"], row["status"], row["class"], row["verdict"]) == (str(path), "success", None, "confirmed")
    assert row["recorded_metrics"] == RECORDED
    write(tmp_path, "broken.json", "{")
    assert run(tmp_path, "--json") == 1
    assert [row["verdict"] for row in json_of(capsys)] == ["confirmed", "unreadable"]
    assert run(tmp_path / "nowhere") == 2
    assert run(write(tmp_path / "none", "x.txt", "")) == 1, "a file that is named is looked at"
    assert run(tmp_path / "none") == 2


def test_text_names_who_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, AGENT_FILE, failed("Server crashed after applying patch", REJECTED + CRASH))
    write(tmp_path, "mapping.json", {"0123abcd": {"model": "m"}})
    assert run(tmp_path) == 1
    out, err = capsys.readouterr()
    assert "trae_gpt5: 0 of 1 agent runs recorded as a success" in out
    assert "patch_not_applied (blame: undetermined)" in out
    assert "to do: " in out
    assert "0 of 1 records agree" in out
    assert "1 JSON files are no results: mapping.json" in err


def test_hostile_words_stay_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b]0;owned\x07 | <b>**y**\u202e"
    write(tmp_path, AGENT_FILE, failed(evil, f"docker: {evil}: no space left on device\n", model=evil))
    for form in ("text", "md", "json"):
        assert run(tmp_path, "--format", form) == 1
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert form != "md" or ("<b>" not in out and "**y**" not in out)


def item(folder: Path, patch: str, **meta: str) -> None:
    write(folder, "journal.json", {"commits": {"human": COMMIT[:8], "pre": PARENT}, "run_metadata": meta})
    write(folder, "model_patch.diff", patch)


@pytest.mark.parametrize("where", ["checkout", "state", "run", "flat", "loose"])
def test_agent_runs(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty patch makes a recorded success none, wherever the patch is found; another agent's does not count."""
    name = f"omniperf_results_3way_trae_gpt5_0123/results/{COMMIT[:8]}_agent_result.json"
    write(tmp_path / "results", name, threeway())
    runs = tmp_path / "root" / "state" / "runs" / "vllm" / "trae"
    if where == "flat":
        item(tmp_path / "flat" / "vllm_core-0001", EMPTY, agent="trae", model="gpt-5")
        given = tmp_path / "flat"
    elif where == "loose":
        write(tmp_path / "loose", f"model_patch.{COMMIT[:8]}.trae_gpt5.diff", EMPTY)
        write(tmp_path / "loose", f"model_patch.{COMMIT[:8]}.codex.diff", SOUND)
        given = tmp_path / "loose"
    else:
        item(runs / "gpt-5" / "2026-01-23_21-19-19" / "vllm_core-0001", EMPTY)
        item(runs / "gpt-5" / "2026-01-24_00-00-00" / "vllm_core-0001", SOUND)
        item(runs / "claude-sonnet-45" / "2026-01-23_21-19-19" / "vllm_core-0001", SOUND)
        given = {
            "checkout": tmp_path / "root",
            "state": tmp_path / "root" / "state" / "runs",
            "run": runs / "gpt-5" / "2026-01-23_21-19-19",
        }[where]
    assert run(tmp_path / "results", "--agent-runs", given, "--json") == 1
    [row] = json_of(capsys)
    assert (row["class"], row["verdict"]) == ("patch_empty", "invalid")
    assert "patch_empty" in {flag["name"] for flag in row["flags"]}
    assert run(tmp_path / "results", "--json") == 0
    assert run(tmp_path / "results", "--agent-runs", tmp_path / "nowhere") == 2


def test_a_patch_beside_the_results_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "results", f"codex__{COMMIT[:8]}.json", threeway())
    diff = "diff --git a/csrc/x.cu b/csrc/x.cu\n--- a/csrc/x.cu\n+++ b/csrc/x.cu\n@@ -1 +1 @@\n-a\n+b\n"
    write(tmp_path, f"{COMMIT[:8]}.diff", diff)
    assert run(tmp_path / "results", "--json") == 1
    [row] = json_of(capsys)
    assert {"patch_not_compiled"} == {flag["name"] for flag in row["flags"]} & {"patch_not_compiled", "patch_empty"}
    assert row["verdict"] == "invalid"
    assert row["patch"]["file"] == f"{COMMIT[:8]}.diff"


# ------------------------------------------------------------------------------------------- the real archive

REPORTED = {
    "trae_gpt5_0123": {
        "19d98e0c": 1403.91, "58eee5f2": 2402.97, "a3223766": None, "b690e348": 2413.73, "bc7c4d20": 1857.29,
        "d7740ea4": 8088.76,
    },
    "trae_sonnet45_0123": {
        "9ed82e70": 1089.39, "b690e348": 2414.66, "d7740ea4": 8101.94, "e206b543": 2356.02, "e3580537": 1417.45,
        "e7b20426": 1883.66, "fa63e710": None, "fc542144": 2245.74, "fc7b8d1e": 1294.01, "fe66b347": 2374.53,
    },
}  # fmt: skip
"""Tokens a second as the report of January 24 has them; fe66b347's was left out of it."""


@real
def test_the_archive(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(RESULTS, "--json") == 1
    rows = json_of(capsys)
    found = {(row["agent"], row["commit"][:8], row["arm"]): row for row in rows}
    for agent, numbers in REPORTED.items():
        mine = {key[1] for key in found if key[0] == agent and key[2] == "agent"}
        assert mine == set(numbers)
        for commit, number in numbers.items():
            row = found[agent, commit, "agent"]
            values = {round(value, 2) for value in row["recorded_metrics"].values()}
            assert number is None or number in values
            reread = {row["metrics"].get("output_throughput"), row["metrics"].get("tokens_per_second")}
            assert number is None or number in reread or row["verdict"] == "unproven"
    gpt5, sonnet = "trae_gpt5_0123", "trae_sonnet45_0123"
    crash = found[gpt5, "a3223766", "agent"]
    assert (crash["class"], crash["blame"], crash["verdict"]) == ("harness_misconfig", "harness", "explained")
    assert "max_model_len (4096) is greater than the derived" in crash["evidence"]["text"]
    empty = found[gpt5, "b690e348", "agent"]
    assert (empty["class"], empty["verdict"]) == ("patch_empty", "invalid")
    assert found[sonnet, "b690e348", "agent"]["class"] is None, "the other agent's patch is another one"
    bogus = found[sonnet, "fa63e710", "agent"]
    assert "12793.9" in flag_of(bogus, "recorded_metric_wrong")
    assert bogus["metrics"]["avg_latency"] == pytest.approx(4.1505426640345835)
    assert "tokens_per_second" not in bogus["metrics"]
    assert flag_of(found[sonnet, "fc542144", "baseline"], "too_few_requests").startswith("1 request")
    assert flag_of(found[sonnet, "fc542144", "agent"], "workload_mismatch")
    assert found[sonnet, "fe66b347", "agent"]["metrics"]["output_throughput"] == 2374.53
    overridden = {key[:2] for key, row in found.items() if key[2] == "agent" and flag_of(row, "model_overridden")}
    assert overridden == {
        *((gpt5, commit) for commit in ("58eee5f2", "b690e348", "bc7c4d20", "d7740ea4")),
        *((sonnet, c) for c in ("9ed82e70", "b690e348", "d7740ea4", "e206b543", "fc542144", "fc7b8d1e", "fe66b347")),
    }
    assert found["codex", "c0569dbc", "agent"]["class"] == "patch_not_applied"
    assert found["trae_gpt5", "dae68969", "agent"]["class"] == "disk_full"
    assert found["claude_code", "d7740ea4", "agent"]["class"] == "image_missing"
    assert flag_of(found["codex", "ed250545", "agent"], "evidence_missing")


def flag_of(row: dict[str, Any], name: str) -> str:
    return next((flag["text"] for flag in row["flags"] if flag["name"] == name), "")


@real
def test_the_corrected_report_is_what_the_command_makes(tmp_path: Path) -> None:
    """Renew it with `isobench audit …/trae_*_0123__* --md --title … -o docs/january-24-audit.md`."""
    made = tmp_path / "report.md"
    files = sorted(RESULTS.glob("trae_*_0123__*.json"))
    assert run(*files, "--md", "--title", "The 16 runs of January 24, 2026, audited", "-o", made) == 1
    assert (REPO / "docs" / "january-24-audit.md").read_text() == made.read_text()
