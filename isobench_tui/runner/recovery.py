"""A starting runner squares what the store believes with what the engine holds."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from isobench_tui.engine.base import Exit, Handle
from isobench_tui.runner.eventlog import EventLog
from isobench_tui.store import events
from isobench_tui.store.rundir import RunDir
from isobench_tui.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An attempt that an earlier runner left behind."""

    attempt: str
    job: str
    lane: int
    collected: bool
    """Its result is in the store; only its cleanup is left."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """What to do with one of them."""

    left: Unfinished
    handle: Handle | None
    finished: Exit | None = None
    """The container is gone, but the driver's files say that it came to its end."""


@dataclass(frozen=True, slots=True)
class Recovery:
    takeovers: tuple[Takeover, ...]
    orphans: tuple[Handle, ...]
    """On the engine, of this workspace, and of no unfinished attempt."""


def unfinished(connection: sqlite3.Connection) -> list[Unfinished]:
    rows = connection.execute(
        "SELECT id, job_id, lane, state FROM attempts WHERE state != 'closed' ORDER BY lane, id"
    )
    return [Unfinished(row["id"], row["job_id"], row["lane"], row["state"] == "collected") for row in rows]


def reconcile(left: list[Unfinished], handles: list[Handle], workspace: Workspace) -> Recovery:
    """Adopt what lives, collect what has finished, name the orphans; reads run directories, changes nothing."""
    known = {handle.attempt: handle for handle in handles}
    takeovers = []
    for one in left:
        handle = known.pop(one.attempt, None)
        finished = None if handle else claimed_end(RunDir(workspace.run_dir(one.attempt)))
        takeovers.append(Takeover(one, handle, finished))
    return Recovery(tuple(takeovers), tuple(known.values()))


def tell(connection: sqlite3.Connection, recovery: Recovery) -> None:
    """Write the story of the recovery."""
    for one in recovery.takeovers:
        if one.left.collected:
            text = "its result was stored, cleaning up"
        elif one.handle is not None and one.handle.state == "running":
            text = "adopted: it is still running"
        elif one.handle is not None and one.handle.state == "ended":
            text = "it ended while no runner was alive, collecting"
        elif one.finished is not None:
            text = "its container is gone but its files are complete, collecting"
        else:
            text = "interrupted: it never ran"
        events.add(connection, "recovered", f"{one.left.attempt} {text}", attempt=one.left.attempt, job=one.left.job)
    for orphan in recovery.orphans:
        events.add(connection, "recovered", f"removed {orphan.name}: it belongs to no unfinished attempt")


def claimed_end(run_dir: RunDir) -> Exit | None:
    """How the driver says it ended; None where it had no last word."""
    log = EventLog(run_dir)
    log.read()
    end = log.last("end")
    if end is None or not isinstance(end.get("exit_code"), int):
        return None
    return Exit(code=end["exit_code"], claimed=True)
