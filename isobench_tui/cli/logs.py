"""`logs`: the files of an attempt in the order of its phases, cleaned of what a terminal would obey."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import time
from dataclasses import dataclass

from isobench_tui.report.text import safe
from isobench_tui.store import db, query, secrets
from isobench_tui.store.answer import NOT_FOUND, OK, Rejected
from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.runlogs import log_names
from isobench_tui.store.selectors import Selector, resolve
from isobench_tui.store.workspace import Workspace, find

CHUNK = 256 * 1024
"""Bytes that are read at once, and of a line that are looked at."""
MAX_LINE = 4096
"""Characters of a line that are shown."""
POLL_S = 0.2

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")


@dataclass(slots=True)
class _Tail:
    """How far one log was printed."""

    offset: int = 0
    number: int = 0
    line: bytes = b""
    """Of the line that has not ended, at most CHUNK bytes."""
    more: int = 0
    """Bytes of it behind these."""

    def add(self, part: bytes) -> None:
        """More of the line; what a carriage return has covered goes."""
        covered = part.rstrip(b"\r").rfind(b"\r") + 1
        if covered:
            self.line, self.more = b"", 0
        fits = part[covered:][: CHUNK - len(self.line)]
        self.line += fits
        self.more += len(part) - covered - len(fits)

    def end(self) -> tuple[bytes, int]:
        """The line and how many bytes more it had; the next one begins."""
        ended, self.line, self.more = (self.line, self.more), b"", 0
        self.number += 1
        return ended


def logs(options: argparse.Namespace) -> int:
    workspace = find(options.workspace)
    connection = db.open_store(workspace)
    job = _choose(connection, options.selector)
    printer = _Printer(as_json=options.json, only=options.file)
    shown: str | None = None
    while True:
        # the state is read before the attempts and these before the files: what came before the end is surely seen
        over = not options.follow or _ended(workspace, connection, job["id"])
        for attempt in _attempts(connection, job["id"], options, shown):
            if attempt != shown:
                shown = attempt
                printer.start(attempt)
            printer.print_new(RunDir(workspace.run_dir(attempt)))
        if over:
            break
        time.sleep(POLL_S)
    printer.flush()
    if shown is None:
        raise Rejected(f"{job['id']} has not run yet", NOT_FOUND)
    if options.file is not None and not printer.found:
        raise Rejected(
            f"this attempt has no log {options.file!r}; the logs are setup, server, client-00, …", NOT_FOUND
        )
    return OK


def _choose(connection: sqlite3.Connection, text: str) -> sqlite3.Row:
    """Of several jobs the running one, else the one whose attempt is newest, else the first in the queue."""
    jobs = resolve(connection, Selector((text,)))
    newest = {
        row["job_id"]: row["at"]
        for row in connection.execute("SELECT job_id, max(started_at) AS at FROM attempts GROUP BY job_id")
    }
    best = max(jobs, key=lambda job: (job["running"] is not None, newest.get(job["id"], "")))
    if len(jobs) > 1:
        name = f"{best['commit_sha'][:8]}:{best['agent'] or best['arm']}#{best['repeat'] + 1}"
        print(f"isobench: {len(jobs)} jobs match, showing {best['id']} ({name})", file=sys.stderr)
    return best


def _attempts(connection: sqlite3.Connection, job: str, options: argparse.Namespace, shown: str | None) -> list[str]:
    """What to print now: the newest attempt, or all from the one shown before, whose last lines may be new."""
    rows = query.attempts(connection, job)
    if options.attempt is not None:
        key = next((str(row["id"]) for row in rows if row["number"] == options.attempt), None)
        if key is None:
            raise Rejected(f"{job} has no attempt {options.attempt}; it has {len(rows)}", NOT_FOUND)
        return [key]
    keys = [str(row["id"]) for row in rows]
    return keys[keys.index(shown) if shown else -1 :]


def _ended(workspace: Workspace, connection: sqlite3.Connection, job: str) -> bool:
    state = connection.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()["state"]
    return state in {"done", "skipped"} or not workspace.locked()


class _Printer:
    """Prints what is new of every log of an attempt, complete lines first."""

    def __init__(self, *, as_json: bool, only: str | None) -> None:
        self._json = as_json
        self._only = only.removesuffix(".log") if only else None
        self._tails: dict[str, _Tail] = {}
        self._hostile: set[str] = set()
        self._redact = secrets.redactor()

    def start(self, attempt: str) -> None:
        self.flush()
        self._tails, self._hostile = {}, set()
        if not self._json:
            print(f"== {attempt}", flush=True)

    @property
    def found(self) -> bool:
        """Whether there was any log to print."""
        return bool(self._tails)

    def print_new(self, run_dir: RunDir) -> None:
        for name in log_names(run_dir.names()):
            if self._only not in (None, name.removesuffix(".log")):
                continue
            tail = self._tails.setdefault(name, _Tail())
            while data := self._read(run_dir, name, tail):
                tail.offset += len(data)
                first, *others = data.split(b"\n")
                tail.add(first)
                for part in others:
                    self._print(name, tail)
                    tail.add(part)
        sys.stdout.flush()

    def flush(self) -> None:
        """Last lines that never got their newline."""
        for name, tail in self._tails.items():
            self._end_line(name, tail)

    def _end_line(self, name: str, tail: _Tail) -> None:
        if tail.line:
            self._print(name, tail)

    def _print(self, name: str, tail: _Tail) -> None:
        line, more = tail.end()
        line = line.strip(b"\0")  # what a hole leaves of its first and last block
        # of a progress bar only what would still be on the screen
        last = line.rstrip(b"\r").rsplit(b"\r", 1)[-1].decode(errors="replace")
        text = self._redact(safe(_CONTROL.sub("", last).expandtabs()))
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]} … {len(text) - MAX_LINE + more} more characters"
        if self._json:
            print(json.dumps({"file": name, "line": tail.number, "text": text}))
        else:
            print(f"{name[:-4]:<9} | {text}")

    def _read(self, run_dir: RunDir, name: str, tail: _Tail) -> bytes:
        """What comes next, at most up to the next hole; a hole is said and passed over."""
        try:
            start, end = run_dir.extent(name, tail.offset)
            if start > tail.offset:
                self._end_line(name, tail)
                tail.add(b"[%d bytes were dropped to keep this log below its cap]" % (start - tail.offset))
                self._print(name, tail)
                tail.offset = start
            return run_dir.read_at(name, tail.offset, min(CHUNK, end - start))
        except FileNotFoundError:
            return b""
        except Hostile as error:
            if name not in self._hostile:
                self._hostile.add(name)
                print(f"isobench: {error}", file=sys.stderr)
            return b""
