"""What panes show, without Textual: pure functions from a snapshot to text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from isobench_tui.store.clock import stamp
from isobench_tui.store.live import (
    LiveDisk,
    LiveForecast,
    LiveHost,
    LiveImage,
    LiveMachine,
    LiveNeed,
    LivePhase,
    LiveVolume,
)
from isobench_tui.store.query import Tally
from isobench_tui.tui.actions import tables
from isobench_tui.tui.snapshot import Campaign, Job, Machine, Pause, PhaseRow, Runner, Running, Snapshot
from isobench_tui.tui.steering import Nothing, Order, order
from isobench_tui.tui.views.eta import PHASES, eta
from isobench_tui.tui.views.header import header
from isobench_tui.tui.views.help import help_lines, keys
from isobench_tui.tui.views.line import Room
from isobench_tui.tui.views.machine import machine_lines
from isobench_tui.tui.views.notices import notices
from isobench_tui.tui.views.now import now_lines
from isobench_tui.tui.views.queue import QueueLines, matches
from isobench_tui.tui.views.words import bar, spark

NOW = 1_800_000_000.0
HOSTILE = "\x1b]52;c;ZXZpbA==\x07[red]\x00\u202e[/]\n"


def job(key: str = "j1", **fields: Any) -> Job:
    values: dict[str, Any] = {
        "id": key, "campaign": "c", "task": 1, "commit": "a" * 40, "parent": "1" * 40, "arm": "agent", "agent": "one",
        "repeat": 1, "mode": "serving", "model": "m", "state": "queued", "outcome": None, "valid": None,
        "failure": "", "reason": "", "attempt": None, "phase": None, "stopping": False, "started_at": None,
        "ended_at": None,
        "simulated": False,
    }  # fmt: skip
    return Job(**{**values, **fields})


def done(key: str = "j1", **fields: Any) -> Job:
    given_: dict[str, Any] = {
        "state": "done", "outcome": "success", "valid": True, "attempt": f"{key}-1", "started_at": stamp(NOW - 100),
        "ended_at": stamp(NOW - 40), "value": 1000.0, "unit": "tok/s", "metric": "output_throughput",
    }  # fmt: skip
    return job(key, **{**given_, **fields})


GIB = 1024**3


def running(key: str, began: float = 30.0, **fields: Any) -> Running:
    values: dict[str, Any] = {
        "attempt": f"{key}-1", "job": key, "lane": 0, "host": "box", "stop": None, "started_at": stamp(NOW - began),
        "phases": (), "live_at": "", "live": None, "pull": None, "model": None,
    }  # fmt: skip
    return Running(**{**values, **fields})


def snapshot(*jobs: Job, **fields: Any) -> Snapshot:
    counts = {"total": len(jobs)}
    for one in jobs:
        word = one.state
        if word == "done":
            word = "failed" if one.outcome != "success" else "valid" if one.valid else "invalid"
        counts[word] = counts.get(word, 0) + 1
    campaign = Campaign("c", "active", False, False, Tally(**counts), stamp(NOW - 200))
    alive = Runner("running", 7, "docker")
    queue = {"jobs": jobs, "places": {one.id: place for place, one in enumerate(jobs)}}
    return Snapshot("/w", True, NOW, **{"runner": alive, "campaigns": (campaign,), **queue, **fields})


def plain(lines: tuple[Text, ...]) -> str:
    return "\n".join(line.plain for line in lines)


# ---------------------------------------------------------------------------------------------- header


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "running"),
        ({"runner": Runner("dead", 7, "", stamp(NOW - 60))}, "runner not alive since"),
        ({"runner": Runner("silent", 7, "", stamp(NOW - 60))}, "runner silent since"),
        ({"runner": Runner()}, "no runner"),
        ({"pause": Pause(False, stamp(NOW), by="ada")}, "paused by ada"),
        ({"pause": Pause(False, stamp(NOW), by="ada"), "running": (running("j1"),)}, "pausing by ada"),
        (
            {"pause": Pause(True, stamp(NOW), failure="disk_full", probe_at=NOW + 65)},
            "waiting for disk: disk_full, looks again in 1m05s",
        ),
        ({"pause": Pause(True, stamp(NOW), failure="engine_error", probe_at=NOW + 5)}, "waiting for engine"),
        ({"pause": Pause(True, stamp(NOW), failure="client_failed")}, "paused itself: client_failed"),
    ],
)  # fmt: skip
def test_header_says_how_the_runner_is(fields: dict[str, Any], words: str) -> None:
    first, _ = header(snapshot(job(), **fields), Room(NOW, 160, 2), readonly=False)
    assert words in first.plain


def test_header_counts_and_never_overflows() -> None:
    shown = snapshot(
        done(), done("j2", valid=False), done("j3", outcome="failed", valid=None), job("j4"), job("j5", state="held")
    )
    for width in (20, 80, 200):
        lines = header(shown, Room(NOW, width, 2), readonly=True, trouble="the disk is gone")
        assert all(line.cell_len <= width for line in lines)
    assert "3/5 done  1 valid  1 failed  1 invalid  1 left  1 held" in plain(lines)
    assert "read-only" in plain(lines)
    assert "the disk is gone" in plain(lines)


def test_a_simulated_campaign_is_labelled() -> None:
    one = snapshot(done())
    simulated = replace(one, campaigns=tuple(replace(c, simulated=True) for c in one.campaigns))
    assert "SIMULATED" in header(simulated, Room(NOW, 80, 2), readonly=False)[0].plain


def test_eta_is_the_sum_of_the_phases_own_history() -> None:
    means = {("", phase): 10.0 for phase in PHASES} | {("serving", phase): 10.0 for phase in PHASES}
    shown = snapshot(job("j1"), job("j2", state="running"), running=(running("j2", 30.0),), means=means)
    assert eta(shown, NOW) == pytest.approx(90.0 + 60.0)
    assert eta(replace(shown, running=(running("j2", 500.0),)), NOW) == pytest.approx(90.0)
    assert eta(replace(shown, means={}), NOW) is None
    offline = replace(shown, jobs=(job("j1", mode="latency"),), running=())
    assert eta(offline, NOW) == pytest.approx(80.0), "no server in a latency run"


# ----------------------------------------------------------------------------------------------- queue


def test_rows_are_made_when_they_are_seen() -> None:
    jobs = tuple(job(f"j{number}", task=number // 4) for number in range(10_000))
    rows = QueueLines(jobs, NOW, 80)
    assert len(rows) == 12_500
    assert rows.key(0) == ""
    assert rows.key(1) == "j0"
    assert rows.find("j9999") == 12_499
    assert rows.line(rows.find("j17") or 0).key == "j17"


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
def test_columns_fit_and_the_telling_ones_stay(width: int) -> None:
    jobs = (
        done(speedup=1.31, flags=("short_window",)),
        done("j2", outcome="failed", valid=None, failure="patch_crash", reason="it broke " * 20),
    )
    rows = QueueLines(jobs, NOW, width)
    assert all(rows.line(at).text.cell_len <= width for at in range(len(rows)) if rows.key(at))
    assert "patch_crash" in rows.line(2).text.plain
    assert ("1.310x" in rows.line(1).text.plain) is (width >= 60)


def test_marks_headings_and_what_runs() -> None:
    jobs = (job("j1", state="running", phase="measure"), job("j2"), job("j3", task=2, commit="b" * 40))
    rows = QueueLines(jobs, NOW, 80, frozenset({"j2"}))
    assert [rows.line(at).text.plain[:10] for at in range(5)] == [
        "aaaaaaaaaa",
        "> aaaaaaaa",
        "* aaaaaaaa",
        "bbbbbbbbbb",
        "  bbbbbbbb",
    ]
    assert len(QueueLines(jobs, NOW, 80, grouped=False)) == 3


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", True),
        ("patch_crash", True),
        ("ONE aaaa", True),
        ("!one", False),
        ("baseline", False),
        ("failed !baseline", True),
        ("!", False),
    ],
)
def test_filter_words(words: str, found: bool) -> None:
    row = done(outcome="failed", valid=None, failure="patch_crash")
    assert matches(row, words) is found


# ------------------------------------------------------------------------------------------------- now


def test_now_shows_the_phase_first_where_there_is_little_room() -> None:
    live = LivePhase("measure", stamp(NOW - 60), 120.0, "trial 1", 1834.0, 16, 4)
    phases = (PhaseRow("preflight", stamp(NOW - 90), 0.2, "ok"), PhaseRow("measure", stamp(NOW - 60), None, None))
    shown = snapshot(job("j1", state="running"), running=(running("j1", live=live, phases=phases),))
    small = now_lines(shown, Room(NOW, 80, 2), {"j1-1": [1.0, 2.0]})
    assert len(small) == 2
    assert "measure 1m00s of 2m00s" in small[0].plain
    assert "1,834 tok/s running 16 waiting 4" in small[1].plain
    large = plain(now_lines(shown, Room(NOW, 80, 12), {}))
    assert "pre image" in large
    assert "cleanup" not in large
    assert "clean" in large


def test_two_lanes_share_the_room() -> None:
    shown = snapshot(job("j1", state="running"), job("j2", state="running"), running=(running("j1"), running("j2")))
    lines = now_lines(shown, Room(NOW, 80, 4), {})
    assert len(lines) == 4


# ---------------------------------------------------------------------------------------- small drawings


@given(st.lists(st.one_of(st.none(), st.floats(-1e12, 1e12)), max_size=300), st.integers(0, 100))
def test_a_graph_is_never_wider_than_its_room(values: list[float | None], width: int) -> None:
    assert len(spark(values, width)) <= width


@given(st.floats(allow_nan=False, allow_infinity=True), st.integers(0, 60))
def test_a_bar_is_as_wide_as_its_room(share: float, width: int) -> None:
    assert len(bar(share, width)) == width


def test_the_newest_value_is_last_and_a_gap_is_a_gap() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7, 8], 9, 0, 8) == "▁▁▂▃▄▅▆▇█"
    assert spark([8, None, 8], 3, 0, 8) == "█ █"


def test_the_machine_says_what_the_next_image_needs_and_what_could_be_freed() -> None:
    forecast = LiveForecast(
        6 * GIB,
        (LiveNeed("image", "/d", 19 * GIB), LiveNeed("logs", "/d", GIB)),
        (LiveVolume("/d", 10 * GIB, 20 * GIB),),
        ("model m",),
        (LiveImage("a", 21 * GIB, "idle"), LiveImage("b", 4 * GIB, "queued")),
        9 * GIB,
    )
    host = LiveHost(8, None, (0.0, 0.0, 0.0), GIB, GIB)
    machine = Machine(stamp(NOW), LiveMachine(host, (LiveDisk("/d", ("images",), "ext4", 90 * GIB, 10 * GIB),), ()))
    shown = snapshot(job("j1", state="running"), running=(running("j1", forecast=forecast),), machine=machine)
    lines = machine_lines(shown, Room(NOW, 120, 9))
    texts = [line.plain for line in lines]
    at = texts.index("needs 20.0 GiB in /d, most of it image 19.0 GiB")
    assert texts[at + 1] == "to fetch 6.0 GiB; unknown: model m"
    assert texts[at + 2] == "we hold 2 images, 25.0 GiB; could free 9.0 GiB"
    assert lines[at].spans or lines[at].style  # not enough: coloured


# --------------------------------------------------------------------------------------------- hostile


def test_no_view_lets_a_control_character_through() -> None:
    bad = done(agent=HOSTILE, model=HOSTILE, failure="x", reason=HOSTILE, outcome="failed", campaign=HOSTILE)
    live = LivePhase("measure", stamp(NOW - 60), 120.0, HOSTILE)
    shown = snapshot(
        bad, job("j2", campaign="other"), running=(running("j1", live=live),), runner=Runner("running", 1, HOSTILE),
        pause=Pause(True, stamp(NOW), failure=HOSTILE, reason=HOSTILE),
    )  # fmt: skip
    shown = replace(shown, campaigns=tuple(replace(c, name=HOSTILE) for c in shown.campaigns))
    rows = QueueLines(shown.jobs, NOW, 200)
    seen = [
        *header(shown, Room(NOW, 200, 2), readonly=False, trouble=HOSTILE),
        *now_lines(shown, Room(NOW, 200, 20), {}),
        *machine_lines(shown, Room(NOW, 200, 5)),
        *(rows.line(at).text for at in range(len(rows))),
    ]
    for text in seen:
        assert all(char.isprintable() for char in text.plain), repr(text.plain)
    for notice in notices(replace(shown, pause=None), shown):
        assert notice.text.isprintable()


# -------------------------------------------------------------------------------------------- steering


def args(*keys_: str) -> dict[str, Any]:
    return {"texts": list(keys_), "campaign": None, "failed": False}


QUEUED, HELD = job("j1"), job("j2", state="held")
ENDED, RUNS = done("j3"), job("j4", state="running", attempt="j4-1")
SHOWN = snapshot(QUEUED, HELD, ENDED, RUNS, running=(running("j4"),))


@pytest.mark.parametrize(
    ("action", "chosen", "name", "sent", "asks"),
    [
        ("pause", (), "pause", {"campaign": None, "now": False}, False),
        ("pause_now", (), "pause", {"campaign": None, "now": True}, True),
        ("stop", (), "stop", {**args(), "saw": ["j4-1"]}, True),
        ("skip", (QUEUED, ENDED), "skip", {**args("j1"), "saw": ["j4-1"]}, True),
        ("skip_commit", (), "skip", {**args("j1", "j2", "j4"), "saw": ["j4-1"]}, True),
        ("retry", (ENDED, QUEUED), "retry", args("j3"), False),
        ("hold", (QUEUED, HELD), "hold", args("j1"), False),
        ("hold", (HELD,), "release", args("j2"), False),
        ("first", (QUEUED, ENDED), "move", {**args("j1"), "to": "first", "after": None}, False),
        ("last", (HELD,), "move", {**args("j2"), "to": "last", "after": None}, False),
        ("after", (QUEUED, HELD), "move", {**args("j2"), "to": "after", "after": "j1"}, False),
        ("shutdown", (), "shutdown", {"now": False, "at": None}, True),
        ("shutdown_now", (), "shutdown", {"now": True, "at": None}, True),
        ("cancel", (), "cancel", {"campaign": "c", "saw": ["j4-1"]}, True),
    ],
)
def test_what_a_key_would_send(
    action: str, chosen: tuple[Job, ...], name: str, sent: dict[str, Any], asks: bool
) -> None:
    found = order(action, SHOWN, chosen, QUEUED)
    assert isinstance(found, Order)
    assert (found.name, found.args) == (name, sent)
    assert bool(found.question) is asks


def test_pause_again_resumes() -> None:
    found = order("pause", replace(SHOWN, pause=Pause(True, stamp(NOW), failure="disk_full")), ())
    assert found == Order("resume", {"campaign": None})


@pytest.mark.parametrize(
    ("action", "chosen", "shown"),
    [
        ("stop", (), snapshot(QUEUED)),
        ("skip", (ENDED,), SHOWN),
        ("skip", (), SHOWN),
        ("retry", (QUEUED,), SHOWN),
        ("hold", (ENDED,), SHOWN),
        ("first", (ENDED,), SHOWN),
        ("after", (QUEUED,), SHOWN),
        ("cancel", (), snapshot(ENDED)),
        ("shutdown", (), snapshot(QUEUED, runner=Runner("dead"))),
    ],
)
def test_a_key_that_does_nothing_says_why(action: str, chosen: tuple[Job, ...], shown: Snapshot) -> None:
    found = order(action, shown, chosen, QUEUED)
    assert isinstance(found, Nothing)
    assert found.why


def test_every_action_that_steers_means_something() -> None:
    for _, table in tables():
        for action in table:
            if action.steers and action.name != "start_runner":
                found = order(action.name, SHOWN, (QUEUED, HELD, ENDED), QUEUED)
                assert isinstance(found, Order), action.id
                assert bool(found.question) is action.asks, action.id


# ------------------------------------------------------------------------------------------ help, notices


def test_help_lists_every_key_and_hides_what_a_reader_may_not() -> None:
    shown = plain(help_lines(tables(), {"queue.skip": "f8"}, readonly=False, first="Queue"))
    assert shown.startswith("Queue")
    assert "f8" in shown
    assert "asks first" in shown
    reader = plain(help_lines(tables(), {}, readonly=True))
    assert "Skip" not in reader
    assert "Help" in reader
    assert keys("") == "palette"
    assert keys("question_mark") == "?"


def test_no_two_actions_share_a_key_or_an_id() -> None:
    found = [action for _, table in tables() for action in table]
    assert len({action.id for action in found}) == len(found)
    for _, table in tables():
        used = [key for action in table for key in action.key.split(",") if key]
        assert len(set(used)) == len(used)


def test_what_is_worth_a_word() -> None:
    before, after = (
        snapshot(job("j1", state="running"), job("j2")),
        snapshot(done("j1", outcome="failed", valid=None, failure="patch_crash"), job("j2")),
    )
    (failed,) = notices(before, after)
    assert "patch_crash" in failed.text
    assert failed.loud
    (over, *_) = [n for n in notices(snapshot(job("j1")), snapshot(done("j1"))) if "all jobs" in n.text]
    assert over.loud
    paused = replace(before, pause=Pause(True, stamp(NOW), failure="disk_full", reason="full"))
    (told,) = notices(before, paused)
    assert told.severity == "error"
    assert notices(Snapshot("/w", True, 0.0), paused) == ()
    (gone,) = notices(before, replace(before, runner=Runner("dead")))
    assert gone.loud
    many = snapshot(*(done(f"j{n}", outcome="failed", valid=None) for n in range(9)), job("x"))
    some = notices(snapshot(*(job(f"j{n}") for n in range(9)), job("x")), many)
    assert [n.text for n in some] == ["9 jobs ended without a valid result"]
