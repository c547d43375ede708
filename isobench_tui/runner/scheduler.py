"""The loop that works the queue: commands in, attempts out, one lane at a time each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from isobench_tui.campaign.models import JobSpec, Settings
from isobench_tui.engine.base import Engine, EngineError
from isobench_tui.runner import breaker, faults, recovery, room
from isobench_tui.runner.attempt import Attempt, Order
from isobench_tui.runner.monitors import gate
from isobench_tui.runner.monitors.gpu import GpuWatch
from isobench_tui.runner.monitors.watch import Watch
from isobench_tui.runner.pulls import SharedPulls
from isobench_tui.runner.services import Services, container_name, make_engine
from isobench_tui.runner.space import Need
from isobench_tui.runner.writer import Writer
from isobench_tui.store import attempts, commands, db, events, live, query
from isobench_tui.store.clock import seconds
from isobench_tui.store.workspace import Workspace

TICK_S = 0.2
TURN_S = 1.0
"""How long the runner rests at most where nothing moves in the store; probes and times are looked at then."""
HEARTBEAT_S = 5.0
LOOK_S = 5.0
"""How often an engine is asked whether a fault is gone, while nothing could be started anyway."""
ROOM_S = 2.0
"""How often a queue that paused for want of space looks at the disks."""
LINGER_S = 1.0
"""How long an idle runner waits for a last command before it ends."""


@dataclass(slots=True)
class Scheduler:
    """One workspace's runner. `run` returns when nothing is left to do or it was told to end."""

    workspace: Workspace
    writer: Writer
    uuid: str
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by signals and by `shutdown --now`: leave at once, what runs is adopted later."""
    busy: Callable[[], Awaitable[bool]] | None = None
    """Whether something beside the queue still has to be done before the runner may end."""
    _engine: Engine | None = None
    _engine_key: tuple[object, ...] | None = None
    _engine_text: str = ""
    _lanes: dict[int, tuple[Attempt, asyncio.Task[None]]] = field(default_factory=dict)
    _probing: bool = False
    _pulls: SharedPulls = field(default_factory=SharedPulls)
    _gpus: GpuWatch = field(default_factory=GpuWatch)
    _gpus_held: bool = False
    """They were at the last look, while the queue waited for them."""
    _promised: dict[str, tuple[Need, ...]] = field(default_factory=dict)
    _state: str = "starting"
    _recover_at: float | None = 0.0
    """When to square the store with the engine, on the monotonic clock; None once that is done."""
    _look_at: float = 0.0
    """When the engine may be asked again whether a fault is gone, on the monotonic clock."""

    async def run(self, reader: sqlite3.Connection) -> None:
        """Turn until there is nothing left to do."""
        await self._beat(self._state)
        watch = Watch(self.writer, self.workspace, self._gpus, lambda: self._engine)
        background = [asyncio.create_task(self._heartbeat()), asyncio.create_task(watch.run())]
        try:
            await self._turn_until_idle(reader)
        finally:
            for task in [*background, *(task for _, task in self._lanes.values())]:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
            if self._engine is not None:
                await self._engine.close()

    async def _turn_until_idle(self, reader: sqlite3.Connection) -> None:
        version, idle_since, due = -1, time.monotonic(), 0.0
        while not self.ending.is_set():
            moved = query.data_version(reader)
            if (
                moved == version
                and time.monotonic() < due
                and not any(task.done() for _, task in self._lanes.values())
            ):
                await self._rest()  # nothing was written and no lane is free: a look costs next to nothing
                continue
            version, due = moved, time.monotonic() + TURN_S
            if commands.pending(reader):
                await self.writer.plain(commands.drain)
            await self._pass_on_stops()
            if await self._shut_down():
                return
            started = await self._recovered() and await self._fill_lanes()
            await self._show()
            waits = started or self._lanes or self._recover_at is not None or await self.writer.run(_has_work)
            if waits or (self.busy is not None and await self.busy()):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > LINGER_S and await self.writer.run(_try_end):
                return
            await self._rest()

    async def _rest(self) -> None:
        """Wait for the next turn; a lane that becomes free, or the order to leave, does not wait for it."""
        leaving = asyncio.create_task(self.ending.wait())
        working = {task for _, task in self._lanes.values() if not task.done()}
        try:
            await asyncio.wait({leaving, *working}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()

    async def _fill_lanes(self) -> bool:
        """Start an attempt on every free lane that has a job waiting; says whether one was started."""
        self._reap()
        gate = await self._gate()
        if gate == "closed":
            return False
        started = False
        lanes = await self.writer.run(_lane_count)
        for lane in range(lanes):
            if lane in self._lanes or (gate == "probe" and self._lanes):
                continue
            order = await self.writer.run(_take, lane)
            if order is None:
                break
            await self._launch(order, probing=gate == "probe")
            started = True
        return started

    async def _gate(self) -> str:
        """`open`, `closed`, or `probe`: one attempt may try whether the fault is gone."""
        state = await self.writer.run(breaker.read)
        if state is None:
            return "open"
        if state.failure == gate.GpuBusy.failure and state.probe_at is not None:
            return await self._gpu_gate(state)
        if state.probe_at is None or time.time() < state.probe_at or self._probing:
            return "closed"
        if time.monotonic() < self._look_at:
            return "closed"
        self._look_at = time.monotonic() + (ROOM_S if state.wants else LOOK_S)
        if self._engine is not None:
            try:
                await self._engine.check()
            except EngineError as error:
                await self.writer.run(breaker.trip, error.failure, str(error))
                return "closed"
        return await self._room(state) if state.wants else "probe"

    async def _room(self, state: breaker.Breaker) -> str:
        """The gate of a queue that paused for want of space: space opens it, and no attempt is spent on looking."""
        settings, image = await self.writer.run(_newest_settings), await self.writer.run(_next_image)
        if settings is None:
            return "probe"
        try:
            if not await room.again(await self._services(settings), settings, state.wants, image):
                return "closed"
        except EngineError:
            return "closed"
        if not state.foreseen:
            return "probe"
        await self.writer.run(breaker.reset, "there is space again")
        return "open"

    async def _gpu_gate(self, state: breaker.Breaker) -> str:
        """The gate while GPUs were found busy: as long as we see them held, no attempt is spent on finding out."""
        if self._probing or time.monotonic() < self._look_at:
            return "closed"
        self._look_at = time.monotonic() + LOOK_S
        words = await gate.busy(self._gpus, await self.writer.run(_lane_gpus))
        if words:
            self._gpus_held = True
            await self.writer.run(breaker.retell, words)
            return "closed"
        freed, self._gpus_held = self._gpus_held, False
        if freed:
            await self.writer.run(breaker.due, state.failure)
        return "probe" if freed or time.time() >= (state.probe_at or 0) else "closed"

    async def _launch(self, order: Order, *, probing: bool) -> None:
        attempt = Attempt(await self._services(order.settings), order, self._engine_trouble)
        self._probing = self._probing or probing
        self._lanes[order.lane] = (attempt, asyncio.create_task(self._work(attempt, probing=probing)))

    async def _work(self, attempt: Attempt, *, probing: bool) -> None:
        try:
            ending = await attempt.run()
            failure = ending.verdict.diagnosis.failure if ending.verdict.diagnosis else None
            if probing and not await self.writer.run(_tripped_by, failure):
                await self.writer.run(breaker.reset)
        finally:
            if probing:
                self._probing = False

    async def _engine_trouble(self, error: EngineError) -> None:
        await self.writer.run(breaker.trip, error.failure, str(error))

    def _reap(self) -> None:
        """Free lanes whose attempt is over; an attempt that raised is a fault of ours and ends the runner loudly."""
        for lane, (_, task) in list(self._lanes.items()):
            if task.done():
                del self._lanes[lane]
                task.result()

    async def _pass_on_stops(self) -> None:
        if not self._lanes:
            return
        wished = await self.writer.run(_stops)
        for attempt, _ in self._lanes.values():
            if attempt.id in wished:
                attempt.stop.set()

    async def _shut_down(self) -> bool:
        order = await self.writer.run(_shutdown_order)
        if order is None:
            return False
        if not order["now"] and self._lanes:
            return False
        return await self.writer.run(_end_on_order)

    async def _services(self, settings: Settings) -> Services:
        key = (settings.engine, settings.docker_host, settings.flatten, settings.blob_cache)
        if self._engine is None or key != self._engine_key:
            if self._engine is not None:
                await self._engine.close()
            self._engine, self._engine_key = make_engine(settings, self.workspace), key
        return Services(self.workspace, self.uuid, self.writer, self._engine, self._pulls, self._gpus, self._promised)

    async def _recovered(self) -> bool:
        """Whether we know what the engine holds. While it does not answer nothing starts, but commands are obeyed."""
        if self._recover_at is None:
            return True
        if time.monotonic() < self._recover_at:
            return False
        try:
            await self._recover()
        except EngineError as error:
            await self.writer.run(breaker.trip, error.failure, str(error))
            state = await self.writer.run(breaker.read)
            wait = 5.0 if state is None or state.probe_at is None else max(1.0, state.probe_at - time.time())
            self._recover_at = time.monotonic() + min(wait, 15.0)
            return False
        self._recover_at = None
        return True

    async def _recover(self) -> None:
        settings = await self.writer.run(_newest_settings)
        if settings is None:
            return
        services = await self._services(settings)
        assert self._engine is not None
        self._engine_text = await self._engine.check()
        left = await self.writer.run(recovery.unfinished)
        handles = await self._engine.adopt(self.uuid, self.workspace.runs)
        found = await asyncio.to_thread(recovery.reconcile, left, handles, self.workspace)
        await faults.point("recovering")
        await self.writer.run(recovery.tell, found)
        for orphan in found.orphans:
            await self._engine.remove(orphan)
        state = await self.writer.run(breaker.read)
        if state is not None and state.failure == "engine_error" and state.probe_at is not None:
            await self.writer.run(breaker.reset)
        await faults.point("adopting")
        for takeover in found.takeovers:
            order = await self.writer.run(order_of, takeover.left.attempt)
            attempt = Attempt(services, order, self._engine_trouble, handle=takeover.handle)
            if takeover.left.collected:
                work: asyncio.Task[None] = asyncio.create_task(attempt.cleanup())
            else:
                work = asyncio.create_task(_adopt(attempt, takeover))
            lane = order.lane if order.lane not in self._lanes else max(self._lanes) + 1
            self._lanes[lane] = (attempt, work)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._beat(self._state)

    async def _show(self) -> None:
        """A heartbeat out of turn where our state has changed."""
        state = "starting" if self._recover_at is not None else "running" if self._lanes else "idle"
        if state != self._state:
            self._state = state
            await self._beat(state)

    async def _beat(self, state: str) -> None:
        await self.writer.run(_beat, live.LiveRunner(os.getpid(), state, self._engine_text))


async def _adopt(attempt: Attempt, takeover: recovery.Takeover) -> None:
    await attempt.adopt(takeover.handle, finished=takeover.finished)


def _take(connection: sqlite3.Connection, lane: int) -> Order | None:
    """Give the next queued job an attempt on a lane, in the transaction that makes it running."""
    if db.meta(connection, "pause") is not None:
        return None
    row = connection.execute(
        "SELECT j.* FROM jobs j JOIN campaigns c ON c.id = j.campaign_id WHERE j.state = 'queued' "
        "AND c.paused IS NULL AND c.state = 'active' AND NOT EXISTS "
        "(SELECT 1 FROM attempts a WHERE a.job_id = j.id AND a.state = 'open') "
        "ORDER BY j.campaign_id, j.position LIMIT 1"
    ).fetchone()
    if row is None or not _in_time(connection, row):
        return None
    settings = _settings(connection, row["campaign_id"])
    if lane >= len(settings.lanes):
        return None
    attempt = attempts.open_attempt(connection, row, lane, container_name(settings.lanes[lane]))
    return _order(row, attempt, lane, settings)


def _in_time(connection: sqlite3.Connection, job: sqlite3.Row) -> bool:
    """With `shutdown --at`, nothing starts whose median duration so far would overrun the time."""
    order = _shutdown_order(connection)
    if order is None or not order["at"]:
        return order is None
    rows = connection.execute(
        "SELECT started_at, closed_at FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "WHERE a.state = 'closed' AND j.campaign_id = ?",
        (job["campaign_id"],),
    ).fetchall()
    spent = sorted(seconds(row["closed_at"]) - seconds(row["started_at"]) for row in rows)
    expected = spent[len(spent) // 2] if spent else 0.0
    return time.time() + expected <= seconds(order["at"])


def order_of(connection: sqlite3.Connection, attempt: str) -> Order:
    """What an attempt of the store was told to run."""
    row = connection.execute(
        "SELECT j.*, a.lane FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id = ?", (attempt,)
    ).fetchone()
    return _order(row, attempt, row["lane"], _settings(connection, row["campaign_id"]))


def _order(job: sqlite3.Row, attempt: str, lane: int, settings: Settings) -> Order:
    spec = JobSpec.model_validate_json(job["spec"])
    return Order(attempt, job["id"], job["task_id"], spec, settings, lane, job["patch"])


def _settings(connection: sqlite3.Connection, campaign: int) -> Settings:
    row = connection.execute("SELECT settings FROM campaigns WHERE id = ?", (campaign,)).fetchone()
    return Settings.model_validate_json(row["settings"])


def _newest_settings(connection: sqlite3.Connection) -> Settings | None:
    """Of the campaign that has work or something to clean up; else None."""
    row = connection.execute(
        "SELECT c.settings FROM campaigns c WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.campaign_id = c.id AND "
        "(j.state IN ('queued', 'held', 'running') OR EXISTS "
        "(SELECT 1 FROM attempts a WHERE a.job_id = j.id AND a.state != 'closed'))) ORDER BY c.id LIMIT 1"
    ).fetchone()
    return None if row is None else Settings.model_validate_json(row["settings"])


def _next_image(connection: sqlite3.Connection) -> frozenset[str]:
    """The image of the job that is next; empty where none is."""
    row = connection.execute(
        "SELECT image FROM jobs WHERE state = 'queued' ORDER BY campaign_id, position LIMIT 1"
    ).fetchone()
    return frozenset() if row is None else frozenset({row["image"]})


def _lane_count(connection: sqlite3.Connection) -> int:
    settings = _newest_settings(connection)
    return 0 if settings is None else len(settings.lanes)


def _lane_gpus(connection: sqlite3.Connection) -> list[str]:
    settings = _newest_settings(connection)
    return [] if settings is None else [gpu for lane in settings.lanes for gpu in lane.gpus]


def _has_work(connection: sqlite3.Connection) -> bool:
    return query.tally(connection).left > 0


def _try_end(connection: sqlite3.Connection) -> bool:
    """End only if no command came in meanwhile; whoever sends one later finds the lock free."""
    if commands.pending(connection) or _has_work(connection):
        return False
    _say_end(connection, "nothing is left to do")
    return True


def _shutdown_order(connection: sqlite3.Connection) -> dict[str, str] | None:
    value = db.meta(connection, "shutdown")
    if value is None:
        return None
    order: dict[str, str] = json.loads(str(value))
    if order["at"] and time.time() < seconds(order["at"]) and _has_work(connection) and not order["now"]:
        return {**order, "waiting": "yes"}
    return order


def _end_on_order(connection: sqlite3.Connection) -> bool:
    order = _shutdown_order(connection)
    if order is None or order.get("waiting"):
        return False
    db.set_meta(connection, "shutdown", None)
    _say_end(connection, f"shut down by {order['by']}")
    return True


def _beat(connection: sqlite3.Connection, beat: live.LiveRunner) -> None:
    """A heartbeat; none after our own last word."""
    old = live.get(connection, live.RUNNER_KEY)
    if old is None or (old[1]["pid"], old[1]["state"]) != (beat.pid, "ending"):
        live.put(connection, live.RUNNER_KEY, beat)


def _say_end(connection: sqlite3.Connection, why: str) -> None:
    events.add(connection, "runner", f"the runner ends: {why}")
    live.put(connection, live.RUNNER_KEY, live.LiveRunner(os.getpid(), "ending"))


def _stops(connection: sqlite3.Connection) -> set[str]:
    return {
        row["id"] for row in connection.execute("SELECT id FROM attempts WHERE state = 'open' AND stop IS NOT NULL")
    }


def _tripped_by(connection: sqlite3.Connection, failure: str | None) -> bool:
    state = breaker.read(connection)
    return state is not None and failure is not None and state.failure == failure
