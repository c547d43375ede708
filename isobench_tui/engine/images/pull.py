"""Pull an image through the engine's own socket: byte progress, honest errors, cancelled with its task.

The stream of `POST /images/create` is one JSON object a line (Docker Engine API, "Create an image"). It answers 200
before it knows whether the pull will work; what goes wrong arrives as an object with `error` in it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from isobench_tui.engine.base import (
    EngineError,
    EngineUnreachable,
    ImageLayer,
    Layer,
    LayerState,
    PullFailed,
    PullProgress,
)
from isobench_tui.engine.docker_api import registry_error, translate

if TYPE_CHECKING:
    import aiohttp

_STATES: dict[str, LayerState] = {
    "Pulling fs layer": "waiting",
    "Waiting": "waiting",
    "Downloading": "downloading",
    "Verifying Checksum": "downloading",
    "Download complete": "downloading",
    "Extracting": "extracting",
    "Pull complete": "done",
    "Already exists": "exists",
}

_TRANSIENT = re.compile(
    r"toomanyrequests|too many requests|\b(429|500|502|503|504)\b|internal server error|bad gateway|"
    r"service unavailable|connection reset|connection refused|broken pipe|unexpected eof|\beof\b|i/o timeout|"
    r"tls handshake timeout|client\.timeout|deadline exceeded|"
    # a blob that came damaged: of graph drivers, of containerd's store
    r"layer verification failed|unexpected commit digest",
    re.IGNORECASE,
)

INTERVAL = 0.1
"""Seconds between two reports of bytes; a change of a layer's state is reported at once."""


def short(digest: str) -> str:
    """A layer's id in the engine's events: the first 12 digits of its blob's digest."""
    return digest.partition(":")[2][:12]


class Progress:
    """The layers of one pull, fed with the engine's events.

    `Layer.done` counts the step that the layer is in, so it starts again when extraction does (both count compressed
    bytes); `PullProgress.done` counts what is downloaded and never goes back within a pull.
    """

    def __init__(self, layers: Iterable[ImageLayer] = ()) -> None:
        """`layers`: as the registry told them, so that the total is known before the engine's first word."""
        self._layers = {short(x.digest): Layer(short(x.digest), "waiting", 0, x.size) for x in layers}
        self._layers |= {short(x.digest): Layer(short(x.digest), "exists", 0, 0) for x in layers if x.here}

    def feed(self, event: dict[str, Any]) -> bool:
        """Take one event in; True if a layer appeared or changed its state."""
        status, name = str(event.get("status", "")), str(event.get("id", ""))
        state = "waiting" if status.startswith("Retrying in") else _STATES.get(status)
        if state is None or not name:
            return False
        old = self._layers.get(name, Layer(name, "waiting"))
        detail = event.get("progressDetail") or {}
        done, total = detail.get("current"), detail.get("total")
        total = total if isinstance(total, int) and total > 0 else old.total
        if state == "exists":
            new = Layer(name, "exists", 0, 0)
        elif state == "done" or status in {"Verifying Checksum", "Download complete"}:
            new = Layer(name, state, total or old.done, total)
        else:
            new = Layer(name, state, done if isinstance(done, int) else 0, total)
        self._layers[name] = new
        return name not in self._layers or old.state != new.state

    def finish(self) -> None:
        """All of it is here. Some engines do not say so layer by layer (Docker 26 with containerd's store)."""
        for name, layer in self._layers.items():
            if layer.state != "exists":
                self._layers[name] = replace(layer, state="done", done=layer.total or layer.done)

    def snapshot(self) -> PullProgress:
        """What is known now. A layer that ended without ever telling its size counts as nothing."""
        layers = tuple(
            replace(layer, total=layer.done) if layer.state == "done" and layer.total is None else layer
            for layer in self._layers.values()
        )
        fetched = sum((x.total or 0) if x.state in {"extracting", "done"} else x.done for x in layers)
        known = bool(layers) and all(x.total is not None for x in layers)
        return PullProgress(layers, fetched, sum(x.total or 0 for x in layers) if known else None)


async def pull(
    session: aiohttp.ClientSession,
    repository: str,
    reference: str,
    *,
    auth: str | None,
    on_progress: Callable[[PullProgress], None],
    layers: Sequence[ImageLayer] = (),
    attempts: int = 5,
    backoff: float = 1.0,
) -> None:
    """Pull `repository` at `reference` (tag or digest); `auth` is the value of X-Registry-Auth.

    Tries again after 429, 5xx, broken connections to the registry and blobs that came damaged, `backoff` seconds
    later, doubled each time.
    Raises ImageMissing, PullFailed, DiskFull, EngineUnreachable. Cancelling the task closes the connection, and that
    makes the engine give the pull up.
    """
    for attempt in range(1, attempts + 1):
        try:
            await _once(session, repository, reference, auth, layers, on_progress)
            return
        except PullFailed as error:
            if attempt == attempts or not _TRANSIENT.search(str(error)):
                raise
        await asyncio.sleep(backoff * 2 ** (attempt - 1))


async def _once(
    session: aiohttp.ClientSession,
    repository: str,
    reference: str,
    auth: str | None,
    layers: Sequence[ImageLayer],
    on_progress: Callable[[PullProgress], None],
) -> None:
    import aiohttp

    progress = Progress(layers)
    loop = asyncio.get_running_loop()
    told = float("-inf")
    try:
        async with session.post(
            "http://docker/images/create",
            params={"fromImage": repository, "tag": reference},
            headers={"X-Registry-Auth": auth} if auth else {},
        ) as response:
            if response.status != 200:
                raise registry_error(_message(await response.text(errors="replace")))
            async for event in _events(response):
                if "error" in event:
                    raise registry_error(str(event["error"]))
                if progress.feed(event) or loop.time() - told >= INTERVAL:
                    told = loop.time()
                    on_progress(progress.snapshot())
    except (aiohttp.ClientError, OSError) as error:
        raise translate("pulling", error) from error
    progress.finish()
    on_progress(progress.snapshot())


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The objects of the stream. Lines are cut here: aiohttp's own readline gives up on long ones."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield _object(line)
    if rest.strip():
        yield _object(rest)


def _object(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        raise EngineUnreachable(f"pulling: the engine broke off in {line[:80]!r}") from None
    if not isinstance(event, dict):
        raise EngineError(f"pulling: not an object: {line[:80]!r}")
    return event


def _message(body: str) -> str:
    """The engine's error text: `{"message": …}` or what it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()[:500]
