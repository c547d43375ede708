"""`python -m isobench_tui.runner --workspace DIR`: the background process that works the queue."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from isobench_tui.runner.beside import beside
from isobench_tui.runner.notices import Notices
from isobench_tui.runner.safekeeping import Safekeeping
from isobench_tui.runner.scheduler import Scheduler
from isobench_tui.runner.watchdog import Watchdog
from isobench_tui.runner.writer import StoreFull, Writer
from isobench_tui.store import backups, db, events
from isobench_tui.store.workspace import Locked, Workspace, WorkspaceError


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="isobench runner")
    parser.add_argument("--workspace", required=True, type=Path)
    workspace = Workspace(parser.parse_args().workspace.resolve())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    try:
        with workspace.lock("isobench runner"), contextlib.suppress(asyncio.CancelledError):
            backups.verify(workspace)
            asyncio.run(_work(workspace))
    except Locked as locked:
        print(locked, file=sys.stderr)  # noqa: T201 - runner.log is our only output
        return 5
    except (WorkspaceError, StoreFull) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
