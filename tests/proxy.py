"""A proxy that makes a real server slow, silent or faulty: a registry on TCP, an engine on its unix socket.

It runs in a thread with an event loop of its own, so that both plain and async tests can use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.[01]\r\n")
Action = Literal["request", "answer", "cut", "damage"]
_STEP = 0.02
_CHUNK = 16 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Rule:
    """What happens to requests whose `METHOD path` matches `pattern`, at most `times` of them.

    `request`: held back until `release`; `answer`: passed on, but the answer is held back; `cut`: passed on, but the
    connection is reset after `at` bytes of the answer's body; `damage`: a bit of the body's byte `at` is turned over;
    an int: answered with that HTTP status, `head` (whole lines) and `body`, and not passed on.
    """

    pattern: str
    action: Action | int
    times: int = 1_000_000
    at: int = 0
    head: str = ""
    body: bytes = b'{"errors":[{"code":"UNAVAILABLE","message":"proxy rule"}]}'
    heads: list[str] = field(default_factory=list)
    """The requests that it met, each with its headers."""
    seen: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.released.set()


class Proxy:
    """Passes connections on to `target`. Use as a context manager.

    `rate` limits what comes back, in bytes per second and connection (None: no limit), `bandwidth` that of all
    connections together; `stalled` stops it.
    """

    def __init__(self, target: tuple[str, int] | Path, listen: Path | None = None) -> None:
        self._target = target
        self._listen = listen
        self._rules: list[Rule] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.rate: float | None = None
        self.bandwidth: float | None = None
        self._clear_at = 0.0
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

    def rule(self, pattern: str, action: Action | int, times: int = 1_000_000, **fields: Any) -> Rule:
        """Add a rule; the first that matches wins. `fields`: further ones of Rule."""
        rule = Rule(pattern, action, times, **fields)
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

    def want_token(self, token: str) -> None:
        """Ask for a bearer token as registries do (distribution, spec/auth); /token gives it to whoever asks."""
        realm = f"http://127.0.0.1:{self.port}/token"
        head = f'WWW-Authenticate: Bearer realm="{realm}",service="tests",scope="repository:a/b:pull,push"\r\n'
        answer = json.dumps({"token": token, "expires_in": 300}).encode()
        self.tokens = self.rule(r"^(GET|POST) /token", 200, body=answer)
        self.refused = self.rule(rf"(?s)^GET /v2/.(?!.*\nAuthorization: Bearer {token}\r)", 401, head=head)

    async def pace(self, size: int) -> None:
        """Wait for this many bytes' turn on the line that all connections share."""
        if self.bandwidth is not None:
            now = self._loop.time()
            self._clear_at = max(now, self._clear_at) + size / self.bandwidth
            await asyncio.sleep(self._clear_at - now)

    def match(self, head: str) -> Rule | None:
        for rule in self._rules:
            if rule.seen < rule.times and re.search(rule.pattern, head):
                rule.seen += 1
                rule.heads.append(head)
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
    spoilt: Rule | None = None
    """Rule that spoils the next answer."""
    sent: int | None = None
    """Bytes of that answer's body that have passed; less than 0 within its head."""

    async def forth(self) -> None:
        # Clients do not pipeline: a chunk that starts like a request is one.
        while chunk := await self.reader.read(_CHUNK):
            request = _REQUEST.match(chunk)
            rule = self.proxy.match(chunk.partition(b"\r\n\r\n")[0].decode() + "\r\n") if request else None
            if rule is not None and isinstance(rule.action, int):
                head = f"HTTP/1.1 {rule.action} Rule\r\nContent-Type: application/json\r\n{rule.head}"
                self.writer.write(f"{head}Content-Length: {len(rule.body)}\r\n\r\n".encode() + rule.body)
                await self.writer.drain()
                continue
            if rule is not None and rule.action == "request":
                await _wait(rule.released.is_set)
            elif rule is not None and rule.action in {"cut", "damage"}:
                self.spoilt, self.sent = rule, None
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
            await self.proxy.pace(len(chunk))
            chunk = self.spoil(chunk)
            self.proxy.passed += len(chunk)
            self.writer.write(chunk)
            await self.writer.drain()
            if self.spoilt is not None and self.spoilt.action == "cut" and (self.sent or 0) >= self.spoilt.at:
                # Zero seconds of linger: the other side sees a reset, not an end.
                self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                self.writer.transport.abort()
                self.up_writer.close()
                return
        self.writer.close()

    def spoil(self, chunk: bytes) -> bytes:
        if self.spoilt is not None and self.sent is None:
            self.sent = -(chunk.find(b"\r\n\r\n") + 4)
        rule, begins = self.spoilt, self.sent or 0
        self.sent = begins + len(chunk)
        if rule is None or not begins <= rule.at < self.sent:
            return chunk
        spot = rule.at - begins
        if rule.action == "cut":
            return chunk[:spot]
        self.spoilt = None
        return chunk[:spot] + bytes([chunk[spot] ^ 1]) + chunk[spot + 1 :]


async def _wait(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - other threads make it true
        await asyncio.sleep(_STEP)
