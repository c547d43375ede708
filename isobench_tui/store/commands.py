"""The command bus: operators write rows, whoever holds the runner's lock executes them.

A command's effect and its answer share one transaction. With no runner alive the sender takes the lock itself and
executes what is pending, so that an edit of the queue never waits for a runner.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from isobench_tui.store import queue
from isobench_tui.store.answer import USAGE, Answer, Rejected
from isobench_tui.store.clock import ago, now, seconds, stamp
from isobench_tui.store.db import transaction, writable
from isobench_tui.store.workspace import Locked, Workspace

Handler = Callable[[sqlite3.Connection, dict[str, Any], str], Answer]

EXPIRY_S = {"stop": 30.0, "cancel": 30.0, "skip": 30.0}
"""What destroys must be executed soon or not at all: Monday's key never fires on Thursday."""


def _submit(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    from isobench_tui.campaign.models import Submission
    from isobench_tui.store.submit import submit

    return submit(connection, Submission.model_validate(args), actor)


def _import(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    from isobench_tui.store.legacy import import_rows

    return import_rows(connection, args, actor)


_LARGE: dict[str, Handler] = {"submit": _submit, "import": _import}
"""Commands that bring whole campaigns: once they are done, only the name stays in their row."""

_HANDLERS: dict[str, Handler] = {
    "pause": queue.pause,
    "resume": queue.resume,
    "skip": queue.skip,
    "cancel": queue.cancel,
    "stop": queue.stop,
    "retry": queue.retry,
    "hold": queue.hold,
    "release": queue.release,
    "move": queue.move,
    "shutdown": queue.shutdown,
    "allow_prune": queue.allow_prune,
}


def call(
    workspace: Workspace, connection: sqlite3.Connection, name: str, args: dict[str, Any], *, patience: float = 60.0
) -> Answer:
    """Send a command and return its answer once it is durable.

    `patience`: seconds to wait for a living runner that does not answer; then the command is withdrawn.
    """
    if not writable(workspace):
        raise Rejected(f"{workspace.root} is not writable for you: it can be read, but not steered")
    key = send(connection, name, args)
    deadline = time.monotonic() + patience
    while True:
        answer = answer_of(connection, key)
        if answer is not None:
            return answer
        with contextlib.suppress(Locked), workspace.lock(f"isobench {name}"):
            drain(connection)
            continue
        if time.monotonic() > deadline:
            return _withdraw(connection, key)
        time.sleep(0.05)


def send(connection: sqlite3.Connection, name: str, args: dict[str, Any]) -> int:
    """Append a command; returns its id."""
    life = EXPIRY_S.get(name)
    expires = stamp(time.time() + life) if life else None
    with transaction(connection):
        cursor = connection.execute(
            "INSERT INTO commands (name, args, actor, at, expires_at) VALUES (?,?,?,?,?)",
            (name, json.dumps(args), actor(), now(), expires),
        )
    return int(cursor.lastrowid or 0)


def drain(connection: sqlite3.Connection) -> int:
    """Execute every pending command, each in a transaction of its own; returns how many. Caller holds the lock."""
    rows = connection.execute("SELECT * FROM commands WHERE state = 'pending' ORDER BY id").fetchall()
    for row in rows:
        _execute(connection, row)
    return len(rows)


def pending(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM commands WHERE state = 'pending'").fetchone() is not None


def answer_of(connection: sqlite3.Connection, key: int) -> Answer | None:
    """The answer of a command, None while it is pending."""
    row = connection.execute("SELECT * FROM commands WHERE id = ?", (key,)).fetchone()
    if row["state"] == "pending":
        return None
    stored = json.loads(row["answer"])
    return Answer(stored["text"], int(row["exit_code"]), stored["data"])


def actor() -> str:
    """Who sends: user, and terminal or pid."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    try:
        return f"{user}@{os.ttyname(0).removeprefix('/dev/')}"
    except OSError:
        return f"{user}@pid{os.getpid()}"


def _execute(connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    try:
        with transaction(connection, durable=True):
            answer = _run(connection, row)
            _settle(connection, row["id"], "done", answer)
    except Rejected as rejected:
        with transaction(connection, durable=True):
            _settle(connection, row["id"], "rejected", rejected.answer)
    except sqlite3.Error:
        raise
    except Exception as error:  # one bad row must not end every runner that meets it
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        answer = Answer(f"{row['name']} failed and changed nothing: {why}", USAGE)
        with transaction(connection, durable=True):
            _settle(connection, row["id"], "rejected", answer)


def _run(connection: sqlite3.Connection, row: sqlite3.Row) -> Answer:
    if row["expires_at"] and seconds(row["expires_at"]) < time.time():
        raise Rejected(
            f"{row['name']} expired: it was sent {ago(row['at']):.0f} s ago and nothing was there to do it"
        )
    args: dict[str, Any] = json.loads(row["args"])
    if row["name"] in _LARGE:
        answer = _LARGE[row["name"]](connection, args, row["actor"])
        connection.execute(
            "UPDATE commands SET args = ? WHERE id = ?", (json.dumps({"name": args["name"]}), row["id"])
        )
        return answer
    handler = _HANDLERS.get(row["name"])
    if handler is None:
        raise Rejected(f"unknown command {row['name']!r}: this runner is older than the command line; restart it")
    return handler(connection, args, row["actor"])


def _settle(connection: sqlite3.Connection, key: int, state: str, answer: Answer) -> None:
    connection.execute(
        "UPDATE commands SET state = ?, exit_code = ?, answer = ?, answered_at = ? WHERE id = ?",
        (state, answer.exit_code, json.dumps({"text": answer.text, "data": answer.data}), now(), key),
    )


def _withdraw(connection: sqlite3.Connection, key: int) -> Answer:
    with transaction(connection, durable=True):
        done = answer_of(connection, key)
        if done is not None:
            return done
        answer = Answer("the runner holds its lock but does not answer; the command was withdrawn", USAGE)
        _settle(connection, key, "rejected", answer)
        return answer
