"""The runner's one writing connection, in a thread of its own, so that a slow disk never stops the event loop.

A disk that is full stops it, and only it: a write that finds no space waits, with all that come after it, until there
is some. Nothing that was acknowledged is lost, because SQLite rolled the transaction back and it is run again whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from isobench_tui.runner import faults
from isobench_tui.store import events
from isobench_tui.store.db import connect, create_store, no_room, transaction
from isobench_tui.store.workspace import Workspace

P = ParamSpec("P")
T = TypeVar("T")

RETRY_S = 0.5
"""How often a write that found no space is tried again; a try costs one failed transaction."""


class StoreFull(Exception):
    """The runner was told to leave while a write waited for space."""


class Writer:
    """Runs functions of a connection one after another, each inside a transaction.

    A function may be run again from its start where the disk was full, so it must have no effect but on the database.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._thread = ThreadPoolExecutor(1, "store")
        self._connection = self._thread.submit(create_store, workspace).result()
        self._leaving = threading.Event()
        self._waits_since: float | None = None
        self._waited = 0.0

    @property
    def waited(self) -> float:
        """Seconds for which writes have waited for space so far; moves while one waits."""
        since = self._waits_since
        return self._waited + (time.monotonic() - since if since is not None else 0.0)

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`function(connection, …)` in a transaction; returns when it is committed. After `leave`: StoreFull."""
        return await self._submit(lambda: self._commit(lambda c: function(c, *args, **kwargs), durable=False))

    async def durable(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `run`, and on the disk before it returns."""
        return await self._submit(lambda: self._commit(lambda c: function(c, *args, **kwargs), durable=True))

    async def plain(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """`function(connection)` outside a transaction, for what makes its own."""
        return await self._submit(lambda: function(self._connection))

    def leave(self) -> None:
        """From now on a write that finds no space raises StoreFull instead of waiting."""
        self._leaving.set()

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    async def _submit(self, work: Callable[[], T]) -> T:
        # shielded: a cancelled task must not leave us unsure whether its write happened
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._patiently, work))

    def _commit(self, function: Callable[[sqlite3.Connection], T], *, durable: bool) -> T:
        kind = "durable" if durable else "write"
        faults.hit(f"{kind}-begin")
        with transaction(self._connection, durable=durable):
            result = function(self._connection)
            faults.hit(f"{kind}-commit")
        faults.hit(f"{kind}-done")
        return result

    def _patiently(self, work: Callable[[], T]) -> T:
        """`work`, again and again while the disk is full."""
        while True:
            try:
                result = work()
            except sqlite3.OperationalError as error:
                if not no_room(error):
                    raise
                self._wait(error)
            else:
                if self._waits_since is not None:
                    self._go_on()
                return result

    def _wait(self, error: sqlite3.OperationalError) -> None:
        if self._waits_since is None:
            self._waits_since = time.monotonic()
            self._log(f"{self._workspace.database} cannot be written ({error}): waiting for space")
        if self._connection.in_transaction:  # its rollback failed too; a closed connection has none
            self._connection.close()
            self._connection = connect(self._workspace.database)
        if self._leaving.wait(RETRY_S):
            raise StoreFull(f"{self._workspace.database} cannot be written: {error}") from error

    def _go_on(self) -> None:
        assert self._waits_since is not None
        took = time.monotonic() - self._waits_since
        self._waits_since, self._waited = None, self._waited + took
        text = f"the database could not be written for {took:.0f} s, its disk was full; nothing is lost"
        self._log(text)
        with contextlib.suppress(sqlite3.OperationalError):  # full again: the next write waits and tells
            self._commit(lambda c: events.add(c, "disk", text, data={"seconds": round(took, 1)}), durable=False)

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError):  # runner.log lies on the same disk
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - runner.log is our only output
