"""Plain text that follows a workspace: events as they are written, phases as they change, downloads as they move."""

from __future__ import annotations

import sqlite3
import sys
import time

from isobench_tui.report.text import bytes_text, clock, safe
from isobench_tui.store import events, live, query
from isobench_tui.store.answer import FAILURES, OK
from isobench_tui.store.clock import ago
from isobench_tui.store.words import count_jobs
from isobench_tui.store.workspace import Workspace

PULL_EVERY_S = 5.0


class Follower:
    """Prints what is new at each `step`; `summary` prints the end and returns the exit code."""

    def __init__(self, workspace: Workspace, connection: sqlite3.Connection, campaign: str | None) -> None:
        self._workspace = workspace
        self._connection = connection
        self.campaign = campaign
        self._version = -1
        self._last = events.last_id(connection)
        self._phases: dict[str, str] = {}
        self._pulled = 0.0
        self._told_dead = False

    def step(self) -> bool:
        """Print what is new; True when nothing is left to follow."""
        version = query.data_version(self._connection)
        if version != self._version:
            self._version = version
            self._print_events()
            self._print_phases()
            sys.stdout.flush()
        if not query.waiting(self._connection, self.campaign):
            self._print_events()
            return not self._cleaning()
        self._tell_if_dead()
        return False

    def summary(self) -> int:
        """One line on how it came out. 0: all valid; 1: anything failed, invalid or held."""
        found = query.tally(self._connection, self.campaign)
        parts = [
            f"{number} {word}"
            for number, word in (
                (found.valid, "valid"),
                (found.invalid, "invalid"),
                (found.failed, "failed"),
                (found.skipped, "skipped"),
                (found.held, "held"),
            )
            if number
        ]
        print(f"{count_jobs(found.total)}: {', '.join(parts) or 'none ended'}")
        return FAILURES if found.invalid or found.failed or found.held else OK

    def _cleaning(self) -> bool:
        """The last attempt's container may still be on its way out while the runner lives."""
        return self._workspace.locked() and bool(
            self._connection.execute("SELECT 1 FROM attempts WHERE state != 'closed'").fetchone()
        )

    def _print_events(self) -> None:
        for event in events.since(self._connection, self._last):
            self._last = event["id"]
            if self.campaign is None or event["campaign"] in (None, self.campaign):
                print(f"{clock(event['at'])}  {safe(event['text'])}")

    def _print_phases(self) -> None:
        for row in query.open_attempts(self._connection):
            name = f"{row['commit_sha'][:8]}:{row['agent'] or row['arm']}#{row['repeat'] + 1}"
            phase = query.live_phase(self._connection, row["id"])
            if phase is not None and self._phases.get(row["id"]) != phase.phase:
                self._phases[row["id"]] = phase.phase
                print(f"{clock(phase.since)}  {name} {phase.phase}")
            if row["phase"] == "image":
                self._print_fetch(f"{name} pull", query.live_pull(self._connection, row["id"]))
            elif row["phase"] == "model":
                self._print_fetch(f"{name} model", query.live_model(self._connection, row["id"]))

    def _print_fetch(self, what: str, pull: live.LivePull | live.LiveModel | None) -> None:
        if pull is None or time.monotonic() - self._pulled < PULL_EVERY_S:
            return
        self._pulled = time.monotonic()
        text = bytes_text(pull.done)
        if pull.total:
            text += f" of {bytes_text(pull.total)} ({100 * pull.done / pull.total:.0f} %)"
        if pull.rate:
            text += f", {bytes_text(pull.rate)}/s"
        if pull.eta is not None:
            text += f", {pull.eta:.0f} s left"
        if pull.stalled_since:
            text += f", no byte since {clock(pull.stalled_since)}"
        print(f"{'':8}  {what} {text}")

    def _tell_if_dead(self) -> None:
        if self._workspace.locked() or self._told_dead:
            return
        beat = self._connection.execute("SELECT at FROM live WHERE key = 'runner'").fetchone()
        since = f" (last heartbeat {ago(beat['at']):.0f} s ago)" if beat else ""
        print(f"{'':8}  no runner is alive{since}; `isobench run` starts one")
        self._told_dead = True
