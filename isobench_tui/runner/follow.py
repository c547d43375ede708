"""Follow a running driver: its events into the store, its logs' index, live values, the runner's own deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isobench_tui.engine.base import EngineError, EngineUnreachable, Exit, Handle
from isobench_tui.engine.driver import is_full
from isobench_tui.engine.job import SERVER_LOG, SETUP_LOG
from isobench_tui.results.live import latest
from isobench_tui.runner import faults
from isobench_tui.runner.eventlog import EventLog
from isobench_tui.runner.logs import LogKeeper
from isobench_tui.runner.services import Services
from isobench_tui.store import attempts, live
from isobench_tui.store.clock import stamp
from isobench_tui.store.rundir import Hostile, RunDir

if TYPE_CHECKING:
    from isobench_tui.runner.attempt import Order

TICK_S = 0.2
LIVE_S = 1.0
TAIL = 64 * 1024
"""Bytes of the server's log in which its newest periodic line is looked for."""

LAST_WORD_S = 2.0
"""How long the engine may take to say that a driver which missed its deadline has ended already."""

_PHASES = ("setup", "server", "measure")


def _boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Follower:
    """`run` returns the driver's exit; `missed` is set where the runner itself had to end it."""

    services: Services
    order: Order
    run_dir: RunDir
    handle: Handle
    missed: tuple[str, float] | None = None
    """(phase, its deadline) that passed with the driver still running."""
    starved: str | None = None
    """A folder whose disk was seen full meanwhile."""
    log: EventLog = field(init=False)
    _keeper: LogKeeper = field(init=False)
    phase: str = "setup"
    """Of the driver, as its events tell."""
    _since: float = field(default_factory=time.time)
    _entered: float = field(default_factory=_boot)
    """When the phase began on the boot clock, which the driver shares with us: the wall clock may jump."""
    _shown: float = 0.0

    def __post_init__(self) -> None:
        self.log = EventLog(self.run_dir)
        total = self.order.settings.warmups + self.order.settings.trials
        names = (SETUP_LOG, SERVER_LOG, *(f"client-{n:02d}.log" for n in range(total)))
        self._keeper = LogKeeper(self.run_dir, names, self.order.settings.log_cap)

    async def run(self) -> Exit:
        waiting = asyncio.create_task(self.services.engine.wait(self.handle))
        began, waited = time.monotonic(), self.services.writer.waited
        known = await self.services.writer.run(_known_phases, self.order.attempt)
        disks = [str(self.run_dir.path)]
        with contextlib.suppress(EngineError):
            disks.append(str((await self.services.engine.storage()).path))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=TICK_S)
                self.starved = self.starved or next(filter(is_full, disks), None)
                await self._take_events(known)
                self._keeper.tick()
                if done:
                    return waiting.result()
                if self._late(began, self.services.writer.waited - waited):
                    done, _ = await asyncio.wait({waiting}, timeout=LAST_WORD_S)
                    if done:  # it had ended while we could not look: this process was stopped, or starved
                        await self._take_events(known)
                        return waiting.result()
                    self.missed = (self.phase, float(getattr(self.order.settings.timeouts, self.phase)))
                    try:
                        return await self.services.engine.stop(self.handle, self.order.settings.timeouts.grace)
                    except EngineUnreachable:  # its containers mostly end with it: no deadline of theirs says why
                        self.missed = None
                        raise
                await self._show_live()
        finally:
            waiting.cancel()

    async def _take_events(self, known: set[tuple[str, str]]) -> None:
        for event in await asyncio.to_thread(self.log.read):
            if event["event"] != "phase" or event.get("phase") not in _PHASES:
                continue
            phase, at = str(event["phase"]), stamp(float(event["at"]))
            if event.get("state") == "start":
                self.phase, self._since = phase, float(event["at"])
                self._entered = _entered(event.get("boot"))
                if (phase, at) not in known:
                    deadline = float(getattr(self.order.settings.timeouts, phase))
                    await self.services.writer.run(attempts.start_phase, self.order.attempt, phase, deadline, at)
                await faults.point(phase)
            else:
                outcome = "ok" if event.get("ok") else "failed"
                detail = str(event.get("reason") or "")[:500]
                await self.services.writer.run(attempts.end_phase, self.order.attempt, phase, outcome, detail, at)

    def _late(self, began: float, blind: float) -> bool:
        """The driver enforces its deadlines; this is for the driver that cannot.

        `blind`: seconds for which we waited for space in the store, and so did not see the driver's events.
        """
        limits = self.order.settings.timeouts
        allowed = float(getattr(limits, self.phase)) + limits.slack + blind
        overall = limits.setup + limits.server + limits.measure + 2 * limits.slack + blind
        return _boot() - self._entered > allowed or time.monotonic() - began > overall

    async def _show_live(self) -> None:
        if self.phase != "measure" or time.monotonic() - self._shown < LIVE_S:
            return
        self._shown = time.monotonic()
        size = self.run_dir.size(SERVER_LOG)
        try:
            tail = self.run_dir.read_at(SERVER_LOG, max(0, size - TAIL), TAIL)
        except Hostile:
            return
        values = latest(tail)
        limits = self.order.settings.timeouts
        row = live.LivePhase(
            "measure",
            stamp(self._since),
            limits.measure,
            detail=_trial(self.log.last("trial")),
            tokens_per_s=values.generation_tokens_s if values else None,
            running=values.running if values else None,
            waiting=values.waiting if values else None,
        )
        await self.services.writer.run(live.put, f"phase/{self.order.attempt}", row, self.order.attempt)


def _entered(claimed: object) -> float:
    """When a phase began, as the driver claims it: never in the future, and now where it says nothing of use."""
    now = _boot()
    return min(float(claimed), now) if isinstance(claimed, int | float) and claimed > 0 else now


def _trial(event: dict[str, Any] | None) -> str:
    if event is None or not isinstance(event.get("index"), int):
        return ""
    return f"{'trial' if event.get('counted') else 'warm-up'} {event['index'] + 1}"


def _known_phases(connection: Any, attempt: str) -> set[tuple[str, str]]:
    """Phases that an earlier runner wrote of the same driver: an adopted attempt repeats none of them."""
    rows = connection.execute("SELECT phase, started_at FROM phases WHERE attempt_id = ?", (attempt,))
    return {(row["phase"], row["started_at"]) for row in rows}
