"""Workspaces in every state that a dashboard may meet, made by the store's own functions, at one moment on one host.

`watched` opens the dashboard on one without a terminal; `screen_text` is what an operator would read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from bench import GRACE, A, B, Bench, C, task
from textual.geometry import Region
from textual.pilot import Pilot

from isobench_tui.results.metrics import metric
from isobench_tui.results.models import Diagnosis, Evidence, Flag, Verdict
from isobench_tui.store import attempts, db, live
from isobench_tui.store.attempts import Done, Ending
from isobench_tui.store.clock import stamp
from isobench_tui.tui.app import Dashboard
from isobench_tui.tui.board import Board
from isobench_tui.tui.feed import Feed
from isobench_tui.tui.settings import Settings
from isobench_tui.tui.source import Source

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z: the moment at which every scene stands still."""
SERVE = (
    "vllm bench serve --model facebook/opt-125m --dataset-name random --random-input-len 8 --random-output-len 8 "
    "--ignore-eos --num-prompts 4"
)
PATCH = "--- a/vllm/core/scheduler.py\n+++ b/vllm/core/scheduler.py\n@@ -1 +1 @@\n-a\n+b\n"
GIB = 1024**3


def success(throughput: float, *, invalid: bool = False) -> Ending:
    """An attempt that ended well, or one whose number counts for nothing."""
    flags = [Flag("short_window", "notes", "measured for 3.2 s, less than 30 s")]
    if invalid:
        flags.append(Flag("gpu_busy", "invalidates", "GPU 0: pid 4711 (python3) held 12.0 GiB"))
    numbers = metric("output_throughput", throughput), metric("mean_ttft_ms", 50.0)
    verdict = Verdict("success", metrics=numbers, flags=tuple(flags))
    return Ending(
        verdict, Done(), counts=True, vllm_version="0.6.0", model_used="facebook/opt-125m", client_sha256="c" * 64
    )


def failure() -> Ending:
    """A patch that broke the server."""
    proof = Evidence("server.log", 3, "RuntimeError: boom")
    found = Diagnosis("patch_crash", "undetermined", "the server ended with exit code 1: RuntimeError: boom", proof)
    return Ending(Verdict("failed", diagnosis=found), Done(), counts=True, client_sha256="c" * 64)


class Scene(Bench):
    """A workspace of which nothing runs but what the test says."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._open = contextlib.ExitStack()

    def close(self) -> None:
        self._open.close()
        super().close()

    def fill(self, *commits: str, repeats: int = 1, name: str = "trae-2026-01-24") -> None:
        """Queue baseline, human and agent `one` of each commit."""
        (self.root / "p.diff").write_text(PATCH)
        keys = f'arms = ["baseline", "human", "agent"]\nrepeats = {repeats}'
        tasks = (task(commit, SERVE, more='patches.one = "p.diff"') for commit in commits)
        path = self.write(*tasks, campaign=keys, name=name, timeouts=GRACE)
        path.write_text(path.read_text().replace('baseline = "tree"', 'baseline = "tree"\nhuman = "tree"'))
        assert self.submit(path).exit_code == 0

    def write_with(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        with contextlib.closing(self.store()) as connection, db.transaction(connection):
            return work(connection)

    def full(self, side: str) -> str:
        """`a:one#1` as the store's helper functions name it in a campaign with another name."""
        return f"trae-2026-01-24/{side}"

    def end(self, side: str, ending: Ending) -> str:
        attempt = self.begin(self.full(side))
        self.write_with(lambda connection: _phases(connection, attempt))
        self.finish(attempt, ending)
        return attempt

    def run(self, side: str, phase: str = "measure", **moving: Any) -> str:
        """Make a job running, in a phase, with what a runner would show of it."""
        attempt = self.begin(self.full(side))

        def put(connection: sqlite3.Connection) -> None:
            _phases(connection, attempt, until=phase)
            row = live.LivePhase(phase, stamp(NOW - 75), 1800.0, **moving)
            live.put(connection, f"phase/{attempt}", row, attempt)
            attempts.update(connection, attempt, phase=phase)

        self.write_with(put)
        return attempt

    def alive(self, state: str = "running", beat: float = 2.0) -> None:
        """A runner holds the lock; its last heartbeat is `beat` seconds old."""
        self._open.enter_context(self.workspace.lock("isobench runner"))
        self.beat(state, beat)

    def beat(self, state: str, ago: float) -> None:
        row = live.LiveRunner(4242, state, "docker 26.1.5 overlay2 /var/lib/docker")

        def put(connection: sqlite3.Connection) -> None:
            live.put(connection, live.RUNNER_KEY, row)
            connection.execute("UPDATE live SET at = ? WHERE key = ?", (stamp(NOW - ago), live.RUNNER_KEY))

        self.write_with(put)

    def machine(self) -> None:
        """A reading of a host with one GPU."""
        gpu = live.LiveGpu(
            0,
            "GPU-1",
            "NVIDIA H100 80GB HBM3",
            61 * GIB,
            80 * GIB,
            97,
            64,
            1755,
            1980,
            540.0,
            700.0,
            ("sw_power_cap",),
        )
        disks = (
            live.LiveDisk("/var/lib/docker", ("images",), "ext4", 1000 * GIB, 180 * GIB),
            live.LiveDisk("/ephemeral/ws", ("workspace",), "xfs", 500 * GIB, 430 * GIB),
        )
        host = live.LiveHost(32, 12.0, (3.2, 2.9, 2.5), 256 * GIB, 200 * GIB)
        row = live.LiveMachine(host, disks, (gpu,), driver="550.54.15")

        def put(connection: sqlite3.Connection) -> None:
            live.put(connection, "machine", row)
            connection.execute("UPDATE live SET at = ? WHERE key = 'machine'", (stamp(NOW - 3),))

        self.write_with(put)

    def freeze(self) -> None:
        """Move every time in the store to fixed moments, and every attempt to one host."""

        def put(connection: sqlite3.Connection) -> None:
            rows = connection.execute("SELECT id FROM attempts ORDER BY rowid").fetchall()
            for number, (attempt,) in enumerate(rows):
                began, ended = NOW - 3600 + 120 * number, NOW - 3600 + 120 * number + 95
                connection.execute(
                    "UPDATE attempts SET host = 'gpu-box-1', started_at = ?, ended_at = "
                    "CASE WHEN state = 'open' THEN NULL ELSE ? END WHERE id = ?",
                    (stamp(began), stamp(ended), attempt),
                )
            connection.execute("UPDATE events SET at = ?, actor = 'ada@desk'", (stamp(NOW - 600),))
            connection.execute("UPDATE campaigns SET submitted_at = ?", (stamp(NOW - 3700),))
            connection.execute("UPDATE jobs SET ended_at = ? WHERE ended_at IS NOT NULL", (stamp(NOW - 60),))
            connection.execute("UPDATE live SET at = ? WHERE attempt_id IS NOT NULL", (stamp(NOW - 1),))

        self.write_with(put)


_SECONDS = {
    "preflight": 0.4, "image": 140.0, "model": 0.2, "start": 2.0, "setup": 6.0, "server": 55.0, "measure": 90.0,
    "collect": 0.5, "cleanup": 4.0,
}  # fmt: skip


def _phases(connection: sqlite3.Connection, attempt: str, until: str | None = None) -> None:
    began = NOW - 3600.0
    for seq, (phase, seconds) in enumerate(_SECONDS.items()):
        over = phase != until
        connection.execute(
            "INSERT INTO phases VALUES (?,?,?,?,?,?,?,'')",
            (
                attempt, seq, phase, stamp(began if over else NOW - 75), stamp(began + seconds) if over else None,
                seconds if over else None, "ok" if over else None,
            ),
        )  # fmt: skip
        began += seconds
        if not over:
            return


# ------------------------------------------------------------------------------------------- the states


def empty(scene: Scene) -> None:
    """A workspace in which nothing was ever submitted."""
    db.create_store(scene.workspace).close()


def running(scene: Scene) -> None:
    """In the middle: results of every kind, one job measured, others waiting, one held."""
    scene.fill(A, B, C)
    scene.end("a:baseline#1", success(1000.0))
    scene.end("a:human#1", success(1310.5))
    scene.end("a:one#1", failure())
    scene.end("b:baseline#1", success(2000.0, invalid=True))
    scene.alive()
    scene.machine()
    scene.command("hold", scene.id(scene.full("c:one#1")))
    scene.run("b:human#1", tokens_per_s=1834.0, running=16, waiting=4, detail="trial 1")
    scene.freeze()


def pulling(scene: Scene) -> None:
    """An image on its way."""
    scene.fill(A, B)
    scene.alive()
    scene.machine()
    attempt = scene.run("a:baseline#1", "image")
    layers = (
        live.LiveLayer("a1b2c3d4e5f6", "done", 700 * 1024**2, 700 * 1024**2),
        live.LiveLayer("b1b2c3d4e5f6", "downloading", 1200 * 1024**2, 4 * GIB),
        live.LiveLayer("c1b2c3d4e5f6", "extracting", 300 * 1024**2, 900 * 1024**2),
        live.LiveLayer("d1b2c3d4e5f6", "waiting", 0, 50 * 1024**2),
    )
    pull = live.LivePull(layers, 2200 * 1024**2, 5700 * 1024**2, 48.0 * 1024**2, 73.0, None)
    scene.write_with(lambda connection: live.put(connection, f"pull/{attempt}", pull, attempt))
    forecast = live.LiveForecast(
        5700 * 1024**2,
        (
            live.LiveNeed("image", "/var/lib/docker", 19 * GIB),
            live.LiveNeed("logs", "/ephemeral/ws", GIB // 8),
        ),
        (
            live.LiveVolume("/var/lib/docker", 180 * GIB, 19 * GIB),
            live.LiveVolume("/ephemeral/ws", 430 * GIB, GIB // 8),
        ),
        (),
        (live.LiveImage("vllm:old", 21 * GIB, "idle"),),
        9 * GIB,
    )
    scene.write_with(lambda connection: live.put(connection, f"forecast/{attempt}", forecast, attempt))
    scene.freeze()


def paused(scene: Scene) -> None:
    """By an operator, between two jobs."""
    scene.fill(A, B)
    scene.end("a:baseline#1", success(1000.0))
    scene.alive("idle")
    scene.machine()
    scene.write_with(
        lambda connection: db.set_meta(connection, "pause", f'{{"at": "{stamp(NOW - 300)}", "by": "ada@desk"}}')
    )
    scene.freeze()


def failed(scene: Scene) -> None:
    """The queue paused itself: the disk is full."""
    scene.fill(A, B)
    scene.end("a:baseline#1", failure())
    scene.alive("idle")
    scene.machine()
    reason = "/var/lib/docker has 2.0 GiB free, 19.5 GiB are needed"
    fault = {"at": stamp(NOW - 300), "failure": "disk_full", "reason": reason, "tries": 2, "probe_at": NOW + 45}
    scene.write_with(lambda connection: db.set_meta(connection, "breaker", json.dumps(fault)))
    scene.freeze()


def finished(scene: Scene) -> None:
    """Everything has ended and the runner with it."""
    scene.fill(A)
    scene.end("a:baseline#1", success(1000.0))
    scene.end("a:human#1", success(1310.5))
    scene.end("a:one#1", success(1100.25))
    scene.machine()
    scene.beat("ending", 60)
    scene.freeze()


def dead(scene: Scene) -> None:
    """The runner was killed with work left."""
    scene.fill(A, B)
    scene.end("a:baseline#1", success(1000.0))
    scene.run("a:human#1", "server")
    scene.machine()
    scene.beat("running", 600)
    scene.freeze()


STATES: dict[str, Callable[[Scene], None]] = {
    "empty": empty, "running": running, "pulling": pulling, "paused": paused, "failed": failed, "finished": finished,
    "dead": dead,
}  # fmt: skip


# -------------------------------------------------------------------------------------------- the window


@contextlib.asynccontextmanager
async def watched(
    scene: Bench, size: tuple[int, int] = (120, 40), *, settle: bool = True, **options: Any
) -> AsyncIterator[tuple[Dashboard, Pilot[None]]]:
    """The dashboard on a workspace, once it shows what is there. Options: settings, or `readonly`, `start_runner`."""
    own = {name: options.pop(name) for name in ("readonly", "start_runner") if name in options}
    feed = Feed(Source(scene.workspace), options.pop("clock", lambda: NOW))
    app = Dashboard(feed, Settings(**{"alerts": "none", **options}), **own)
    async with app.run_test(size=size, notifications=True) as pilot:
        if settle:
            await shows(pilot, lambda: board(app).snapshot.at != 0.0)
            await still(pilot)
        yield app, pilot


def board(app: Dashboard) -> Board:
    """The one screen, whatever dialog lies over it."""
    return next(screen for screen in app.screen_stack if isinstance(screen, Board))


async def shows(pilot: Pilot[None], condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Turn the event loop until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, screen_text(pilot.app)
        await pilot.pause(0.02)


async def still(pilot: Pilot[None]) -> None:
    """Until nothing is being loaded or made into lines, and every message is handled."""
    for work in ("load", "lines"):  # what was loaded is then made into lines
        await shows(pilot, functools.partial(_idle, pilot, work))
        await pilot.pause()
    await pilot.pause()


def _idle(pilot: Pilot[None], work: str) -> bool:
    return not any(worker.is_running and worker.name == work for worker in pilot.app.workers)


def screen_text(app: Any) -> str:
    """The screen as lines of text, as a terminal would show them."""
    size = app.size
    compositor = app.screen._compositor
    lines = ["".join(segment.text for segment in strip) for strip in compositor.render_strips(size)]
    if app.screen.is_modal:
        below = app.screen_stack[-2]._compositor.render_strips(size)
        under = ["".join(segment.text for segment in strip) for strip in below]
        drawn = [widget.region for widget in app.screen.query("*") if widget.region.area]
        region = Region.from_union(drawn) if drawn else Region()
        for y in range(region.y, region.bottom):
            under[y] = under[y][: region.x] + lines[y][region.x : region.right] + under[y][region.right :]
        lines = under
    return "\n".join(line.rstrip() for line in lines)


@contextlib.contextmanager
def scene_at(root: Path) -> Iterator[Scene]:
    """A Scene that is closed whatever happens."""
    made = Scene(root)
    try:
        yield made
    finally:
        made.close()
