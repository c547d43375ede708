"""Backups while the runner works: every hour into `backups/`, after every attempt to another mount.

Nothing here may hold up the queue: what fails is an event, told once, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from dataclasses import dataclass, field

from isobench_tui.campaign.models import Settings
from isobench_tui.runner.writer import Writer
from isobench_tui.store import backups, db, events
from isobench_tui.store.workspace import Workspace

LOOK_S = 1.0
"""How often the store is asked for attempts that have ended."""
AGAIN_S = 60.0
"""How long a target that failed is left alone."""
LIMIT_S = 1800.0
"""How long one mirror may take; then it is killed."""
REAP_S = 5.0
"""How long a killed mirror is waited for: one that hangs on a dead mount cannot die."""


@dataclass(slots=True)
class Safekeeping:
    """Runs beside the scheduler; `busy` while the newest attempts are still on their way to another mount."""

    workspace: Workspace
    writer: Writer
    _mirrored: dict[str, int] = field(default_factory=dict)
    """Target -> closed attempts of the store when it was last brought up to date."""
    _again_at: dict[str, float] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    """What was last said of a target (or of `backups`), so that a trouble is told once."""
    _stuck: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _wanted: frozenset[str] = frozenset()
    _closed: int = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._hourly()
            await self._look()
            for target in self._wanted:
                if self._mirrored.get(target) != self._closed and time.monotonic() >= self._again_at.get(target, 0.0):
                    await self._mirror(target, self._closed)
            await asyncio.sleep(LOOK_S)

    async def busy(self) -> bool:
        """Whether the runner shall not end yet; a target that fails holds nobody up."""
        await self._look()
        return any(
            self._mirrored.get(target) != self._closed and target not in self._again_at for target in self._wanted
        )

    async def _look(self) -> None:
        self._closed, self._wanted = await self.writer.plain(_closed_attempts)

    async def _hourly(self) -> None:
        if time.monotonic() < self._again_at.get("backups", 0.0) or not backups.due(self.workspace):
            return
        try:
            await asyncio.to_thread(self._take)
        except (OSError, sqlite3.Error) as error:
            self._again_at["backups"] = time.monotonic() + AGAIN_S
            await self._tell("backups", f"no backup into {self.workspace.backups}: {error}")
        else:
            await self._tell("backups", "")

    def _take(self) -> None:
        with contextlib.closing(db.connect(self.workspace.database)) as connection:
            backups.take(connection, self.workspace)

    async def _mirror(self, target: str, closed: int) -> None:
        wrong = await self._copy(target)
        if wrong:
            self._again_at[target] = time.monotonic() + AGAIN_S
            await self._tell(target, f"no copy of the workspace in {target}: {wrong}")
        else:
            self._again_at.pop(target, None)
            self._mirrored[target] = closed
            await self._tell(target, "")

    async def _copy(self, target: str) -> str:
        """Why it failed; empty if it did not."""
        stuck = self._stuck.get(target)
        if stuck is not None:
            if stuck.returncode is None:
                return "the last one still hangs"
            del self._stuck[target]
        argv = [sys.executable, "-m", "isobench_tui.store.backups", str(self.workspace.root), target]
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                _, said = await child.communicate()
        except TimeoutError:
            await self._kill(target, child)
            return f"not done within {LIMIT_S:.0f} s"
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            raise
        lines = said.decode(errors="replace").strip().splitlines()
        return "" if child.returncode == 0 else (lines[-1] if lines else f"exit code {child.returncode}")

    async def _kill(self, target: str, child: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        try:
            async with asyncio.timeout(REAP_S):
                await child.wait()
        except TimeoutError:
            self._stuck[target] = child

    async def _tell(self, key: str, trouble: str) -> None:
        """An event when a trouble comes, changes, or goes."""
        old = self._told.get(key, "")
        self._told[key] = trouble
        if trouble != old:
            place = self.workspace.backups if key == "backups" else key
            await self.writer.run(events.add, "backup", trouble or f"backups into {place} work again")


def _closed_attempts(connection: sqlite3.Connection) -> tuple[int, frozenset[str]]:
    """How many there are, and where copies of the workspace shall lie."""
    rows = connection.execute("SELECT settings FROM campaigns WHERE settings ->> 'backup_to' IS NOT NULL")
    found = (Settings.model_validate_json(row["settings"]).backup_to for row in rows)
    targets = frozenset(target for target in found if target is not None)
    if not targets:
        return 0, targets
    closed = connection.execute("SELECT count(*) AS n FROM attempts WHERE state = 'closed'").fetchone()["n"]
    return int(closed), targets
