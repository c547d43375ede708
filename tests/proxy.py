"""A proxy that makes a real server slow, silent or faulty: a registry on TCP, an engine on its unix socket.

It runs in a thread with an event loop of its own, so that both plain and async tests can use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.[01]\r\n")
_STEP = 0.02
_CHUNK = 16 * 1024


@dataclass
class Rule:
    """What happens to requests whose `METHOD path` matches `pattern`, at most `times` of them.

    `request`: held back until `release`; `answer`: passed on, but the answer is held back; an int: answered with that
    HTTP status and not passed on.
    """

    pattern: str
    action: Literal["request", "answer"] | int
    times: int = 1_000_000
    seen: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.released.set()


class Proxy:
    """Passes connections on to `target`. Use as a context manager.

    `rate` limits what comes back, in bytes per second and connection (None: no limit); `stalled` stops it.
    """

    def __init__(self, target: tuple[str, int] | Path, listen: Path | None = None) -> None:
        self._target = target
        self._listen = listen
        self._rules: list[Rule] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.rate: float | None = None
        self.stalled = False
        self.passed = 0
        """Bytes that came back through this proxy."""
        self.open = 0
        """Connections open now."""
        self.port = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        for rule in self._rules:
            rule.release()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        if self._listen is not None:
            self._listen.unlink(missing_ok=True)

    def rule(self, pattern: str, action: Literal["request", "answer"] | int, times: int = 1_000_000) -> Rule:
        """Add a rule; the first that matches wins."""
        rule = Rule(pattern, action, times)
        self._rules.append(rule)
        return rule

    async def _start(self) -> None:
        if self._listen is not None:
            self._server: asyncio.Server = await asyncio.start_unix_server(self._serve, self._listen)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            if isinstance(self._target, Path):
                up_reader, up_writer = await asyncio.open_unix_connection(self._target)
            else:
                up_reader, up_writer = await asyncio.open_connection(*self._target)
            with contextlib.closing(up_writer):
                await self._both(_Connection(self, reader, writer, up_reader, up_writer))
        except (OSError, asyncio.CancelledError):
            pass  # a side went away, or the test ended; streams of Python 3.11 log a cancelled handler as an error
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _both(self, connection: _Connection) -> None:
        back = asyncio.ensure_future(connection.back())
        try:
            await connection.forth()
            if connection.held:
                await back
        finally:
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await back

    def match(self, line: str) -> Rule | None:
        for rule in self._rules:
            if rule.seen < rule.times and re.search(rule.pattern, line):
                rule.seen += 1
                return rule
        return None


@dataclass
class _Connection:
    proxy: Proxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    up_reader: asyncio.StreamReader
    up_writer: asyncio.StreamWriter
    held: Rule | None = None
    """Rule that holds the next answer back."""

    async def forth(self) -> None:
        # Clients do not pipeline: a chunk that starts like a request is one.
        while chunk := await self.reader.read(_CHUNK):
            request = _REQUEST.match(chunk)
            rule = self.proxy.match(b" ".join(request.groups()).decode()) if request else None
            if rule is not None and isinstance(rule.action, int):
                reply = b'{"errors":[{"code":"UNAVAILABLE","message":"proxy rule"}]}'
                head = f"HTTP/1.1 {rule.action} Rule\r\nContent-Type: application/json\r\n"
                self.writer.write(f"{head}Content-Length: {len(reply)}\r\n\r\n".encode() + reply)
                await self.writer.drain()
                continue
            if rule is not None and rule.action == "request":
                await _wait(rule.released.is_set)
            elif rule is not None:
                self.held = rule
            self.up_writer.write(chunk)
            await self.up_writer.drain()

    async def back(self) -> None:
        while chunk := await self.up_reader.read(_CHUNK):
            if self.held is not None:
                await _wait(self.held.released.is_set)
                self.held = None
            await _wait(lambda: not self.proxy.stalled)
            if self.proxy.rate is not None:
                await asyncio.sleep(len(chunk) / self.proxy.rate)
            self.proxy.passed += len(chunk)
            self.writer.write(chunk)
            await self.writer.drain()
        self.writer.close()


async def _wait(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - other threads make it true
        await asyncio.sleep(_STEP)
