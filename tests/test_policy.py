"""What becomes of a job and of the queue when an attempt ends: a table, and a breaker that outlives the runner."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import SERVING, A, B, Bench, bench_at, task
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.campaign.models import JobSpec, Settings
from isobench_tui.results.classes import DEFAULT_BLAME
from isobench_tui.results.models import Diagnosis, Evidence, Flag, Outcome, Verdict
from isobench_tui.runner import breaker, policy
from isobench_tui.runner.attempt import Order
from isobench_tui.runner.collect import HostFacts, decide, pause_queue
from isobench_tui.store import attempts, db, events
from isobench_tui.store.attempts import Done, Ending, Held, Requeue, Skipped

MACHINE = ["disk_full", "engine_error", "pull_failed", "gpu_lost", "gpu_busy_leaked", "driver_mismatch"]
ONCE = [
    "image_missing",
    "gated_auth",
    "model_not_found",
    "env_broken",
    "bench_script_missing",
    "bench_script_deprecated",
    "bench_arg_incompatible",
    "harness_misconfig",
    "model_unsupported",
    "multi_gpu_required",
    "gpu_oom_capacity",
    "quoting",
    "parse_error",
]
PATCH = ["patch_empty", "patch_not_applied", "patch_not_compiled", "patch_crash"]
ENDED = ["cancelled", "interrupted"]
TWICE = ["port_in_use", "host_oom", "server_crash", "server_timeout", "client_failed", "no_metrics", "timeout"]
STOPS = [None, "stop", "skip", "cancel", "pause"]


def failed(failure: str, outcome: Outcome = "failed") -> Verdict:
    return Verdict(outcome, diagnosis=Diagnosis(failure, "undetermined", "because"))


def decided(
    verdict: Verdict,
    *,
    stop: str | None = None,
    counted: int = 0,
    interruptions: int = 0,
    most: int = 3,
    repeated: bool = False,
) -> policy.Decision:
    limits = {"counted": counted, "interruptions": interruptions, "max_attempts": most}
    return policy.decide(verdict, stop=stop, repeated=repeated, **limits)


# ------------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize(
    ("classes", "tries"), [(MACHINE, None), (ONCE, 1), (PATCH, 1), (TWICE, 2), (["unknown"], 3), (["a new class"], 1)]
)
def test_how_often_a_class_is_tried(classes: list[str], tries: int | None) -> None:
    for failure in classes:
        verdict = failed(failure)
        if tries is None:
            for counted in (0, 2, 50):
                expected = policy.Decision(Requeue("front", failure), counts=False, pause=True)
                assert decided(verdict, counted=counted) == expected, "a fault of the machine burns no job"
            continue
        for counted in range(tries - 1):
            again = policy.Decision(Requeue("behind", f"retry after {failure}"), counts=True)
            assert decided(verdict, counted=counted) == again
        assert decided(verdict, counted=tries - 1) == policy.Decision(Done(), counts=True)


def test_the_table_and_the_list_of_classes_know_each_other() -> None:
    assert sorted(policy.RULES) == sorted(MACHINE + ONCE + PATCH + TWICE + ENDED + ["unknown"])
    assert set(DEFAULT_BLAME) == set(policy.RULES)


def test_max_attempts_of_the_campaign_is_the_last_word() -> None:
    assert decided(failed("unknown"), most=1).fate == Done()
    assert decided(failed("unknown"), counted=1, most=2).fate == Done()
    assert decided(failed("unknown"), counted=1, most=9).fate == Requeue("behind", "retry after unknown")
    assert decided(failed("unknown"), counted=2, most=9).fate == Done(), "the class has a limit of its own"


def test_three_interruptions_hold_the_job() -> None:
    verdict = failed("interrupted", "interrupted")
    for before in (0, 1):
        again = policy.Decision(Requeue("front", "interrupted"), counts=False)
        assert decided(verdict, interruptions=before) == again
    held = decided(verdict, interruptions=2)
    assert held == policy.Decision(Held("interrupted 3 times; `isobench release` lets it run"), counts=False)


@pytest.mark.parametrize("verdict", [failed("cancelled", "cancelled"), failed("client_failed"), failed("disk_full")])
def test_the_operators_wish_comes_before_the_table(verdict: Verdict) -> None:
    assert decided(verdict, stop="stop").fate == Requeue("front", "stopped by the operator")
    assert decided(verdict, stop="pause").fate == Requeue("front", "paused")
    assert decided(verdict, stop="skip").fate == Skipped("skipped while it ran")
    assert decided(verdict, stop="cancel").fate == Skipped("campaign cancelled")
    assert not any(decided(verdict, stop=stop).counts for stop in STOPS[1:])


def invalid(*names: str) -> Verdict:
    return Verdict("success", flags=tuple(Flag(name, "invalidates", "1") for name in names))


@pytest.mark.parametrize("names", [("gpu_busy",), ("throttled",), ("throttled", "gpu_busy")])
def test_a_result_that_the_machine_spoilt_is_repeated_once(names: tuple[str, ...]) -> None:
    again = policy.Decision(Requeue("behind", f"repeat after {', '.join(names)}"), counts=True)
    assert decided(invalid(*names)) == again
    done = policy.Decision(Done(), counts=True)
    assert decided(invalid(*names), repeated=True) == done
    assert decided(invalid(*names), most=1) == done, "max_attempts is the last word"
    assert decided(invalid(*names), stop="cancel") == done
    assert decided(invalid(*names, "patch_empty")) == done, "a repeat would be invalid again"
    assert decided(Verdict("success", flags=(Flag("throttled", "notes", "1"),))) == done


_VERDICTS = st.one_of(
    st.just(Verdict("success")),
    st.just(Verdict("success", flags=(Flag("x", "invalidates", "y"),))),
    st.builds(failed, st.sampled_from([*policy.RULES, "new"]), st.sampled_from(["failed", "timed_out"])),
    st.just(failed("interrupted", "interrupted")),
    st.just(failed("cancelled", "cancelled")),
)


@given(_VERDICTS, st.sampled_from(STOPS), st.integers(0, 10), st.integers(0, 5), st.integers(1, 10))
def test_whatever_happens(verdict: Verdict, stop: str | None, counted: int, interruptions: int, most: int) -> None:
    decision = decided(verdict, stop=stop, counted=counted, interruptions=interruptions, most=most)
    if verdict.outcome == "success":
        assert decision == policy.Decision(Done(), counts=True), "a result is kept, whatever was wished meanwhile"
    if stop is not None or verdict.outcome == "interrupted":
        assert decision.counts == (verdict.outcome == "success"), "stops and interruptions do not count"
    if isinstance(decision.fate, Requeue) and decision.counts:
        assert counted + 1 < most, "no attempt beyond max_attempts"
    if decision.pause:
        assert isinstance(decision.fate, Requeue)


@given(st.integers(0, 10_000))
def test_the_back_off_grows_and_has_an_end(tries: int) -> None:
    assert 5 <= policy.backoff(tries) <= policy.backoff(tries + 1) <= 300
    assert policy.backoff(tries + 1) <= 2 * policy.backoff(tries)


@given(st.lists(st.tuples(st.sampled_from([None, "client_failed", "env_broken", "patch_empty"]), st.integers(1, 3))))
def test_same_failure_counts_different_tasks_of_one_class_running(ends: list[tuple[str | None, int]]) -> None:
    seen: dict[str, list[int]] = {}
    for failure, where in ends:
        seen = policy.same_failure(seen, failure, where)
    run: list[int] = []
    last = ends[-1][0] if ends else None
    for failure, where in reversed(ends):
        if failure != last or failure in {None, "patch_empty"}:
            break
        run.append(where)
    assert {key: set(tasks) for key, tasks in seen.items()} == ({last: set(run)} if run else {})
    assert all(len(tasks) == len(set(tasks)) for tasks in seen.values())


# ----------------------------------------------------------------------------------------------- in the store


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        made.submit(made.write(task(A), task(B, SERVING), task("c" * 40), limits="same_failure = 3"))
        yield made


def end(bench: Bench, name: str, verdict: Verdict, stop: str | None = None) -> Ending:
    """An attempt from its start to its end, as the runner writes it."""
    attempt = bench.begin(name)
    job = bench.job(name)
    spec = JobSpec.model_validate_json(bench.rows("SELECT spec FROM jobs WHERE id = ?", job["id"])[0]["spec"])
    settings = Settings.model_validate_json(bench.rows("SELECT settings FROM campaigns")[0]["settings"])
    order = Order(attempt, job["id"], job["task_id"], spec, settings, 0, None)
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        attempts.update(connection, attempt, stop=stop)
        ending = decide(connection, attempt, Ending(verdict, Done(), counts=True), spec.max_attempts)
        attempts.finish(connection, attempt, ending)
        pause_queue(connection, order, ending, HostFacts())
        attempts.close(connection, attempt)
    return ending


def state(bench: Bench) -> breaker.Breaker | None:
    with contextlib.closing(bench.store()) as connection:
        return breaker.read(connection)


def test_a_job_that_keeps_failing_ends(bench: Bench) -> None:
    fates = [end(bench, "a:baseline#1", failed("unknown")).fate for _ in range(3)]
    assert fates == [Requeue("behind", "retry after unknown")] * 2 + [Done()]
    job = bench.job("a:baseline#1")
    assert (job["state"], job["outcome"], job["failure"], job["counted"]) == ("done", "failed", "unknown", 3)


def test_a_job_whose_results_the_machine_spoils_ends_as_invalid(bench: Bench) -> None:
    verdict = invalid("gpu_busy")
    assert end(bench, "a:baseline#1", verdict).fate == Requeue("behind", "repeat after gpu_busy")
    assert bench.job("a:baseline#1")["reason"] == "repeat after gpu_busy"
    assert end(bench, "a:baseline#1", verdict).fate == Done()
    job = bench.job("a:baseline#1")
    assert (job["state"], job["outcome"], job["valid"], job["counted"]) == ("done", "success", 0, 2)
    end(bench, "b:baseline#1", verdict)
    assert end(bench, "b:baseline#1", Verdict("success")).fate == Done()
    assert bench.job("b:baseline#1")["valid"] == 1


def test_interruptions_are_kept_with_the_job(bench: Bench) -> None:
    verdict = failed("interrupted", "interrupted")
    for _ in range(2):
        end(bench, "a:baseline#1", verdict)
        assert bench.states()["a:baseline#1"] == "queued"
    end(bench, "a:baseline#1", failed("cancelled", "cancelled"), stop="stop")
    assert bench.job("a:baseline#1")["interruptions"] == 2, "a stop is no interruption"
    end(bench, "a:baseline#1", verdict)
    job = bench.job("a:baseline#1")
    assert (job["state"], job["interruptions"], job["counted"]) == ("held", 3, 0)
    bench.command("release", "aaaa")
    end(bench, "a:baseline#1", verdict)
    assert bench.states()["a:baseline#1"] == "queued"


def test_a_fault_of_the_machine_pauses_the_queue_and_burns_no_job(bench: Bench) -> None:
    for tries in range(3):
        end(bench, "a:baseline#1", failed("disk_full"))
        found = state(bench)
        assert found is not None
        assert found.probe_at is not None
        assert (found.failure, found.tries) == ("disk_full", tries)
        assert policy.backoff(tries) - 5 < found.probe_at - time.time() <= policy.backoff(tries)
    job = bench.job("a:baseline#1")
    assert (job["state"], job["counted"]) == ("queued", 0)
    told = bench.rows("SELECT text FROM events WHERE kind = 'paused'")
    assert [row["text"] for row in told] == ["the queue paused itself: disk_full: because; looking again in 5 s"]
    bench.command("resume")
    assert state(bench) is None


def test_measured_code_cannot_pause_the_queue_for_ever(bench: Bench) -> None:
    proof = Evidence("server.log", 3, "OSError: [Errno 28] No space left on device")
    printed = Verdict("failed", diagnosis=Diagnosis("disk_full", "infra", "because", proof))
    fates = [end(bench, "a:baseline#1", printed).fate for _ in range(4)]
    assert fates == [Requeue("front", "disk_full")] * 3 + [Done()]
    job = bench.job("a:baseline#1")
    assert (job["state"], job["failure"], job["counted"]) == ("done", "disk_full", 1)


def test_a_skipped_job_does_not_pause_the_queue(bench: Bench) -> None:
    end(bench, "a:baseline#1", failed("disk_full"), stop="skip")
    assert bench.states()["a:baseline#1"] == "skipped"
    assert state(bench) is None


def test_one_class_over_three_tasks_pauses_until_somebody_resumes(bench: Bench) -> None:
    for name in ("a:baseline#1", "b:baseline#1"):
        end(bench, name, failed("env_broken"))
        assert state(bench) is None
    end(bench, "c:baseline#1", failed("env_broken"))
    found = state(bench)
    assert found is not None
    assert (found.failure, found.probe_at) == ("env_broken", None)
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        told = events.last_id(connection)
        breaker.trip(connection, "engine_error", "meanwhile")
        assert breaker.read(connection) == found, "no probe ends a pause that waits for the operator"
        assert events.last_id(connection) == told
    bench.command("resume")
    assert state(bench) is None


@pytest.mark.parametrize("between", [Verdict("success"), failed("no_metrics"), failed("patch_empty")])
def test_anything_else_between_them_starts_the_count_anew(bench: Bench, between: Verdict) -> None:
    end(bench, "a:baseline#1", failed("env_broken"))
    end(bench, "b:baseline#1", failed("env_broken"))
    end(bench, "c:baseline#1", between)
    bench.command("retry", "aaaa")
    end(bench, "a:baseline#1", failed("env_broken"))
    assert state(bench) is None


def test_one_task_failing_three_times_is_no_pattern(bench: Bench) -> None:
    for _ in range(3):
        end(bench, "a:baseline#1", failed("unknown"))
    assert state(bench) is None


def test_a_stop_between_them_changes_nothing(bench: Bench) -> None:
    end(bench, "a:baseline#1", failed("env_broken"))
    end(bench, "b:baseline#1", failed("env_broken"))
    end(bench, "c:baseline#1", failed("cancelled", "cancelled"), stop="stop")
    end(bench, "c:baseline#1", failed("env_broken"))
    assert state(bench) is not None


def test_the_fault_is_gone(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        breaker.reset(connection)
        assert events.since(connection, 1) == [], "nothing to tell where nothing was wrong"
        breaker.trip(connection, "engine_error", "away")
        breaker.reset(connection)
        assert breaker.read(connection) is None
        assert [row["kind"] for row in events.since(connection, 1)] == ["paused", "resumed"]
