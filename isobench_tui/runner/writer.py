"""The runner's one writing connection, in a thread of its own, so that a slow disk never stops the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from isobench_tui.store.db import create_store, transaction
from isobench_tui.store.workspace import Workspace

P = ParamSpec("P")
T = TypeVar("T")


class Writer:
    """Runs functions of a connection one after another, each inside a transaction."""

    def __init__(self, workspace: Workspace) -> None:
        self._thread = ThreadPoolExecutor(1, "store")
        self._connection = self._thread.submit(create_store, workspace).result()

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`function(connection, …)` in a transaction; returns when it is committed."""
        return await self._submit(False, lambda: function(self._connection, *args, **kwargs))

    async def durable(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `run`, and on the disk before it returns."""
        return await self._submit(True, lambda: function(self._connection, *args, **kwargs))

    async def plain(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """`function(connection)` outside a transaction, for what makes its own."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, function, self._connection))

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    async def _submit(self, durable: bool, call: Callable[[], T]) -> T:
        def work() -> T:
            with transaction(self._connection, durable=durable):
                return call()

        # shielded: a cancelled task must not leave us unsure whether its write happened
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
