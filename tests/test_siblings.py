"""Who is to blame once the other arms have ended: pure judgement, then the store's rows, events and confirmation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench import A, Bench, bench_at, task
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.results.models import Blame, Diagnosis, Evidence, Flag, Verdict
from isobench_tui.results.rules import TABLE
from isobench_tui.results.siblings import Judgement, Sibling, judge_siblings
from isobench_tui.store import attempts, db
from isobench_tui.store.attempts import Done, Ending
from isobench_tui.store.rejudge import rejudge

GROUND = ("sha256:image", "fingerprint")
BASELINE = Sibling("b-1", "b", "baseline", "", "", GROUND, "success", valid=True, applied=False)
CRASH = Sibling(
    "a-1",
    "a",
    "agent",
    "one",
    "sha",
    GROUND,
    "failed",
    valid=False,
    applied=True,
    failure="server_crash",
    text="NameError: name 'x'",
    file="server.log",
    frame="vllm/engine.py:3",
)
AGAIN = replace(CRASH, attempt="a-2")


def judged(*siblings: Sibling) -> Judgement:
    return judge_siblings(siblings)["a-1"]


def test_all_three_conditions_and_a_confirmation() -> None:
    first = judged(BASELINE, CRASH)
    assert (first.failure, first.blame, first.needs_confirmation) == ("patch_crash", "undetermined", True)
    final = judge_siblings([BASELINE, CRASH, AGAIN])
    assert {one.blame for one in final.values()} == {"agent"}
    assert {one.failure for one in final.values()} == {"patch_crash"}
    assert "vllm/engine.py:3" in final["a-1"].why
    assert not final["a-1"].needs_confirmation


@pytest.mark.parametrize(
    "without",
    [
        [replace(BASELINE, outcome="failed", failure="timeout", valid=False)],
        [replace(BASELINE, valid=False)],
        [replace(BASELINE, ground=("another image", "fingerprint"))],
        [replace(BASELINE, ground=("sha256:image", "another workload"))],
        [replace(BASELINE, arm="human")],
        [],
    ],
)
def test_no_agent_is_blamed_without_a_healthy_baseline_on_the_same_ground(without: list[Sibling]) -> None:
    found = judged(*without, CRASH, AGAIN)
    assert (found.failure, found.blame, found.needs_confirmation) == ("server_crash", "undetermined", False)


@pytest.mark.parametrize("change", [{"applied": False}, {"frame": ""}])
def test_no_agent_is_blamed_for_what_its_patch_did_not_touch(change: dict[str, object]) -> None:
    one, two = (replace(attempt, **change) for attempt in (CRASH, AGAIN))  # type: ignore[arg-type]
    assert judged(BASELINE, one, two) == Judgement("server_crash", "undetermined")


def test_what_two_agents_suffer_is_neithers_fault() -> None:
    other = replace(CRASH, attempt="z-1", job="z", agent="two", patch="other", frame="vllm/other.py:9")
    found = judge_siblings([BASELINE, CRASH, AGAIN, other])
    assert {one.blame for one in found.values()} == {"undetermined"}
    assert not any(one.needs_confirmation for one in found.values())
    assert "another agent (two)" in found["a-1"].why


def test_what_the_baseline_suffers_too_is_not_the_patchs_fault() -> None:
    broken = replace(
        BASELINE, outcome="failed", valid=False, failure="gpu_oom_capacity", blame="capacity", text="OOM"
    )
    found = judged(broken, replace(CRASH, failure="gpu_oom_capacity", blame="undetermined"))
    assert (found.failure, found.blame) == ("gpu_oom_capacity", "capacity")
    assert "the baseline arm" in found.why


def test_the_same_words_in_another_arm_give_their_class() -> None:
    said = "(Worker pid={}) ERROR 11-22 08:5{}:46 [a.py:95{}] ValueError: no scale at /opt/{}/x"
    human = replace(BASELINE, attempt="h-1", arm="human", outcome="failed", valid=False, failure="model_unsupported")
    human = replace(human, text=said.format(4, 1, 2, "a"))
    found = judged(BASELINE, human, replace(CRASH, failure="patch_crash", text=said.format(71, 3, 8, "b")))
    assert (found.failure, found.blame) == ("model_unsupported", "config")


def test_a_passing_fault_of_the_baseline_excuses_nobody() -> None:
    passing = replace(
        BASELINE, attempt="b-0", outcome="failed", valid=False, failure="server_crash", text="OSError: elsewhere"
    )
    assert judged(passing, BASELINE, CRASH, AGAIN).blame == "agent"
    assert judged(replace(passing, text=CRASH.text), BASELINE, CRASH, AGAIN).blame == "undetermined"


def test_a_patch_that_succeeds_at_the_second_attempt_is_not_blamed() -> None:
    healed = replace(AGAIN, outcome="success", valid=True, failure="", frame="")
    found = judged(BASELINE, CRASH, healed)
    assert (found.blame, found.needs_confirmation) == ("undetermined", False)
    assert "succeeded in another attempt" in found.why


@pytest.mark.parametrize(("failure", "stays"), [("gpu_oom_capacity", True), ("timeout", True), ("no_metrics", False)])
def test_which_classes_keep_their_name(failure: str, stays: bool) -> None:
    pair = (replace(attempt, failure=failure) for attempt in (CRASH, AGAIN))
    found = judged(BASELINE, *pair)
    assert (found.failure, found.blame) == (failure if stays else "patch_crash", "agent")


def test_what_a_healthy_baseline_contradicts_is_undetermined() -> None:
    image = replace(CRASH, failure="env_broken", blame="image", frame="")
    assert judged(BASELINE, image).blame == "undetermined"
    assert judged(image).blame == "image"
    assert judged(BASELINE, replace(image, file="preflight")).blame == "image"


@pytest.mark.parametrize("failure", ["patch_not_applied", "patch_empty", "cancelled", "interrupted"])
def test_what_never_ran_patched_stays_as_it_is(failure: str) -> None:
    found = judged(BASELINE, replace(CRASH, failure=failure), replace(AGAIN, failure=failure))
    assert found == Judgement(failure, "undetermined")


def test_faults_of_the_machine_stay_the_machines() -> None:
    full = (replace(attempt, failure="disk_full", blame="infra") for attempt in (CRASH, AGAIN))
    assert judged(BASELINE, *full) == Judgement("disk_full", "infra")


_BLAMES: list[Blame] = ["undetermined", "image", "infra", "capacity"]
_SIBLINGS = st.lists(
    st.builds(
        Sibling,
        attempt=st.integers(0, 10**9).map(str),
        job=st.sampled_from("xyz"),
        arm=st.sampled_from(["baseline", "human", "agent"]),
        agent=st.sampled_from(["", "one", "two"]),
        patch=st.sampled_from(["", "p", "q"]),
        ground=st.sampled_from([GROUND, ("x", "y")]),
        outcome=st.sampled_from(["success", "failed", "timed_out", "cancelled"]),
        valid=st.booleans(),
        applied=st.booleans(),
        failure=st.sampled_from([*(rule.failure for rule in TABLE), ""]),
        blame=st.sampled_from(_BLAMES),
        text=st.sampled_from(["", "ValueError: 1", "ValueError: 2", "KeyError"]),
        frame=st.sampled_from(["", "a.py:1"]),
    ),
    max_size=6,
    unique_by=lambda one: one.attempt,
)


@given(_SIBLINGS)
def test_an_agent_is_only_blamed_for_cause(siblings: list[Sibling]) -> None:
    found = judge_siblings(siblings)
    assert found == judge_siblings(siblings[::-1]) or len({one.failure for one in siblings}) > 1
    by_id = {one.attempt: one for one in siblings}
    for attempt, judgement in found.items():
        one = by_id[attempt]
        if judgement.blame != "agent":
            continue
        assert one.applied
        assert one.frame
        assert one.arm == "agent"
        ground = [other for other in siblings if other.ground == one.ground]
        assert any(other.arm == "baseline" and other.outcome == "success" and other.valid for other in ground)
        assert sum(other.patch == one.patch and other.failure == one.failure for other in ground) > 1


# --------------------------------------------------------------------------------------------------- in the store


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        faster = (tmp_path / "faster.diff").read_text()
        (tmp_path / "slower.diff").write_text(faster.replace("300", "200"))
        more = "patches.two = 'slower.diff'"
        arms = 'arms = ["baseline", "agent"]'
        made.submit(made.write(task(A, patch="faster.diff", more=more), campaign=arms))
        yield made


def crash(failure: str = "server_crash", frame: str = "vllm/engine.py:1") -> Verdict:
    proof = Evidence("server.log", 3, "NameError: name 'x' is not defined")
    return Verdict("failed", diagnosis=Diagnosis(failure, "undetermined", "It died.", proof, frame))


def end(bench: Bench, name: str, verdict: Verdict) -> str:
    """An attempt from its start to its end; its id. The job ends with it."""
    attempt = bench.begin(name)
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        attempts.finish(connection, attempt, Ending(verdict, Done(), counts=True))
        rejudge(connection, bench.job(name)["task_id"])
        attempts.close(connection, attempt)
    return attempt


def diagnoses(bench: Bench) -> dict[str, tuple[str, str]]:
    rows = bench.rows("SELECT attempt_id, failure, blame FROM diagnoses")
    return {row["attempt_id"]: (row["failure"], row["blame"]) for row in rows}


def test_a_late_baseline_changes_the_class_and_queues_one_confirmation(bench: Bench) -> None:
    first = end(bench, "a:one#1", crash())
    assert diagnoses(bench) == {first: ("server_crash", "undetermined")}
    assert bench.job("a:one#1")["failure"] == "server_crash"
    end(bench, "a:baseline#1", Verdict("success"))
    assert diagnoses(bench) == {first: ("patch_crash", "undetermined")}
    job = bench.job("a:one#1")
    assert (job["state"], job["reason"], job["outcome"]) == ("queued", "to confirm patch_crash", None)
    second = end(bench, "a:one#1", crash())
    assert diagnoses(bench) == dict.fromkeys([first, second], ("patch_crash", "agent"))
    job = bench.job("a:one#1")
    assert (job["state"], job["failure"], job["counted"]) == ("done", "patch_crash", 2)
    told = [row["text"] for row in bench.rows("SELECT text FROM events WHERE kind = 'diagnosis' ORDER BY id")]
    assert len(told) == 4, told
    assert "attempt 1 is patch_crash, blame undetermined, no longer server_crash, undetermined" in told[0]
    assert "runs once more to confirm patch_crash" in told[1]
    assert all("blame agent" in text for text in told[2:])


def test_a_second_agent_with_the_same_failure_acquits_the_first(bench: Bench) -> None:
    end(bench, "a:baseline#1", Verdict("success"))
    found = [end(bench, "a:one#1", crash()), end(bench, "a:one#1", crash())]
    assert {diagnoses(bench)[key] for key in found} == {("patch_crash", "agent")}
    other = end(bench, "a:two#1", crash())
    assert diagnoses(bench) == dict.fromkeys([*found, other], ("server_crash", "undetermined"))
    assert bench.job("a:one#1")["failure"] == "server_crash"


def test_a_confirmation_that_succeeds_blames_nobody(bench: Bench) -> None:
    end(bench, "a:baseline#1", Verdict("success"))
    first = end(bench, "a:one#1", crash())
    assert bench.states()["a:one#1"] == "queued"
    end(bench, "a:one#1", Verdict("success"))
    assert diagnoses(bench)[first] == ("patch_crash", "undetermined")
    assert bench.states()["a:one#1"] == "done"


def test_only_one_confirmation_is_asked_for(bench: Bench) -> None:
    end(bench, "a:baseline#1", Verdict("success"))
    end(bench, "a:one#1", crash())
    end(bench, "a:one#1", crash("no_metrics", ""))
    assert bench.states()["a:one#1"] == "done"
    assert bench.rows("SELECT sum(confirming) AS n FROM diagnoses")[0]["n"] == 1


def test_a_patch_that_did_not_apply_is_not_blamed(bench: Bench) -> None:
    end(bench, "a:baseline#1", Verdict("success"))
    verdict = replace(crash(), flags=(Flag("patch_not_applied", "invalidates", "hunk 1"),))
    first = end(bench, "a:one#1", verdict)
    assert diagnoses(bench)[first] == ("server_crash", "undetermined")
    assert bench.states()["a:one#1"] == "done"


def test_a_cancelled_campaign_confirms_nothing(bench: Bench) -> None:
    end(bench, "a:one#1", crash())
    end(bench, "a:two#1", Verdict("success"))
    attempt = bench.begin("a:baseline#1")
    bench.command("cancel", campaign="small")
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        attempts.finish(connection, attempt, Ending(Verdict("success"), Done(), counts=True))
        rejudge(connection, bench.job("a:baseline#1")["task_id"])
    assert bench.states()["a:one#1"] == "done"
