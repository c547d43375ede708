"""A tar into the engine as an image of one layer, from a thread that makes the tar as it is sent.

`POST /images/create?fromSrc=-` (Docker Engine API, "Create an image") takes the tar as its body and answers with one
JSON object a line, the last of which has the image's id. Sending blocks while the engine unpacks: that is the pace.
It has a thread of its own, so that the next pieces are made meanwhile; `abort` ends that wherever it is, so that it
keeps no process alive.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

from isobench_tui.engine.base import EngineError, EngineUnreachable
from isobench_tui.engine.docker_api import by_message

AHEAD = 8
"""Pieces that may wait to be sent."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class Import:
    """One import of a tar under a name. All but `abort` block; `abort` may be called from any thread."""

    def __init__(self, engine: Path, repository: str, tag: str) -> None:
        """`engine`: its socket. Raises EngineUnreachable."""
        self._connection = _Connection(engine)
        self._sender = ThreadPoolExecutor(1, "importing")
        self._sent: deque[Future[None]] = deque()
        query = urlencode({"fromSrc": "-", "repo": repository, "tag": tag})
        try:
            self._connection.putrequest("POST", f"/images/create?{query}")
            self._connection.putheader("Content-Type", "application/x-tar")
            self._connection.putheader("Transfer-Encoding", "chunked")
            self._connection.endheaders()
        except OSError as error:
            raise EngineUnreachable(f"importing: the engine does not answer: {error}") from error

    def send(self, piece: bytes) -> None:
        """The next bytes of the tar. Raises EngineError where the engine has given up, maybe some pieces late."""
        if piece:
            self._sent.append(self._sender.submit(self._put, b"%x\r\n%b\r\n" % (len(piece), piece)))
        if len(self._sent) > AHEAD:
            self._sent.popleft().result()

    def finish(self) -> str:
        """The tar is complete; the image's id. Raises EngineError, DiskFull."""
        while self._sent:
            self._sent.popleft().result()
        self._put(b"0\r\n\r\n")
        found = self._answer()
        if found is None:
            raise EngineError("importing: the engine named no image")
        return found

    def abort(self) -> None:
        """Break off: the engine forgets what it got, and a blocked call returns with an error."""
        if self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; without `finish`, that is `abort`."""
        self.abort()
        self._sender.shutdown(cancel_futures=True)
        self._connection.close()

    def _put(self, data: bytes) -> None:
        try:
            self._connection.send(data)
        except OSError as error:
            self._answer()  # it usually says why it stopped reading
            raise EngineUnreachable(f"importing: the engine hung up: {error}") from error

    def _answer(self) -> str | None:
        found = None
        try:
            response = self._connection.getresponse()
            lines = response.read().splitlines()
            if response.status != 200:
                raise by_message(f"importing: {b' '.join(lines).decode(errors='replace')}")
            for line in lines:
                said = json.loads(line)
                if "error" in said:
                    raise by_message(f"importing: {said['error']}")
                found = str(said.get("status") or found)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineUnreachable(f"importing: the engine broke off: {error}") from error
        return found
