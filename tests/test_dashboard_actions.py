"""Every key of the dashboard, pressed: what reaches the store, what is asked first, what the screen then shows."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import scenes
from bench import A, B
from rich.color import Color as RichColor
from rich.segment import Segment
from scenes import Scene, board, scene_at, screen_text, shows, still, watched
from textual.pilot import Pilot

from isobench_tui.store import db, live
from isobench_tui.store.workspace import WorkspaceError
from isobench_tui.tui import reading
from isobench_tui.tui.dialogs.confirm import Confirm
from isobench_tui.tui.dialogs.page import Page
from isobench_tui.tui.feed import Feed
from isobench_tui.tui.messages import ReadFailed, ShowLog, SnapshotArrived
from isobench_tui.tui.snapshot import Snapshot
from isobench_tui.tui.source import Source

DRAWN = " │╭╮╰╯─█▁▂▃▄▅▆▇▏▎▍▌▋▊▉░"
"""Frames, bars and graphs."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Two tasks; nothing runs, no runner lives: commands are executed by whoever sends them."""
    with scene_at(tmp_path) as made:
        made.fill(A, B)
        made.end("a:baseline#1", scenes.success(1000.0))
        yield made


def states(scene: Scene) -> dict[str, str]:
    """`a:one#1` -> state."""
    return {name.partition("/")[2]: state for name, state in scene.states().items()}


def shown_state(pilot: Pilot[None], scene: Scene, side: str) -> str | None:
    """As the screen has it, which learns it after the store."""
    job = board(pilot.app).snapshot.job(scene.id(scene.full(side)))  # type: ignore[arg-type]
    return job.state if job else None


def order(scene: Scene) -> list[str]:
    return [name.partition("/")[2] for name in scene.queue()]


async def at(pilot: Pilot[None], scene: Scene, side: str) -> None:
    """Stand on a job of the queue."""
    key = scene.id(scene.full(side))
    assert board(pilot.app).queue.list.choose(key)  # type: ignore[arg-type]
    await pilot.pause()


async def said(pilot: Pilot[None], words: str) -> None:
    """Until a notice says it."""
    await shows(pilot, lambda: any(words in notice.message for notice in pilot.app._notifications))


async def asked(pilot: Pilot[None], words: str) -> None:
    await shows(pilot, lambda: isinstance(pilot.app.screen, Confirm) and words in screen_text(pilot.app))


QUIET: dict[str, Any] = {"start_runner": None}


@pytest.mark.parametrize(
    ("keys", "side", "question", "words", "becomes"),
    [
        (["s", "y"], "a:human#1", "Skip aaaaaaaa:human#1?", "skipped 1 job", {"a:human#1": "skipped"}),
        (["s", "n"], "a:human#1", "Skip aaaaaaaa:human#1?", "", {"a:human#1": "queued"}),
        (["X", "y"], "b:one#1", "Skip all that is left of commit bbbbbbbbbbbb (3 jobs)?", "skipped 3 jobs",
         {"b:baseline#1": "skipped", "b:human#1": "skipped", "b:one#1": "skipped", "a:one#1": "queued"}),
        (["r"], "a:baseline#1", "", "queued 1 job again", {"a:baseline#1": "queued"}),
        (["h"], "b:one#1", "", "held", {"b:one#1": "held"}),
        (["h", "wait", "h"], "b:one#1", "", "released", {"b:one#1": "queued"}),
    ],
)  # fmt: skip
async def test_keys_that_change_jobs(
    scene: Scene, keys: list[str], side: str, question: str, words: str, becomes: dict[str, str]
) -> None:
    async with watched(scene) as (_, pilot):
        await at(pilot, scene, side)
        for key in keys:
            if key == "wait":
                await shows(pilot, lambda: shown_state(pilot, scene, side) == "held")
                continue
            if key in {"y", "n"}:
                await asked(pilot, question)
            await pilot.press(key)
        if words:
            await said(pilot, words)
        await still(pilot)
        found = states(scene)
        assert {name: found[name] for name in becomes} == becomes


@pytest.mark.parametrize(
    ("keys", "side", "first", "last"),
    [
        (["left_square_bracket"], "b:one#1", "b:one#1", "b:human#1"),
        (["right_square_bracket"], "a:human#1", "a:one#1", "a:human#1"),
    ],
)
async def test_keys_that_move_jobs(scene: Scene, keys: list[str], side: str, first: str, last: str) -> None:
    async with watched(scene) as (_, pilot):
        await at(pilot, scene, side)
        await pilot.press(*keys)
        await said(pilot, "moved")
        waiting = [name for name in order(scene) if states(scene)[name] == "queued"]
        assert (waiting[0], waiting[-1]) == (first, last)


async def test_marked_jobs_go_behind_the_cursor(scene: Scene) -> None:
    async with watched(scene) as (app, pilot):
        await at(pilot, scene, "a:human#1")
        await pilot.press("space", "space")
        assert len(board(app).queue.chosen) == 2
        assert "2 marked" in str(board(app).queue.border_subtitle)
        await at(pilot, scene, "b:human#1")
        await pilot.press("v")
        await said(pilot, "moved 2 jobs")
        assert order(scene)[-4:] == ["b:human#1", "a:human#1", "a:one#1", "b:one#1"]
        await pilot.press("escape")
        assert len(board(app).queue.chosen) == 1


async def test_marks_take_all_of_them(scene: Scene) -> None:
    async with watched(scene) as (_, pilot):
        await at(pilot, scene, "b:baseline#1")
        await pilot.press("space", "space", "space", "s")
        await asked(pilot, "Skip bbbbbbbb:baseline#1, bbbbbbbb:human#1, bbbbbbbb:one#1?")
        await pilot.press("y")
        await said(pilot, "skipped 3 jobs")


async def test_pause_and_resume_are_one_key(scene: Scene) -> None:
    async with watched(scene) as (_, pilot):
        await pilot.press("p")
        await said(pilot, "paused the queue")
        await shows(pilot, lambda: "nothing runs" in screen_text(pilot.app))
        assert scene.rows("SELECT * FROM meta WHERE key = 'pause'")
        await shows(pilot, lambda: board(pilot.app).snapshot.pause is not None)  # type: ignore[arg-type]
        await pilot.press("p")
        await said(pilot, "resumed the queue")
        assert not scene.rows("SELECT * FROM meta WHERE key = 'pause'")


async def test_what_runs_is_stopped_after_a_question(scene: Scene) -> None:
    attempt = scene.run("a:human#1")
    async with watched(scene) as (_, pilot):
        await pilot.press("x")
        await asked(pilot, "Stop aaaaaaaa:human#1?")
        await pilot.press("y")
        await said(pilot, "stopping")
        assert scene.rows("SELECT stop FROM attempts WHERE id = ?", attempt) == [{"stop": "stop"}]
        await shows(pilot, lambda: "stopping" in screen_text(pilot.app))
        await pilot.press("P")
        await asked(pilot, "Pause and stop aaaaaaaa:human#1 now?")
        await pilot.press("escape")
        assert not scene.rows("SELECT * FROM meta WHERE key = 'pause'")


async def test_a_command_that_meets_something_else_is_refused(scene: Scene) -> None:
    attempt = scene.run("a:human#1")
    async with watched(scene) as (_, pilot):
        await pilot.press("x")
        await asked(pilot, "Stop")
        scene.finish(attempt, scenes.success(1.0))
        scene.run("a:one#1")
        await pilot.press("y")
        await shows(pilot, lambda: any(n.severity == "error" for n in pilot.app._notifications))
        assert scene.rows("SELECT stop FROM attempts WHERE state = 'open'") == [{"stop": None}]


SHUTDOWN = "SELECT name AS state FROM commands WHERE name = 'shutdown'"


@pytest.mark.parametrize(
    ("verb", "question", "query", "found"),
    [
        ("Cancel campaign", "Cancel campaign trae", "SELECT state FROM campaigns", "cancelled"),
        ("Shut down runner", "End the runner after", SHUTDOWN, "shutdown"),
        ("Shut down runner now", "End the runner at once", SHUTDOWN, "shutdown"),
    ],
)  # fmt: skip
async def test_verbs_of_the_palette(scene: Scene, verb: str, question: str, query: str, found: str) -> None:
    scene.alive()
    async with watched(scene) as (app, pilot):
        await at(pilot, scene, "a:human#1")
        commands = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        app.call_later(commands[verb])
        await asked(pilot, question)
        await pilot.press("y")
        until_rows = lambda: scene.rows(query)  # noqa: E731
        await shows(pilot, until_rows)
        scene._open.close()  # with the runner's lock free, whoever sent the command executes it
        await shows(pilot, lambda: scene.rows(query)[0]["state"] == found)
        await still(pilot)


async def test_the_palette_opens_and_finds(scene: Scene) -> None:
    async with watched(scene) as (app, pilot):
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"leaderb")
        await shows(pilot, lambda: "agents and arms, ranked" in screen_text(app))


@pytest.mark.parametrize("how", ["option", "unwritable"])
async def test_a_reader_steers_nothing_and_sees_no_hint(
    scene: Scene, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "unwritable":
        monkeypatch.setattr(db, "writable", lambda workspace: False)
    before = states(scene)
    async with watched(scene, readonly=how == "option") as (app, pilot):
        await shows(pilot, lambda: "read-only" in screen_text(app))
        await at(pilot, scene, "a:human#1")
        for key in ("s", "r", "h", "p", "P", "x", "X", "v", "S", "left_square_bracket"):
            await pilot.press(key)
            await pilot.pause()
            assert not isinstance(app.screen, Confirm), key
        for hint in ("Skip", "Retry", "Pause"):
            assert hint not in screen_text(app).splitlines()[-1]
        assert "Skip" not in {command.title for command in app.get_system_commands(app.screen)}
        await pilot.press("question_mark")
        await shows(pilot, lambda: isinstance(app.screen, Page))
        assert "undo a skip" not in screen_text(app)
    assert states(scene) == before
    assert scene.rows("SELECT * FROM commands WHERE name != 'submit'") == []


async def test_a_dead_runner_is_offered_once(scene: Scene) -> None:
    scene.beat("running", 600)
    started: list[bool] = []
    async with watched(scene, start_runner=lambda: started.append(True)) as (app, pilot):
        await asked(pilot, "No runner is alive and 5 jobs are left. Start one?")
        await pilot.press("n")
        await still(pilot)
        assert not started
        assert not isinstance(app.screen, Confirm)
        await pilot.press("S")
        await asked(pilot, "Start one?")
        await pilot.press("y")
        await shows(pilot, lambda: started)


async def test_a_runner_that_does_not_start_says_so(scene: Scene) -> None:
    def start() -> None:
        raise WorkspaceError("the runner did not start: no engine")

    async with watched(scene, start_runner=start) as (_, pilot):
        await asked(pilot, "Start one?")
        await pilot.press("y")
        await said(pilot, "the runner did not start: no engine")


async def test_filter_group_and_follow(scene: Scene) -> None:
    async with watched(scene) as (app, pilot):
        queue = board(app).queue
        await pilot.press("slash")
        await pilot.press(*"human", "enter")
        await shows(pilot, lambda: "Queue 2/6" in str(queue.border_title))
        assert "filter: human" in str(queue.border_subtitle)
        assert "baseline" not in screen_text(app).partition("Events")[0].partition("Now")[0] or True
        await pilot.press("escape")
        await shows(pilot, lambda: "Queue 6/6" in str(queue.border_title))
        assert "aaaaaaaaaaaa serving" in screen_text(app)
        await pilot.press("t")
        await shows(pilot, lambda: "aaaaaaaaaaaa serving" not in screen_text(app))
        await at(pilot, scene, "b:one#1")
        scene.run("a:human#1")
        await shows(pilot, lambda: queue.under is not None and queue.under.name == "aaaaaaaa:human#1")
        await pilot.press("down")
        await shows(pilot, lambda: "follows" not in str(queue.border_subtitle))
        await pilot.press("f")
        await shows(pilot, lambda: queue.under is not None and queue.under.name == "aaaaaaaa:human#1")


async def test_updates_move_neither_the_cursor_nor_the_view(tmp_path: Path) -> None:
    with scene_at(tmp_path) as scene:
        scene.fill(*(digit * 40 for digit in "abcdef"), repeats=3)
        async with watched(scene, (100, 30)) as (app, pilot):
            found = board(app).queue.list
            await at(pilot, scene, "d:one#2")
            await pilot.press("f")
            await pilot.pause()
            top, key = found.scroll_offset.y, found.key
            above = screen_text(app).splitlines()[4]
            version = board(app).snapshot.revisions.jobs
            scene.command(
                "move", scene.id(scene.full("a:baseline#1")), to="last", campaign=None, failed=False, after=None
            )
            await shows(pilot, lambda: board(app).snapshot.revisions.jobs != version)
            await shows(pilot, lambda: board(app).snapshot.jobs[-1].name == "aaaaaaaa:baseline#1")
            await still(pilot)
            assert found.key == key
            assert found.scroll_offset.y == top - 1
            assert screen_text(app).splitlines()[4] == above


async def test_commands_of_a_job_can_be_copied(scene: Scene) -> None:
    async with watched(scene, (100, 30)) as (app, pilot):
        await at(pilot, scene, "a:human#1")
        await pilot.press("c")
        await shows(pilot, lambda: isinstance(app.screen, Page))
        assert "--dataset-name random" in screen_text(app)
        await pilot.press("y")
        await said(pilot, "written to")
        (path,) = (scene.workspace.root / "exports").iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "vllm.entrypoints" in path.read_text() or "serve" in path.read_text()
        await pilot.press("escape")
        await shows(pilot, lambda: not isinstance(app.screen, Page))


async def test_help_begins_with_the_pane_that_has_the_focus(scene: Scene) -> None:
    async with watched(scene) as (app, pilot):
        await pilot.press("question_mark")
        await shows(pilot, lambda: isinstance(app.screen, Page))
        lines = screen_text(app).splitlines()
        first = next(line for line in lines if "Queue" in line and "│" in line)
        assert lines.index(first) < 6
        await pilot.press("escape")


async def test_zoom_is_one_pane_alone(scene: Scene) -> None:
    async with watched(scene, (80, 24)) as (app, pilot):
        assert board(app).queue.list.size.height < 12
        await pilot.press("z")
        await pilot.pause()
        await shows(pilot, lambda: board(app).queue.list.size.height > 15)
        await pilot.press("z")
        await shows(pilot, lambda: board(app).queue.list.size.height < 12)


async def test_a_keymap_moves_keys(scene: Scene) -> None:
    async with watched(scene, keymap={"queue.skip": "f8"}) as (app, pilot):
        await at(pilot, scene, "a:human#1")
        await pilot.press("s")
        await pilot.pause()
        assert not isinstance(app.screen, Confirm)
        await pilot.press("f8")
        await asked(pilot, "Skip aaaaaaaa:human#1?")


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark", "nord"])
async def test_themes(scene: Scene, theme: str) -> None:
    async with watched(scene, theme=theme) as (app, _):
        assert app.theme == theme
        assert "aaaaaaaa human" in screen_text(app)


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "nord", "gruvbox"])
async def test_what_the_cursor_and_a_mark_lie_on_and_where_lines_are_from_can_be_read(
    scene: Scene, theme: str
) -> None:
    log = scene.workspace.run_dir(scene.run("a:human#1", "measure")) / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("INFO it serves\n")
    async with watched(scene, theme=theme) as (app, pilot):
        await at(pilot, scene, "a:baseline#1")
        await pilot.press("space")
        await at(pilot, scene, "a:human#1")
        await shows(pilot, lambda: "it serves" in screen_text(app))
        words = ("done ", "aaaaaaaa baseline", "aaaaaaaa human", "it serves")
        strips = app.screen._compositor.render_strips(app.size)
        for strip in (one for one in strips if any(word in one.text for word in words)):
            for segment in strip:
                if segment.text.strip(DRAWN):
                    assert contrast(segment) > 2.4, (segment, strip.text)


def contrast(segment: Segment) -> float:
    """Of a segment's letters to their ground, 1 to 21 (WCAG 2)."""
    style = segment.style
    assert style is not None
    assert style.color is not None
    assert style.bgcolor is not None
    light = sorted(map(luminance, (style.color, style.bgcolor)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(color: RichColor) -> float:
    parts = [part / 255 for part in color.get_truecolor()]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


async def test_a_store_that_cannot_be_read_is_told_and_tried_again(scene: Scene) -> None:
    path = scene.workspace.database
    hidden = path.rename(path.with_name("hidden.db"))
    async with watched(scene, settle=False) as (app, pilot):
        await shows(pilot, lambda: "cannot read the store" in screen_text(app))
        hidden.rename(path)
        await shows(pilot, lambda: "cannot read the store" not in screen_text(app))
        await shows(pilot, lambda: "aaaaaaaa human" in screen_text(app))


async def test_what_was_read_before_there_is_a_screen_is_shown_by_it(scene: Scene) -> None:
    heard: SimpleQueue[Snapshot | str] = SimpleQueue()
    feed = Feed(Source(scene.workspace))
    feed.begin()
    feed.listen(heard.put)
    first = heard.get(timeout=30)
    feed.close()
    assert isinstance(first, Snapshot)
    assert len(first.jobs) == len(scene.rows("SELECT id FROM jobs"))


async def test_a_fault_of_ours_while_reading_is_told_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(reading, "pause_of", broken)
    async with watched(scene, settle=False) as (app, pilot):
        await shows(pilot, lambda: "cannot read the store: a fault of ours" in screen_text(app))


async def test_a_failing_tab_says_so_and_nothing_else_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from isobench_tui.store import events

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(events, "page", broken)
    async with watched(scene, tab="events") as (app, pilot):
        await shows(pilot, lambda: "a fault of ours" in screen_text(app))
        await pilot.press("p")
        await said(pilot, "paused the queue")


async def test_what_arrives_while_the_screen_is_taken_down_harms_nothing(scene: Scene) -> None:
    """The panes go before the screen that holds them, and the reader's last words may come in between."""
    async with watched(scene) as (app, pilot):
        here = board(app)
        await here.query("*").remove()
        here.tell(here.snapshot)
        here.trouble("cannot read the store")
        await pilot.pause()
    app._arrived(SnapshotArrived(here.snapshot))
    app._failed(ReadFailed("cannot read the store"))
    assert app.report is None


async def test_who_quits_while_a_tab_opens_leaves_in_peace(scene: Scene) -> None:
    async with watched(scene) as (app, pilot):
        here = board(app)
        app.exit()
        await here.action_tab("events")
        await here._show_log(ShowLog("a"))
        await here._open_first()
        await pilot.pause()
    assert app.report is None


async def test_a_pane_whose_rows_stay_is_not_painted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(scene) as (app, pilot):
        painted: list[object] = []
        queue = board(app).queue
        monkeypatch.setattr(queue, "refresh", lambda *regions, **_: painted.extend(regions or ["all of it"]))
        board(app).tell(board(app).snapshot)
        await pilot.pause()
        assert painted == []
        await pilot.press("f")
        assert painted == ["all of it"] * 2, "its border says that it follows no more"


async def test_a_heartbeat_is_read_without_reading_the_queue(scene: Scene) -> None:
    scene.alive()
    async with watched(scene) as (app, pilot):
        before = board(app).snapshot
        scene.beat("running", 1.0)
        scene.write_with(lambda c: live.put(c, "x", live.LiveRunner(1, "running")))
        await shows(pilot, lambda: board(app).snapshot.revisions.live != before.revisions.live)
        assert board(app).snapshot.jobs is before.jobs


def test_nothing_of_the_dashboard_is_needed_to_steer(scene: Scene) -> None:
    """The same commands from the command line are seen by a window that is open."""
    scene.cli("hold", "bbbb:one")
    assert states(scene)["b:one#1"] == "held"
