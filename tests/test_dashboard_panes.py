"""The result panes as an operator uses them: keys pressed on the real dashboard over a store filled as runners do."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import A, B
from scenes import Scene, board, failure, scene_at, screen_text, shows, still, success, watched
from textual.message import Message

from isobench_tui.results.models import Diagnosis, Evidence, Verdict
from isobench_tui.store import events
from isobench_tui.store.attempts import Done, Ending
from isobench_tui.tui.messages import ShowLog
from isobench_tui.tui.panes import events as events_pane
from isobench_tui.tui.panes.diagnosis import DiagnosisPane

NASTY = "[red]evil[/] \x1b]0;title\x07\x1b[31m\u202e100 %"
"""Markup, a title, a colour, text turned round."""
SHOWN = "[red]evil[/]"
LOG = "\n".join(["INFO starting", "Traceback (most recent call last):", f"  RuntimeError: {NASTY}", "INFO bye"])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three repeats of two commits: a win, a loss, a crash of one repeat."""
    with scene_at(tmp_path_factory.mktemp("filled")) as made:
        made.fill(A, B, repeats=3)
        for commit, factor in (("a", 1.2), ("b", 0.8)):
            for number, value in enumerate((1000.0, 1004.0, 997.0), 1):
                made.end(f"{commit}:baseline#{number}", success(value))
                if (commit, number) != ("b", 3):
                    made.end(f"{commit}:one#{number}", success(value * factor))
        made.end("a:human#1", success(1100.0))
        attempt = made.end("b:one#3", failure())
        log = made.workspace.run_dir(attempt) / "server.log"
        log.parent.mkdir(parents=True)
        log.write_text("INFO starting\nTraceback (most recent call last):\nRuntimeError: boom\nINFO bye\n")
        made.freeze()
        yield made.workspace.root


@pytest.fixture
def ran(scene: Scene, filled: Path) -> Scene:
    """A copy of it for one test."""
    shutil.copytree(filled, scene.workspace.root)
    return scene


def heard(pane: Any, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What a pane says from now on."""
    said: list[Message] = []
    tell = pane.post_message

    def post(message: Message) -> bool:
        said.append(message)
        return bool(tell(message))

    monkeypatch.setattr(pane, "post_message", post)
    return said


# --------------------------------------------------------------------------------------------- leaderboard


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48)])
async def test_a_leaderboard_at_every_size(ran: Scene, size: tuple[int, int]) -> None:
    ran.write_with(lambda connection: connection.execute("UPDATE campaigns SET simulated = 1"))
    async with watched(ran, size) as (app, pilot):
        await pilot.press("2", "z")
        await shows(pilot, lambda: "1.200 [" in screen_text(app))
        await still(pilot)
        text = screen_text(app)
        lines = text.splitlines()
        assert "SIMULATED" in text
        assert "one  succeeded 2 of 2, 100 % [34 %, 100 %]" in text
        first = next(line for line in lines if "1.200 [" in line)
        last = next(line for line in lines if "0.801 [" in line)
        assert lines.index(first) < lines.index(last)
        assert first.split()[:4] == ["1", "aaaaaaaa", "one", "3"]
        assert " win" in first
        assert " loss" in last
        assert ("●" in first) == (size[0] > 80)
        assert any("- bbbbbbbb one repeat 3: patch_crash" in line for line in lines)
        assert any("jobs are not over" in line for line in lines)


async def test_sorted_by_another_key_and_the_other_way_round(ran: Scene) -> None:
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("2", "z")
        await shows(pilot, lambda: "1.200 [" in screen_text(app))

        def order() -> list[str]:
            found = re.findall(r"^[ \d]{4}([ab])\1{7} (\w+) ", screen_text(app), re.MULTILINE)
            return [":".join(one) for one in found]

        assert order() == ["a:one", "b:one", "a:human", "a:baseline", "b:baseline"]
        for _ in range(6):
            await pilot.press("o")
        await shows(pilot, lambda: "by side" in screen_text(app))
        assert order() == ["a:baseline", "b:baseline", "a:human", "a:one", "b:one"]
        await pilot.press("O")
        await shows(pilot, lambda: "by side, reversed" in screen_text(app))
        assert order() == ["b:one", "a:one", "a:human", "b:baseline", "a:baseline"]


async def test_a_side_opens_its_comparison_and_a_failure_its_diagnosis(ran: Scene) -> None:
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("2")
        await shows(pilot, lambda: "1.200 [" in screen_text(app))
        await pilot.press("g", "down", "enter")
        await shows(pilot, lambda: "trials: output_throughput" in screen_text(app))
        job = board(app).selection.job
        assert job is not None
        assert job.name == "bbbbbbbb:one#1"
        await pilot.press("2", "G", "enter")
        await shows(pilot, lambda: "what proves it" in screen_text(app))
        assert "RuntimeError: boom" in screen_text(app)
        job = board(app).selection.job
        assert job is not None
        assert job.name == "bbbbbbbb:one#3"


async def test_a_store_that_cannot_be_read_is_told_in_the_pane(ran: Scene) -> None:
    async with watched(ran, (120, 40)) as (app, pilot):
        ran.write_with(lambda connection: connection.execute("ALTER TABLE flags RENAME TO gone"))
        await pilot.press("2")
        await shows(pilot, lambda: "cannot show this: OperationalError" in screen_text(app))
        ran.write_with(lambda connection: connection.execute("ALTER TABLE gone RENAME TO flags"))
        ran.end("b:human#1", success(1000.0))
        await shows(pilot, lambda: "1.200 [" in screen_text(app))
        assert "cannot show this" not in screen_text(app)


# ------------------------------------------------------------------------------------------------- compare


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_task_side_by_side_and_its_patch(ran: Scene, size: tuple[int, int]) -> None:
    patch = f"--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+new {NASTY}\n".encode()
    ran.write_with(lambda connection: connection.execute("UPDATE jobs SET patch = ? WHERE arm = 'agent'", (patch,)))
    async with watched(ran, size) as (app, pilot):
        await pilot.press("3", "z")
        await shows(pilot, lambda: "3 of 3 valid" in screen_text(app))
        await still(pilot)
        text = screen_text(app)
        assert "1 of 3 valid; 2 queued" in text
        assert "output_throughput" in text
        assert "1,000.33 n=3" in text
        assert "1.200 [1." in text
        await pilot.press("d")
        await shows(pilot, lambda: "patch of one" in screen_text(app))
        await shows(pilot, lambda: f"+new {SHOWN}" in screen_text(app))
        assert "100 %" in screen_text(app)


async def test_another_job_is_compared_when_it_is_chosen(ran: Scene) -> None:
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("3")
        await shows(pilot, lambda: "1.200 [1." in screen_text(app))
        await pilot.press("0", "G")
        await shows(pilot, lambda: "0.801 [0." in screen_text(app))


# ----------------------------------------------------------------------------------------------- diagnosis


async def test_the_line_that_proves_it_opens_in_the_log(ran: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = ran.job(ran.full("b:one#3"))["attempt"]
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("G", "4", "z")
        await shows(pilot, lambda: "what proves it" in screen_text(app))
        await still(pilot)
        text = screen_text(app)
        assert "bbbbbbbb:one#3" in text
        assert "whose fault" in text
        assert ">        3 RuntimeError: boom" in text
        assert "         2 Traceback (most recent call last):" in text
        said = heard(app.screen.query_one(DiagnosisPane), monkeypatch)

        def places() -> list[tuple[str, str, int]]:
            return [(one.attempt, one.file, one.line) for one in said if isinstance(one, ShowLog)]

        await pilot.press("l")
        await shows(pilot, lambda: ">   3 RuntimeError: boom" in screen_text(app))  # the log has the keys now
        await pilot.press("4", "g", "enter")
        await shows(pilot, lambda: len(places()) > 1)
        assert places() == [(attempt, "server.log", 3), (attempt, "server.log", 1)]


async def test_retry_from_the_diagnosis(ran: Scene) -> None:
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("G", "4")
        await shows(pilot, lambda: "what proves it" in screen_text(app))
        assert "r Retry" in screen_text(app)
        await pilot.press("r")
        await shows(pilot, lambda: ran.job(ran.full("b:one#3"))["state"] == "queued")
        await shows(pilot, lambda: "the job is queued" in screen_text(app))


async def test_read_only_there_is_no_retry(ran: Scene) -> None:
    async with watched(ran, (120, 40), readonly=True) as (app, pilot):
        await pilot.press("G", "4")
        await shows(pilot, lambda: "what proves it" in screen_text(app))
        assert "Retry" not in screen_text(app)
        await pilot.press("r")
        await still(pilot)
        assert ran.job(ran.full("b:one#3"))["state"] == "done"


async def test_hostile_words_stay_words_in_every_pane(scene: Scene) -> None:
    scene.fill(A)
    scene.end("a:baseline#1", success(1000.0))
    proof = Evidence("server.log", 3, f"RuntimeError: {NASTY}")
    found = Diagnosis("patch_crash", "agent", f"it said {NASTY}", proof)
    attempt = scene.end("a:one#1", Ending(Verdict("failed", diagnosis=found), Done(), counts=True))
    log = scene.workspace.run_dir(attempt) / "server.log"
    log.parent.mkdir(parents=True)
    log.write_text(LOG)

    def spoil(connection: Any) -> None:
        connection.execute("UPDATE jobs SET agent = ? WHERE arm = 'agent'", (NASTY,))
        connection.execute("UPDATE tasks SET model = ?", (NASTY,))
        connection.execute(
            "UPDATE diagnoses SET reason = ?, text = ?", (f"it said {NASTY}", f"RuntimeError: {NASTY}")
        )
        connection.execute("UPDATE events SET text = ?, actor = ?", (NASTY, NASTY))

    scene.write_with(spoil)
    async with watched(scene, (160, 48)) as (app, pilot):
        await pilot.press("down", "down")
        for tab in "2345":
            await pilot.press(tab)
            await shows(pilot, lambda: SHOWN in screen_text(app).partition("Events\n")[2])
            await still(pilot)
            assert not {"\x1b", "\x07", "\u202e"} & set(screen_text(app)), tab
        assert app.title == "isobench"


# -------------------------------------------------------------------------------------------------- events


async def test_events_follow_their_end_until_the_cursor_leaves_it(ran: Scene) -> None:

    def add(text: str) -> None:
        ran.write_with(lambda connection: events.add(connection, "test", text))

    async with watched(ran, (80, 24)) as (app, pilot):
        await pilot.press("5")
        await shows(pilot, lambda: "patch_crash" in screen_text(app))
        add("one more thing")
        await shows(pilot, lambda: "one more thing" in screen_text(app))
        await pilot.press("g")
        await still(pilot)
        add("nobody looks")
        await shows(pilot, lambda: board(app).snapshot.revisions.events and len(_keys(app)) >= _count(ran))
        await still(pilot)
        assert "nobody looks" not in screen_text(app)
        await pilot.press("G")
        await shows(pilot, lambda: "nobody looks" in screen_text(app))


async def test_events_that_come_while_earlier_ones_are_being_drawn_are_followed_too(ran: Scene) -> None:
    async with watched(ran) as (app, pilot):
        await pilot.press("5")
        pane = app.screen.query_one(events_pane.EventsPane)
        await shows(pilot, lambda: _keys(app) and pane.list.key == _keys(app)[-1])
        found = pane.found
        assert found is not None
        more = tuple(replace(found.events[-1], id=found.events[-1].id + further) for further in (1, 2))
        for count in (1, 2):
            pane.draw(replace(found, events=found.events + more[:count]))
        await shows(pilot, lambda: pane.list.key == str(more[1].id))


async def test_events_of_one_kind_of_one_job_with_certain_words(ran: Scene) -> None:
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("G", "5")
        await shows(pilot, lambda: "success" in screen_text(app))
        await pilot.press("t")
        await shows(pilot, lambda: "only kind: ended (escape: all)" in screen_text(app))
        await pilot.press("m")
        await shows(pilot, lambda: "only kind: ended, job: bbbbbbbb:one#3" in screen_text(app))
        await shows(pilot, lambda: len(_keys(app)) == 1)
        await pilot.press("escape")
        await shows(pilot, lambda: len(_keys(app)) == _count(ran))
        await pilot.press("slash", *"boom", "enter")
        await shows(pilot, lambda: "only words: boom" in screen_text(app))
        await shows(pilot, lambda: len(_keys(app)) == 1)
        await pilot.press("slash", *"zzz", "enter")
        await shows(pilot, lambda: "no such event" in screen_text(app))


async def test_older_events_are_read_when_they_are_asked_for(ran: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_pane, "PAGE", 5)
    async with watched(ran, (120, 40)) as (app, pilot):
        await pilot.press("5")
        await shows(pilot, lambda: len(_keys(app)) == 5)
        await pilot.press("g", "enter")
        await shows(pilot, lambda: len(_keys(app)) == 10)
        while "older events" in screen_text(app) or len(_keys(app)) < _count(ran):
            before = len(_keys(app))
            await pilot.press("g", "enter")
            await shows(pilot, lambda: len(_keys(app)) > before)  # noqa: B023
        assert "submitted" in screen_text(app) or "jobs queued" in screen_text(app)


def _keys(app: Any) -> list[str]:
    """Ids of the events that are in the list."""
    pane = app.screen.query_one(events_pane.EventsPane)
    return [] if pane.found is None else [str(one.id) for one in pane.found.events]


def _count(ran: Scene) -> int:
    return int(ran.write_with(lambda connection: connection.execute("SELECT count(*) FROM events").fetchone()[0]))


# -------------------------------------------------------------------------------------------------- export


def _in_frame(text: str) -> str:
    """The lines of a dialog, put together: a path may be longer than one of them."""
    return "".join(line.split("│")[1].strip() for line in text.splitlines() if line.count("│") == 2)


async def test_export_writes_what_is_chosen_and_says_where(ran: Scene) -> None:
    async with watched(ran, (80, 24)) as (app, pilot):
        await pilot.press("E")
        await shows(pilot, lambda: "[results]" in screen_text(app))
        await pilot.press("right", "down", "right", "right")
        await shows(pilot, lambda: "[leaderboard]" in screen_text(app) and "[json]" in screen_text(app))
        await pilot.press("enter")
        await shows(pilot, lambda: list((ran.workspace.root / "exports").glob("*.json")))
        (path,) = (ran.workspace.root / "exports").iterdir()
        assert path.name.startswith("isobench-leaderboard-")
        await shows(pilot, lambda: path.name in _in_frame(screen_text(app)))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["workloads"][0]["sides"][0]["rank"] == 1
        await pilot.press("down", "ctrl+u", *"/proc/nowhere", "enter")
        await shows(pilot, lambda: "cannot write it" in screen_text(app))
        await pilot.press("escape")
        await shows(pilot, lambda: not app.screen.is_modal)
