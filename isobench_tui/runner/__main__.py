"""`python -m isobench_tui.runner --workspace DIR`: the background process that works the queue."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

from isobench_tui.runner.beside import beside
from isobench_tui.runner.notices import Notices
from isobench_tui.runner.safekeeping import Safekeeping
from isobench_tui.runner.scheduler import Scheduler
from isobench_tui.runner.watchdog import Watchdog
from isobench_tui.runner.writer import RETRY_S, StoreFull, Writer
from isobench_tui.store import backups, db, events, live
from isobench_tui.store.workspace import Locked, Workspace, WorkspaceError

ROOM = 1 << 20
"""Bytes that must be free before a runner opens the database: its index in shared memory, a first transaction."""


async def _work(workspace: Workspace) -> None:
    writer = Writer(workspace)
    reader = db.connect(workspace.database)
    try:
        uuid = str(await writer.run(db.meta, "uuid"))
        keeper, notices = Safekeeping(workspace, writer), Notices(workspace, writer)

        async def busy() -> bool:
            return await keeper.busy() or await notices.busy()

        scheduler = Scheduler(workspace, writer, uuid, busy=busy)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _leave, scheduler, writer)
        await writer.run(db.set_meta, "shutdown", None)
        await writer.run(events.add, "runner", f"the runner starts, pid {os.getpid()}")
        async with (
            Watchdog(workspace).watching(),
            beside(writer, {"the keeper of backups": keeper.run, "the teller of notices": notices.run}),
        ):
            await scheduler.run(reader)
    finally:
        reader.close()
        writer.close()


def _leave(scheduler: Scheduler, writer: Writer) -> None:
    writer.leave()
    scheduler.ending.set()


def _outlived(workspace: Workspace) -> bool:
    """Wait for the end of another runner; False if that was an orderly one, which shall be the end of the work."""
    if not workspace.locked():
        return True
    workspace.wait()
    with contextlib.closing(db.open_store(workspace)) as connection:
        beat = live.get(connection, live.RUNNER_KEY)
    return beat is None or beat[1]["state"] != "ending"


def _has_room(workspace: Workspace) -> bool:
    """Whether the workspace's disk takes ROOM bytes. Raises OSError for anything but want of space."""
    probe = workspace.root / ".room"
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, ROOM)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        return False
    else:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _run(workspace: Workspace) -> None:
    """Work the queue. A disk that is full at the start is waited for: on it a sound database looks damaged."""
    workspace.create()
    while True:
        while not _has_room(workspace):
            time.sleep(RETRY_S)
        try:
            with workspace.lock("isobench runner"), contextlib.suppress(asyncio.CancelledError):
                backups.verify(workspace)
                asyncio.run(_work(workspace))
            return
        except (OSError, sqlite3.OperationalError, db.StoreError):
            if _has_room(workspace):
                raise


def main() -> int:
    """0: nothing is left to do, or told to end; 2: it cannot work there; 5: another runner does."""
    parser = argparse.ArgumentParser(prog="isobench runner")
    parser.add_argument("--workspace", required=True, type=Path)
    parser.add_argument("--after-others", action="store_true", help="take the place of a living runner when it dies")
    options = parser.parse_args()
    workspace = Workspace(options.workspace.resolve())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    try:
        if options.after_others and not _outlived(workspace):
            return 0
        _run(workspace)
    except Locked as locked:
        print(locked, file=sys.stderr)  # noqa: T201 - runner.log is our only output
        return 5
    except (WorkspaceError, StoreFull) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
