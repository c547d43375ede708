"""The commands that steer: written to the store, executed by the runner, or here where no runner lives."""

from __future__ import annotations

import argparse
import sqlite3
import time
from datetime import datetime, timedelta
from typing import Any

from isobench_tui.store import commands, db, query
from isobench_tui.store.answer import OK, Answer, Rejected
from isobench_tui.store.clock import stamp
from isobench_tui.store.selectors import Selector
from isobench_tui.store.workspace import Workspace, find

POLL_S = 0.1


def pause(options: argparse.Namespace) -> int:
    return _call(options, {"campaign": options.campaign, "now": options.now})


def resume(options: argparse.Namespace) -> int:
    return _call(options, {"campaign": options.campaign})


def cancel(options: argparse.Namespace) -> int:
    return _call(options, {"campaign": options.campaign}, saw=True)


def shutdown(options: argparse.Namespace) -> int:
    return _call(options, {"now": options.now, "at": _time(options.at) if options.at else None})


def select(options: argparse.Namespace) -> int:
    """skip, retry, hold, release, stop, move: a selection of jobs."""
    args = Selector(tuple(options.selectors), options.campaign, options.failed).as_args()
    if options.command == "move":
        args["to"] = "first" if options.first else "last" if options.last else "after"
        args["after"] = options.after
    return _call(options, args, saw=options.command in {"skip", "stop"})


def _call(options: argparse.Namespace, args: dict[str, Any], *, saw: bool = False) -> int:
    workspace = find(options.workspace)
    connection = db.open_store(workspace)
    if options.command == "shutdown" and not workspace.locked():
        print("no runner is alive in this workspace")
        return OK
    if saw:
        args["saw"] = [row["id"] for row in query.open_attempts(connection)]
    answer = commands.call(workspace, connection, options.command, args)
    if answer.exit_code != OK:
        raise Rejected(answer.text, answer.exit_code)
    print(answer.text)
    if getattr(options, "wait", False):
        _wait(workspace, connection, answer)
    elif not workspace.locked() and query.waiting(connection, None):
        print("no runner is alive: `isobench run` goes on with the queue")
    return OK


def _wait(workspace: Workspace, connection: sqlite3.Connection, answer: Answer) -> None:
    """Until the effect is there: the attempts that it met are over (their jobs may run again), or the runner gone."""
    ending = answer.data.get("state") == "ending"
    met = set(answer.data.get("attempts") or ())
    while workspace.locked():
        left = {row["id"] for row in connection.execute("SELECT id FROM attempts WHERE state != 'closed'")}
        if not ending and not left & met:
            return
        time.sleep(POLL_S)


def _time(text: str) -> str:
    """A time of day (the next one) or an ISO 8601 time, as the store writes it. Raises Rejected."""
    try:
        when = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        try:
            clock = time.strptime(text, "%H:%M")
        except ValueError:
            raise Rejected(f"{text!r} is no time: write HH:MM or ISO 8601, for example 2026-01-24T18:00") from None
        today = datetime.now().astimezone()
        when = today.replace(hour=clock.tm_hour, minute=clock.tm_min, second=0, microsecond=0)
        if when <= today:
            when += timedelta(days=1)
    if when.timestamp() < time.time():
        raise Rejected(f"{text} is over already")
    return stamp(when.timestamp())
