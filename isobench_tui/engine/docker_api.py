"""Ways to talk to a Docker engine: where its socket is, the SDK in worker threads, its errors in our words.

The SDK blocks, so every call of it runs in a thread of its own and has a time limit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from isobench_tui.engine.base import (
    DiskFull,
    EngineError,
    EngineUnreachable,
    GpuUnavailable,
    ImageMissing,
    PullFailed,
)
from isobench_tui.engine.threads import in_thread

if TYPE_CHECKING:
    import aiohttp
    from docker import APIClient

T = TypeVar("T")

SYSTEM_SOCKET = "unix:///var/run/docker.sock"

_GPU_SIGNS = (
    "could not select device driver",
    "nvidia-container-cli",
    "nvidia-container-runtime",
    "unresolvable cdi",
)
_MISSING_SIGNS = (
    "manifest unknown",
    "no matching manifest",
    "not found",
    "repository does not exist",
    "name unknown",
    "denied",
    "unauthorized",
    "no basic auth credentials",
    "authentication required",
    "invalid reference format",
)


def socket_of(base_url: str | None) -> Path:
    """The engine's local socket: `base_url`, else $DOCKER_HOST, else the system's.

    Raises EngineError for a remote engine.
    """
    url = base_url or os.environ.get("DOCKER_HOST") or SYSTEM_SOCKET
    scheme, _, rest = url.partition("://")
    if scheme not in {"unix", "http+unix"}:
        raise EngineError(
            f"{url}: a remote engine cannot be used, because run directories are bind-mounted and locked (flock) on "
            f"this host; give a local socket such as {SYSTEM_SOCKET}"
        )
    path = Path(rest)
    if not path.is_absolute():
        raise EngineError(f"{url}: not an absolute path to a socket; give one such as {SYSTEM_SOCKET}")
    return path


def translate(doing: str, error: BaseException) -> EngineError:
    """What an exception of the SDK, of requests or of aiohttp means to the runner."""
    if isinstance(error, EngineError):
        return error
    import docker.errors

    if isinstance(error, docker.errors.APIError):
        return by_message(f"{doing}: {error.explanation or error}")
    if _broken_connection(error):
        reason = "permission denied on its socket" if "PermissionError" in repr(error) else _first_line(error)
        return EngineUnreachable(f"{doing}: the engine does not answer: {reason}")
    return EngineError(f"{doing}: {_first_line(error)}")


def by_message(message: str) -> EngineError:
    """Class of an error that the engine put into words."""
    low = message.lower()
    if "no space left on device" in low or "disk quota exceeded" in low:
        return DiskFull(message)
    if any(sign in low for sign in _GPU_SIGNS):
        return GpuUnavailable(message)
    if "no such image" in low:
        return ImageMissing(message)
    return EngineError(message)


def registry_error(message: str) -> EngineError:
    """Class of an error that the engine passes on from a registry."""
    known = by_message(message)
    if type(known) is not EngineError:
        return known
    low = message.lower()
    # A registry that hides private repositories says "denied" for one that does not exist.
    if any(sign in low for sign in _MISSING_SIGNS) and "toomanyrequests" not in low:
        return ImageMissing(message)
    return PullFailed(message)


def _broken_connection(error: BaseException) -> bool:
    import aiohttp
    import docker.errors
    import requests
    import urllib3.exceptions

    lost = (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        aiohttp.ClientError,
        OSError,
        TimeoutError,
    )
    version = isinstance(error, docker.errors.DockerException) and "server API version" in str(error)
    return version or isinstance(error, lost)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


class Api:
    """A Docker engine on a local socket. Thread-safe, except that `session` belongs to one event loop."""

    def __init__(self, base_url: str | None) -> None:
        self.socket = socket_of(base_url)
        self.url = f"unix://{self.socket}"
        self._clients: dict[float, APIClient] = {}
        self._lock = threading.Lock()
        self._session: aiohttp.ClientSession | None = None

    def client(self, timeout: float) -> APIClient:
        """The SDK's client whose requests give up after `timeout` seconds of silence. Blocks: call it in a thread."""
        with self._lock:
            client = self._clients.get(timeout)
        if client is not None:
            return client
        from docker import APIClient

        # The stubs say int; requests takes a float.
        client = APIClient(base_url=self.url, version="auto", timeout=timeout)  # type: ignore[arg-type]
        with self._lock:
            return self._clients.setdefault(timeout, client)

    async def call(self, doing: str, work: Callable[[APIClient], T], limit: float) -> T:
        """Run `work` with a client in a thread. Raises EngineError; EngineUnreachable after `limit` seconds."""
        return await self.thread(doing, lambda: work(self.client(limit)), limit)

    async def thread(self, doing: str, work: Callable[[], T], limit: float) -> T:
        """Run `work` in a thread. Raises EngineError; EngineUnreachable after `limit` seconds."""

        def run() -> T:
            try:
                return work()
            except BaseException as error:
                raise translate(doing, error) from error

        try:
            return await in_thread(f"docker: {doing}", run, limit)
        except TimeoutError:
            raise EngineUnreachable(f"{doing}: no answer from the engine in {limit:g} s") from None

    async def info(self, limit: float) -> Mapping[str, Any]:
        """The engine's `/info`."""
        found: Mapping[str, Any] = await self.call(f"asking {self.url}", lambda client: client.info(), limit)
        return found

    def session(self) -> aiohttp.ClientSession:
        """An aiohttp session on the socket, for the long calls that must end with their task; URLs `http://docker/…`."""
        import aiohttp

        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                # No connection is kept: one from before a restart of the engine would fail the next call.
                connector=aiohttp.UnixConnector(path=str(self.socket), limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            )
        return self._session

    async def close(self) -> None:
        """Close idle connections. Calls that still hang in a thread end on their own."""
        if self._session is not None:
            await self._session.close()
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()
