"""What operators do to the queue: the commands' effects on the rows, through the bus that the command line uses."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import SERVING, A, B, Bench, bench_at, task

from isobench_tui.results.models import Diagnosis, Verdict
from isobench_tui.store import attempts, commands, db, events, query
from isobench_tui.store.answer import Answer, Rejected
from isobench_tui.store.attempts import Done, Ending, Fate, Requeue
from isobench_tui.store.clock import seconds, stamp
from isobench_tui.store.selectors import Selector, resolve

ARMS = 'arms = ["baseline", "agent"]'
VALID = Ending(Verdict("success"), Done(), counts=True)


def failed(failure: str = "client_failed", fate: Fate | None = None) -> Ending:
    return Ending(Verdict("failed", diagnosis=Diagnosis(failure, "infra", "because")), fate or Done(), counts=True)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def spec_of(bench: Bench, name: str) -> str:
    """A job's spec as the store holds it."""
    return str(bench.rows("SELECT spec FROM jobs WHERE id = ?", bench.job(name)["id"])[0]["spec"])


@pytest.fixture
def bench(empty: Bench) -> Bench:
    """Two tasks: a with baseline and agent, twice each; b with the same, once each."""
    more = "repeats = 2"
    empty.submit(
        empty.write(task(A, patch="faster.diff", more=more), task(B, SERVING, patch="faster.diff"), campaign=ARMS)
    )
    return empty


ALL = ["a:baseline#1", "a:one#1", "a:baseline#2", "a:one#2", "b:baseline#1", "b:one#1"]


def stop_of(bench: Bench, attempt: str) -> str | None:
    (row,) = bench.rows("SELECT stop FROM attempts WHERE id = ?", attempt)
    found: str | None = row["stop"]
    return found


def story(bench: Bench) -> list[tuple[str, str]]:
    return [(row["kind"], row["text"]) for row in bench.rows("SELECT kind, text FROM events ORDER BY id")]


# ------------------------------------------------------------------------------------------ submit and reconcile


def test_submitting_puts_every_job_in_the_queue_in_order(bench: Bench) -> None:
    assert bench.queue() == ALL
    assert set(bench.states().values()) == {"queued"}
    assert story(bench) == [("submitted", "campaign small: 6 jobs queued")]
    (row,) = bench.rows("SELECT args, state FROM commands")
    assert (json.loads(row["args"]), row["state"]) == ({"name": "small"}, "done")


def test_the_same_file_again_changes_nothing_not_even_the_order(bench: Bench) -> None:
    bench.command("move", "bbbb", to="first", after=None)
    bench.command("hold", "aaaa:baseline")
    before = bench.rows("SELECT * FROM jobs ORDER BY id")
    answer = bench.submit(bench.root / "campaign.toml")
    assert answer.data == {"added": 0, "revived": 0, "kept": 6, "gone": 0}
    assert bench.rows("SELECT * FROM jobs ORDER BY id") == before


def test_an_edited_file_adds_skips_and_keeps(bench: Bench) -> None:
    attempt = bench.begin("a:baseline#1")
    bench.finish(attempt, VALID)
    kept = {name: bench.id(name) for name in ALL[:4]}
    edited = bench.write(
        task("c" * 40, patch="faster.diff"),
        task(A, patch="faster.diff", more="repeats = 2"),
        task(B, SERVING, patch="faster.diff", SAY="something else"),
        campaign=ARMS,
    )
    answer = bench.submit(edited)
    assert answer.data == {"added": 4, "revived": 0, "kept": 4, "gone": 2}
    assert answer.text.endswith("4 jobs queued, 4 unchanged, 2 skipped (no longer in the campaign file)")
    with contextlib.closing(bench.store()) as connection:
        rows = query.jobs(connection)
    live = [row["id"] for row in rows if row["state"] != "skipped"]
    assert live[2:6] == list(kept.values()), "equal jobs keep their ids"
    assert [row["commit_sha"][0] for row in rows if row["state"] != "skipped"] == list("ccaaaabb")
    gone = [row for row in rows if row["state"] == "skipped"]
    assert [(row["commit_sha"][0], row["reason"]) for row in gone] == [("b", "no longer in the campaign file")] * 2
    (done,) = [row for row in rows if row["state"] == "done"]
    assert done["id"] == kept["a:baseline#1"]


def test_what_is_gone_comes_back_and_what_was_skipped_by_hand_does_not(bench: Bench) -> None:
    path = bench.root / "campaign.toml"
    whole = path.read_text()
    bench.command("skip", "bbbb:one")
    path.write_text(whole.split('[[tasks]]\ncommit = "bbbb')[0])
    assert bench.submit(path).data["gone"] == 1
    assert bench.states()["b:baseline#1"] == "skipped"
    path.write_text(whole)
    answer = bench.submit(path)
    assert answer.data == {"added": 0, "revived": 1, "kept": 5, "gone": 0}
    assert bench.states()["b:baseline#1"] == "queued"
    assert bench.states()["b:one#1"] == "skipped"
    assert bench.queue() == ALL


def test_a_running_job_that_is_gone_ends_under_its_old_spec_and_is_not_tried_again(bench: Bench) -> None:
    first, second = bench.begin("b:baseline#1"), bench.begin("b:one#1")
    spec = spec_of(bench, "b:baseline#1")
    path = bench.root / "campaign.toml"
    whole = path.read_text()
    path.write_text(whole.split('[[tasks]]\ncommit = "bbbb')[0])
    bench.submit(path)
    assert (bench.states()["b:baseline#1"], spec_of(bench, "b:baseline#1")) == ("running", spec)
    bench.finish(first, failed(fate=Requeue("behind", "retry after client_failed")))
    bench.finish(second, VALID)
    job = bench.job("b:baseline#1")
    assert (job["state"], job["reason"]) == ("skipped", "no longer in the campaign file")
    assert bench.states()["b:one#1"] == "done"


def test_a_running_job_that_was_gone_and_is_back_is_tried_again(bench: Bench) -> None:
    attempt = bench.begin("b:baseline#1")
    path = bench.root / "campaign.toml"
    whole = path.read_text()
    path.write_text(whole.split('[[tasks]]\ncommit = "bbbb')[0])
    bench.submit(path)
    path.write_text(whole)
    bench.submit(path)
    assert bench.states()["b:baseline#1"] == "running"
    bench.finish(attempt, failed(fate=Requeue("behind", "retry after client_failed")))
    assert bench.states()["b:baseline#1"] == "queued"


def test_another_campaign_with_other_lanes_or_engine_is_refused_while_the_first_is_unfinished(bench: Bench) -> None:
    other = bench.write(task(A), name="other", file="other.toml", lanes='"GPU-another"')
    answer = bench.submit(other)
    assert answer.exit_code == 2
    assert answer.text == (
        f"{other}: lanes differs from that of the unfinished campaign 'small'; "
        "let that one end, cancel it, or use another --workspace"
    )
    docker = (
        other.read_text()
        .replace('kind = "process"', 'kind = "docker"\nhost = "unix:///nowhere.sock"')
        .replace('"GPU-another"', repr(bench.lane))
        .replace('"tree"', '"tree:1"')
    )
    other.write_text(docker)
    assert "engine differs" in bench.submit(other).text
    assert [row["name"] for row in bench.rows("SELECT name FROM campaigns")] == ["small"]
    bench.command("cancel", campaign="small")
    assert bench.submit(other).exit_code == 0


def test_lanes_of_its_own_may_change_only_while_nothing_of_it_is_on_the_engine(bench: Bench) -> None:
    attempt = bench.begin("a:baseline#1")
    path = bench.root / "campaign.toml"
    path.write_text(path.read_text().replace(bench.lane, "GPU-another"))
    assert "lanes differs" in bench.submit(path).text
    bench.finish(attempt, VALID)
    assert bench.submit(path).exit_code == 0


def test_two_campaigns_stand_one_behind_the_other(bench: Bench) -> None:
    assert bench.submit(bench.write(task(A), name="later", file="later.toml")).exit_code == 0
    assert bench.queue() == [*ALL, "later/a:baseline#1"]


# ----------------------------------------------------------------------------------------------------- selectors


def found(bench: Bench, *texts: str, campaign: str | None = None, failed: bool = False) -> list[str]:
    with contextlib.closing(bench.store()) as connection:
        rows = {row["id"] for row in resolve(connection, Selector(texts, campaign, failed))}
    return [name for name in bench.queue() if bench.id(name) in rows]


def test_selectors_find(bench: Bench) -> None:
    assert found(bench, "aaaa") == ALL[:4]
    assert found(bench, A.upper()) == ALL[:4]
    assert found(bench, "bbbbbbbb:baseline") == ["b:baseline#1"]
    assert found(bench, "aaaa:agent") == ["a:one#1", "a:one#2"]
    assert found(bench, "aaaa:one") == ["a:one#1", "a:one#2"]
    assert found(bench, bench.id("b:one#1")) == ["b:one#1"]
    assert found(bench, bench.id("b:one#1") + "-7") == ["b:one#1"], "an attempt's id means its job"
    assert found(bench, "bbbb", "aaaa:one") == ["a:one#1", "a:one#2", "b:baseline#1", "b:one#1"]
    assert found(bench, campaign="small") == ALL
    bench.finish(bench.begin("a:one#1"), failed())
    bench.finish(bench.begin("a:one#2"), VALID)
    assert found(bench, failed=True) == ["a:one#1"]
    assert found(bench, "aaaa", failed=True, campaign="small") == ["a:one#1"]


@pytest.mark.parametrize(
    ("texts", "code", "words"),
    [
        ((), 2, "say which jobs"),
        (("",), 2, "is no selector"),
        (("abc",), 2, "is no selector"),
        (("aaaa:",), 2, "is no selector"),
        (("aaaa:one:two",), 2, "is no selector"),
        (("aaaa\nbbbb",), 2, "is no selector"),
        (("a" * 41,), 2, "is no selector"),
        (("%",), 2, "is no selector"),
        (("dddd",), 4, "no task has commit dddd"),
        (("aaaa:nobody",), 4, "no job matches aaaa:nobody"),
        (("aaaa:human",), 4, "no job matches aaaa:human"),
        (("j0123456789",), 4, "no job matches j0123456789"),
        (("aaaa", "dddd"), 4, "no task has commit dddd"),
    ],
)
def test_selectors_that_mean_nothing_say_why(bench: Bench, texts: tuple[str, ...], code: int, words: str) -> None:
    for command in ("skip", "hold", "release", "retry"):
        answer = bench.command(command, *texts)
        assert (answer.exit_code, words in answer.text) == (code, True), answer
    assert set(bench.states().values()) == {"queued"}


def test_an_ambiguous_commit_is_refused_unless_the_campaign_tells(bench: Bench) -> None:
    bench.submit(bench.write(task("aaaa" + "e" * 36), name="second", file="second.toml"))
    answer = bench.command("skip", "aaaa")
    assert (answer.exit_code, answer.text) == (2, "aaaa is ambiguous: aaaaaaaaaaaa, aaaaeeeeeeee")
    assert bench.command("skip", "aaaa", campaign="second").text.startswith("skipped 1 job")
    assert bench.command("skip", "aaaa", campaign="nowhere").exit_code == 4
    assert bench.command("skip", "aaaae").exit_code == 0


def test_failed_with_nothing_failed_is_not_found(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection, pytest.raises(Rejected, match="without a valid success"):
        resolve(connection, Selector(failed=True))


# ------------------------------------------------------------------------------------------------- the commands


def test_pause_and_resume(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection:
        assert bench.command("pause").text == "paused the queue"
        state = query.pause_state(connection)
        assert state is not None
        assert state["kind"] == "pause"
        assert bench.command("resume").text == "resumed the queue"
        assert query.pause_state(connection) is None
    assert bench.command("resume").text == "the queue was not paused"
    attempt = bench.begin("a:baseline#1")
    assert bench.command("pause").text == "pausing the queue: aaaaaaaa:baseline runs to its end"
    assert stop_of(bench, attempt) is None
    assert bench.command("pause", now=True).text.endswith(
        "stopping aaaaaaaa:baseline, back to the front of the queue"
    )
    assert stop_of(bench, attempt) == "pause"


def test_pause_of_one_campaign_touches_no_other(bench: Bench) -> None:
    bench.submit(bench.write(task(A), name="later", file="later.toml"))
    attempt = bench.begin("a:baseline#1")
    assert bench.command("pause", campaign="later", now=True).text == "paused campaign later"
    assert stop_of(bench, attempt) is None
    assert [row["paused"] is None for row in bench.rows("SELECT paused FROM campaigns ORDER BY id")] == [True, False]
    assert bench.command("resume", campaign="later").text == "resumed campaign later"
    assert bench.command("resume", campaign="later").text == "campaign later was not paused"
    for name in ("pause", "resume", "cancel"):
        answer = bench.command(name, campaign="nowhere")
        assert (answer.exit_code, answer.text) == (4, "no campaign named 'nowhere' here; there is: small, later")


def test_resume_ends_a_pause_that_the_runner_made(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        db.set_meta(connection, "breaker", json.dumps({"at": "x", "failure": "engine_error", "reason": "y"}))
        db.set_meta(connection, "same_failure", "{}")
    assert bench.command("resume").text == "resumed the queue"
    with contextlib.closing(bench.store()) as connection:
        assert query.pause_state(connection) is None
        assert db.meta(connection, "same_failure") is None


def test_skip_takes_every_unfinished_job_and_cancels_a_running_one(bench: Bench) -> None:
    bench.finish(bench.begin("a:one#1"), VALID)
    bench.command("hold", "aaaa:baseline")
    attempt = bench.begin("a:one#2")
    answer = bench.command("skip", "aaaa")
    assert answer.text.startswith("skipped 2 jobs, cancelling aaaaaaaa:one")
    assert "without a baseline the agents of aaaaaaaa cannot be compared" in answer.text
    assert bench.states() == {
        "a:baseline#1": "skipped",
        "a:one#1": "done",
        "a:baseline#2": "skipped",
        "a:one#2": "running",
        "b:baseline#1": "queued",
        "b:one#1": "queued",
    }
    assert stop_of(bench, attempt) == "skip"
    assert "every job of it has ended or was skipped already" in bench.command("skip", "aaaa:baseline").text


def test_skip_does_not_warn_where_no_agent_or_still_a_baseline_is_left(bench: Bench) -> None:
    assert bench.command("skip", "bbbb").text == "skipped 2 jobs"
    assert bench.command("skip", bench.id("a:baseline#1")).text == "skipped 1 job"
    assert "cannot be compared" in bench.command("skip", bench.id("a:baseline#2")).text


def test_stop_names_what_runs_and_keeps_the_rest(bench: Bench) -> None:
    assert bench.command("stop").text == "nothing is running"
    attempt = bench.begin("a:baseline#1")
    assert bench.command("stop", "bbbb").text == "nothing is running"
    answer = bench.command("stop", "aaaa")
    assert answer.text == "stopping aaaaaaaa:baseline, back to the front of the queue"
    assert answer.data["attempts"] == [attempt], "what `--wait` waits for"
    assert stop_of(bench, attempt) == "stop"
    assert bench.states()["a:baseline#1"] == "running"


@pytest.mark.parametrize("later", ["stop", "pause"])
def test_a_stop_after_a_skip_does_not_bring_the_job_back(bench: Bench, later: str) -> None:
    attempt = bench.begin("a:baseline#1")
    bench.command("skip", bench.id("a:baseline#1"))
    bench.command(later, **({"now": True} if later == "pause" else {}))
    assert stop_of(bench, attempt) == "skip"
    other = bench.begin("b:baseline#1")
    bench.command(later, **({"now": True} if later == "pause" else {}))
    bench.command("skip", "bbbb")
    assert stop_of(bench, other) == "skip"


def test_cancel_skips_all_that_is_left_of_the_campaign(bench: Bench) -> None:
    bench.submit(bench.write(task(A), name="later", file="later.toml"))
    bench.finish(bench.begin("a:baseline#1"), VALID)
    attempt = bench.begin("a:one#1")
    bench.command("hold", "bbbb")
    assert bench.command("cancel", campaign="small").text == (
        "cancelled campaign small: 4 jobs skipped, cancelling aaaaaaaa:one"
    )
    assert stop_of(bench, attempt) == "cancel"
    states = bench.states()
    assert states.pop("later/a:baseline#1") == "queued"
    assert sorted(states.values()) == ["done", "running", "skipped", "skipped", "skipped", "skipped"]
    assert [row["state"] for row in bench.rows("SELECT state FROM campaigns ORDER BY id")] == ["cancelled", "active"]


def test_retry_undoes_a_skip_and_gives_an_ended_job_another_attempt(bench: Bench) -> None:
    attempt = bench.begin("a:one#1")
    bench.finish(attempt, failed())
    bench.command("cancel", campaign="small")
    assert bench.command("retry", failed=True).text == "queued 1 job again: aaaaaaaa:one"
    job = bench.job("a:one#1")
    assert (job["state"], job["outcome"], job["failure"], job["counted"]) == ("queued", None, None, 0)
    assert bench.rows("SELECT state FROM campaigns")[0]["state"] == "active"
    assert [row["id"] for row in bench.rows("SELECT id FROM attempts")] == [attempt], "the old attempt stays"
    assert bench.begin("a:one#1") == attempt[:-1] + "2"
    assert bench.command("retry", "aaaa").text.startswith("queued 3 jobs again")
    assert bench.command("retry", "aaaa").text == "nothing to retry: no job of it was skipped or has ended"


def test_a_retried_job_stands_behind_its_task(bench: Bench) -> None:
    bench.finish(bench.begin("a:baseline#1"), failed())
    bench.command("retry", "aaaa:baseline")
    assert bench.queue() == ["a:one#1", "a:baseline#2", "a:one#2", "a:baseline#1", "b:baseline#1", "b:one#1"]


def test_hold_and_release(bench: Bench) -> None:
    bench.begin("a:baseline#1")
    assert bench.command("hold", "aaaa").text == "held 3 jobs: aaaaaaaa:one, aaaaaaaa:baseline, aaaaaaaa:one"
    assert bench.states()["a:baseline#1"] == "running"
    assert bench.states()["a:one#1"] == "held"
    assert bench.command("hold", "aaaa").text == "nothing held: no job of it is queued"
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        connection.execute("UPDATE jobs SET interruptions = 3")
    assert bench.command("release", "aaaa:one").text == "released 2 jobs: aaaaaaaa:one, aaaaaaaa:one"
    assert bench.job("a:one#1")["interruptions"] == 0, "a released job gets its three interruptions again"
    assert bench.job("a:baseline#2")["interruptions"] == 3


@pytest.mark.parametrize(
    ("args", "order"),
    [
        ({"to": "first"}, ["b:baseline#1", "b:one#1", "a:baseline#1", "a:one#1", "a:baseline#2", "a:one#2"]),
        ({"to": "after", "after": "aaaa:baseline"}, [*ALL[:3], "b:baseline#1", "b:one#1", "a:one#2"]),
        ({"to": "last"}, ALL),
    ],
)
def test_move(bench: Bench, args: dict[str, str], order: list[str]) -> None:
    assert bench.command("move", "bbbb", **{"after": None, **args}).exit_code == 0
    assert bench.queue() == order
    assert sorted(row["position"] for row in bench.rows("SELECT position FROM jobs")) == list(range(6))


def test_moves_that_make_no_sense(bench: Bench) -> None:
    bench.submit(bench.write(task(A), name="later", file="later.toml"))
    before = bench.queue()
    for texts, args, words in (
        (("aaaa",), {"to": "first", "after": None}, "of several campaigns"),
        (("bbbb",), {"to": "after", "after": "bbbb"}, "not another job of the same campaign"),
        (("bbbb",), {"to": "after", "after": "nonsense!"}, "is no selector"),
        (("bbbb",), {"to": "after", "after": "dddd"}, "no task has commit"),
    ):
        answer = bench.command("move", *texts, **args)
        assert answer.exit_code != 0
        assert words in answer.text
    bench.command("skip", "bbbb")
    assert bench.command("move", "bbbb", to="first", after=None).text == "nothing to move: no job of it is waiting"
    assert bench.queue() == before


def test_a_stopped_job_goes_to_the_front_and_a_failed_one_behind_its_task(bench: Bench) -> None:
    bench.finish(bench.begin("a:baseline#1"), failed(fate=Requeue("behind", "retry after client_failed")))
    assert bench.queue() == ["a:one#1", "a:baseline#2", "a:one#2", "a:baseline#1", "b:baseline#1", "b:one#1"]
    bench.finish(bench.begin("b:one#1"), failed("cancelled", Requeue("front", "stopped by the operator")))
    assert bench.queue()[0] == "b:one#1"
    assert bench.job("b:one#1")["reason"] == "stopped by the operator"


def test_shutdown_says_what_it_will_do(bench: Bench) -> None:
    assert bench.command("shutdown").text == "the runner ends"
    bench.begin("a:baseline#1")
    assert bench.command("shutdown").text == "the runner ends after aaaaaaaa:baseline"
    assert "goes on, the next" in bench.command("shutdown", now=True).text
    assert "starts nothing that would overrun it" in bench.command("shutdown", at=stamp(4e9)).text


# --------------------------------------------------------------------------------------------------- the bus


@pytest.mark.parametrize("name", ["skip", "stop", "cancel"])
def test_what_destroys_names_the_attempts_that_its_sender_saw(bench: Bench, name: str) -> None:
    attempt = bench.begin("a:baseline#1")
    args = {"campaign": "small"} if name == "cancel" else {"texts": ["aaaa"]}
    answer = bench.command(name, **args, saw=["j0000000000-1"])
    assert answer.exit_code == 2
    assert answer.text == f"{attempt} has started since you looked; look again and repeat if you still mean it"
    assert stop_of(bench, attempt) is None
    assert set(bench.states().values()) == {"queued", "running"}
    assert bench.command(name, **args, saw=[attempt]).exit_code == 0
    assert stop_of(bench, attempt) == name


@pytest.mark.parametrize("name", ["skip", "stop", "cancel", "pause", "retry", "hold"])
def test_what_destroys_expires_after_30_seconds_and_the_rest_does_not(bench: Bench, name: str) -> None:
    with contextlib.closing(bench.store()) as connection:
        key = commands.send(connection, name, {"texts": ["bbbb"], "campaign": "small"})
        row = connection.execute("SELECT at, expires_at FROM commands WHERE id = ?", (key,)).fetchone()
        if name not in {"skip", "stop", "cancel"}:
            assert row["expires_at"] is None
            return
        assert 29.9 < seconds(row["expires_at"]) - seconds(row["at"]) < 30.1
        past = stamp(seconds(row["at"]) - 31)
        connection.execute("UPDATE commands SET at = ?, expires_at = ? WHERE id = ?", (past, past, key))
        assert commands.drain(connection) == 1
        answer = commands.answer_of(connection, key)
    assert answer is not None
    assert answer.exit_code == 2
    assert answer.text.startswith(f"{name} expired: it was sent 31 s ago")
    assert set(bench.states().values()) == {"queued"}


def test_with_no_runner_the_sender_executes_also_what_others_left(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection:
        left = commands.send(connection, "hold", {"texts": ["aaaa:one"]})
        assert commands.answer_of(connection, left) is None
    assert bench.command("hold", "bbbb").text.startswith("held 2 jobs")
    assert [name for name, state in bench.states().items() if state == "held"] == [
        "a:one#1", "a:one#2", "b:baseline#1", "b:one#1"
    ]  # fmt: skip
    assert not bench.workspace.locked()


def test_with_a_runner_alive_only_it_executes(bench: Bench) -> None:
    with bench.workspace.lock("isobench runner"), contextlib.closing(bench.store()) as connection:
        answer = commands.call(bench.workspace, connection, "skip", {"texts": ["bbbb"]}, patience=0.2)
        assert answer == Answer("the runner holds its lock but does not answer; the command was withdrawn", 2)
        assert commands.drain(connection) == 0, "a withdrawn command is never executed"
    assert bench.states()["b:one#1"] == "queued"


def test_effect_and_answer_are_one_transaction(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection:
        connection.execute(
            "CREATE TRIGGER no_answer BEFORE UPDATE ON commands WHEN new.state = 'done' "
            "BEGIN SELECT raise(ABORT, 'the answer cannot be written'); END"
        )
        key = commands.send(connection, "skip", {"texts": ["bbbb"]})
        told = events.last_id(connection)
        with pytest.raises(sqlite3.IntegrityError, match="cannot be written"):
            commands.drain(connection)
        assert events.last_id(connection) == told
        assert bench.states()["b:one#1"] == "queued"
        connection.execute("DROP TRIGGER no_answer")
        commands.drain(connection)
        answer = commands.answer_of(connection, key)
        assert answer is not None
        assert answer.text == "skipped 2 jobs"
        assert answer.data["jobs"] == [bench.id("b:baseline#1"), bench.id("b:one#1")]
    assert bench.states()["b:one#1"] == "skipped"


def test_a_rejected_command_changes_nothing_but_its_answer(bench: Bench) -> None:
    before = bench.rows("SELECT * FROM jobs"), story(bench)
    bench.command("skip", "aaaa", "dddd")
    assert (bench.rows("SELECT * FROM jobs"), story(bench)) == before
    (row,) = bench.rows("SELECT * FROM commands WHERE name = 'skip'")
    assert (row["state"], row["exit_code"]) == ("rejected", 4)
    assert row["actor"]


def test_every_command_is_an_event_with_its_actor(bench: Bench) -> None:
    bench.command("hold", "bbbb")
    bench.command("release", "bbbb")
    bench.command("pause")
    kinds = [(row["kind"], row["actor"]) for row in bench.rows("SELECT * FROM events ORDER BY id")]
    assert [kind for kind, _ in kinds] == ["submitted", "held", "released", "paused"]
    assert {who for _, who in kinds} == {commands.actor()}


def test_finish_writes_everything_or_nothing(bench: Bench) -> None:
    attempt = bench.begin("a:baseline#1")
    with contextlib.closing(bench.store()) as connection:
        connection.execute("CREATE TRIGGER no BEFORE UPDATE ON jobs BEGIN SELECT raise(ABORT, 'no'); END")
        with pytest.raises(sqlite3.IntegrityError), db.transaction(connection):
            attempts.finish(connection, attempt, failed())
        assert connection.execute("SELECT count(*) FROM diagnoses").fetchone()[0] == 0
        assert connection.execute("SELECT state FROM attempts").fetchone()["state"] == "open"
