"""Asking registries: what a reference means now, what its layers weigh, and the blobs themselves.

Protocol: OCI distribution specification 1.1, which is the Docker registry's HTTP API V2.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isobench_tui.engine.base import ImageConfig, ImageLayer, ImageMissing, PullFailed
from isobench_tui.engine.images import manifest
from isobench_tui.engine.images.again import Passing, retry_after, tried
from isobench_tui.engine.images.credentials import Login, challenges
from isobench_tui.engine.images.hosts import Host, Setup, trust
from isobench_tui.engine.images.names import Name

if TYPE_CHECKING:
    import aiohttp

_SMALL = 16 << 20
"""Bytes beyond which a manifest or configuration is refused."""
_SILENCE_S = 60.0
"""A registry that sends nothing for so long has broken off."""
_DEPTH = 3
"""Indexes within indexes."""
_KEPT = 512
"""Manifests and configurations that are remembered: asking for them counts against Docker Hub's limit of pulls."""
_SIZES_S = 10.0
_SIZES_AT_ONCE = 8
_USUAL_RATIO = 2.3
"""Of what CUDA and Python layers unpack to; only picks between sizes 4 GiB apart."""
_WORST_RATIO = 12.0
_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Remote:
    """An image as a registry has it now."""

    name: Name
    digest: str
    """Of what the reference names: an index, where there is one."""
    layers: tuple[ImageLayer, ...]
    """The lowest first."""
    config: ImageConfig
    host: Host
    """Who had it, and has the blobs."""


@dataclass(slots=True)
class _Token:
    header: str
    until: float
    """Of time.monotonic()."""


class Registries:
    """A client for any number of registries. It belongs to one event loop; close it.

    `login` finds the credentials for a registry (None: anonymous). `backoff` is the first pause, in seconds, after a
    failure that may pass.
    """

    def __init__(self, login: Callable[[str], Awaitable[Login | None]], *, backoff: float = 1.0) -> None:
        self._login = login
        self._backoff = backoff
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._bases: dict[str, str] = {}
        self._kept: dict[str, bytes] = {}

    async def find(self, name: Name, setup: Setup) -> Remote:
        """What the reference means now for the engine's platform; mirrors are asked before Docker Hub is.

        Raises ImageMissing, PullFailed; Unreachable where no place could be connected to.
        """
        *mirrors, last = await setup.hosts(name.registry)
        for host in mirrors:
            with contextlib.suppress(ImageMissing, PullFailed):  # a mirror may lack it; the engine goes on likewise
                return await self._find(host, name, setup)
        return await self._find(last, name, setup)

    async def sized(self, remote: Remote) -> tuple[ImageLayer, ...]:
        """The layers with `unpacked` filled in where a blob tells it at its end. Never fails, only knows less."""
        gate = asyncio.Semaphore(_SIZES_AT_ONCE)

        async def one(layer: ImageLayer) -> ImageLayer:
            async with gate:
                return replace(layer, unpacked=await self._unpacked(remote, layer))

        tasks = [asyncio.create_task(one(layer)) for layer in remote.layers]
        try:
            await asyncio.wait(tasks, timeout=_SIZES_S)
            return tuple(
                task.result() if task.done() and not task.cancelled() and not task.exception() else layer
                for task, layer in zip(tasks, remote.layers, strict=True)
            )
        finally:
            for task in tasks:
                task.cancel()

    @contextlib.asynccontextmanager
    async def blob(
        self, remote: Remote, digest: str, first: int = 0, last: int | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An open answer with the blob's bytes from `first` on, to `last` inclusive; it is the caller's to read.

        Its status is 206 where the range was honoured, 200 where the registry sends all of it. Not tried again.
        Raises ImageMissing, PullFailed (Passing where another try may work).
        """
        headers = {}
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        async with self._get(remote.host, remote.name, f"blobs/{digest}", headers) as response:
            yield response

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _find(self, host: Host, name: Name, setup: Setup) -> Remote:
        what = f"{name.registry}/{name.path}"
        body = await self._manifest(host, name, name.reference)
        digest = manifest.sha256(body)
        for _ in range(_DEPTH):
            found = manifest.read(f"{what}:{name.reference}", body, setup.platform)
            if isinstance(found, manifest.Manifest):
                config = await self._small(host, name, f"blobs/{found.config.digest}", found.config.digest)
                layers, wants = manifest.layers_of(what, found, config)
                return Remote(name, digest, layers, wants, host)
            body = await self._manifest(host, name, found.digest)
        raise PullFailed(f"{what}:{name.reference}: indexes within indexes, more than {_DEPTH} deep")

    async def _manifest(self, host: Host, name: Name, reference: str) -> bytes:
        digest = reference if ":" in reference else None
        return await self._small(host, name, f"manifests/{reference}", digest, {"Accept": manifest.ACCEPT})

    async def _small(
        self, host: Host, name: Name, path: str, digest: str | None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A manifest or configuration, of that digest where one is given."""
        if digest in self._kept:
            return self._kept[digest]

        async def ask() -> bytes:
            async with self._get(host, name, path, headers or {}) as response:
                body = await response.content.read(_SMALL + 1)
                while len(body) <= _SMALL and (more := await response.content.read(_SMALL)):
                    body += more
            if len(body) > _SMALL:
                raise PullFailed(f"{host.registry}: {name.path}/{path} is larger than {_SMALL >> 20} MiB")
            if digest is not None and manifest.sha256(body) != digest:
                raise Passing(f"{host.registry}: {name.path}/{path} came with the sha256 {manifest.sha256(body)}")
            return body

        body = await tried(ask, backoff=self._backoff)
        if len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[manifest.sha256(body)] = body
        return body

    async def _unpacked(self, remote: Remote, layer: ImageLayer) -> int | None:
        if layer.media_type.endswith("tar"):
            return layer.size
        if not layer.media_type.endswith("gzip") or layer.size < 18:  # head and tail of the smallest gzip file
            return None
        async with self.blob(remote, layer.digest, layer.size - 4, layer.size - 1) as response:
            tail = await response.content.read(5) if response.status == 206 else b""
        return unpacked_size(layer.size, struct.unpack("<I", tail)[0]) if len(tail) == 4 else None

    @contextlib.asynccontextmanager
    async def _get(
        self, host: Host, name: Name, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One GET with whatever authorization the registry wants; a 401 is answered once."""
        import aiohttp

        what = f"{name.registry}/{name.path}"
        try:
            base = await self._base(host)
            for again in (False, True):
                token = self._tokens.get((base, name.path))
                asked = dict(headers)
                if token is not None and token.until > time.monotonic():
                    asked["Authorization"] = token.header
                url = f"{base}/v2/{name.path}/{path}"
                async with self._http().get(url, headers=asked, ssl=trust(host)) as response:
                    if response.status == 401 and not again:
                        await self._authorize(host, base, name, response)
                        continue
                    await _check(what, path, response)
                    yield response
                    return
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:  # not what the caller's disk raises
            raise _broken(f"{what}: {host.url} breaks off", error) from error

    async def _base(self, host: Host) -> str:
        """Its URL; a registry that may be insecure is asked once whether it speaks TLS."""
        import aiohttp

        if not host.insecure:
            return host.url
        if host.url not in self._bases:
            base = host.url
            try:
                async with self._http().get(f"{base}/v2/", ssl=False):
                    pass
            except (aiohttp.ClientSSLError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                base = f"http://{host.url.partition('://')[2]}"
            self._bases[host.url] = base
        return self._bases[host.url]

    async def _authorize(self, host: Host, base: str, name: Name, response: aiohttp.ClientResponse) -> None:
        """Do what the 401 asks for, so that the next request has the authorization."""
        headers = response.headers.getall("WWW-Authenticate", [])
        asked = {one.scheme: one for header in headers for one in challenges(header)}
        login = await self._login(host.registry)
        key = (base, name.path)
        if "bearer" in asked:
            self._tokens[key] = await self._token(host, name, asked["bearer"].parameters, login)
        elif "basic" in asked and login is not None and not login.identity:
            self._tokens[key] = _Token(login.basic, math.inf)
        else:
            self._tokens.pop(key, None)

    async def _token(self, host: Host, name: Name, wants: Mapping[str, str], login: Login | None) -> _Token:
        realm = wants.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise PullFailed(f"{host.registry}: its realm for tokens is {realm!r}, which is no URL")
        fields = {"scope": wants.get("scope") or f"repository:{name.path}:pull"}
        if "service" in wants:
            fields["service"] = wants["service"]
        ssl = False if host.insecure else trust(replace(host, registry=realm.partition("://")[2].partition("/")[0]))
        if login is not None and login.identity:
            fields |= {"grant_type": "refresh_token", "refresh_token": login.identity, "client_id": "isobench"}
            asking = self._http().post(realm, data=fields, ssl=ssl)
        else:
            headers = {"Authorization": login.basic} if login is not None else {}
            asking = self._http().get(realm, params=fields, headers=headers, ssl=ssl)
        async with asking as response:
            await _check(f"{name.registry}/{name.path}", "token", response)
            try:
                answer = await response.json(content_type=None)
                token = answer.get("token") or answer["access_token"]
                lasts = float(answer.get("expires_in") or 60)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise PullFailed(f"{host.registry}: {realm} gave no token") from None
        return _Token(f"Bearer {token}", time.monotonic() + max(lasts - 10, 5))

    def _http(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE_S),
                trust_env=True,  # the proxies that the host's other programs use
                auto_decompress=False,  # a blob is its bytes
                headers={"User-Agent": "isobench", "Accept-Encoding": "identity"},
            )
        return self._session


class Unreachable(Passing):
    """No connection to the registry could be made from here; the engine may have another way to it."""


def unpacked_size(packed: int, last: int) -> int | None:
    """Size of what a gzip file holds, from the 32 bits at its end, which say it modulo 4 GiB (RFC 1952).

    Of the sizes that fit, the one that is most usual for an image's layer. None where none fits: files made of many
    parts (estargz) tell the last part's size only.
    """
    span = 1 << 32
    fits = [last + turn * span for turn in range(int(packed * _WORST_RATIO) // span + 1)]
    fits = [size for size in fits if size >= packed * 0.99 - 64]
    return min(fits, key=lambda size: abs(math.log(max(size, 1) / packed / _USUAL_RATIO)), default=None)


def _broken(doing: str, error: BaseException) -> PullFailed:
    import aiohttp

    reason = (str(error) or type(error).__name__).splitlines()[0]
    kind = Unreachable if isinstance(error, aiohttp.ClientConnectorError) else Passing
    return kind(f"{doing}: {reason}")


async def _check(what: str, path: str, response: aiohttp.ClientResponse) -> None:
    """Raise what an answer that is no success means."""
    status = response.status
    if status in {200, 206}:
        return
    text = (await response.content.read(2000)).decode(errors="replace").strip()
    said = f"{what}: the registry answers {status} to {path}" + (f": {text[:300]}" if text else "")
    if status == 404:
        raise ImageMissing(said)
    if status in {401, 403}:
        # Many registries hide private repositories so, and those that do not exist too.
        raise ImageMissing(f"{said} (not there, or not for us: docker login, then retry)")
    if status in _AGAIN or status >= 500:
        raise Passing(said, retry_after(response.headers.get("Retry-After")))
    raise PullFailed(said)
