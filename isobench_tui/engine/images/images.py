"""The images of one Docker engine: what a reference means, making it present, taking it away again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isobench_tui.engine.base import (
    ImageConfig,
    ImageInfo,
    ImageLayer,
    ImageMissing,
    PullFailed,
    PullProgress,
    Storage,
)
from isobench_tui.engine.docker_api import Api, registry_error
from isobench_tui.engine.images import credentials
from isobench_tui.engine.images.blobs import Blobs
from isobench_tui.engine.images.flat import Flattener, Progress
from isobench_tui.engine.images.hosts import setup_of
from isobench_tui.engine.images.names import Name, flat_name, parse, repository, tag_of
from isobench_tui.engine.images.pull import pull
from isobench_tui.engine.images.registry import Registries, Remote, Unreachable
from isobench_tui.engine.images.tarfmt import Unmergeable
from isobench_tui.engine.storage import storage_of

if TYPE_CHECKING:
    from docker import APIClient


@dataclass(frozen=True, slots=True)
class Flatten:
    """How images are made one layer."""

    root: Path
    """Folder for blobs and configurations."""
    cap: int
    """Bytes that blobs may take there."""
    always: bool = False
    """Also where the engine's storage driver shares layers; else only where it copies them."""


class Images:
    """Times are in seconds: `quick` for calls that answer at once, `remove_timeout` for what deletes files, `backoff`
    the first pause after a failure that may pass.

    `flatten`: how; None: never.
    """

    def __init__(
        self, api: Api, *, quick: float, remove_timeout: float, backoff: float, flatten: Flatten | None = None
    ) -> None:
        self._api = api
        self._quick = quick
        self._remove_timeout = remove_timeout
        self._backoff = backoff
        self._registries = Registries(self._login, backoff=backoff)
        self._flatten = flatten
        self._storage: Storage | None = None
        self._flat: Flattener | None = None
        if flatten is not None:
            self._flat = Flattener(flatten.root, flatten.cap, api.socket, self._registries, backoff=backoff)

    async def resolve(self, ref: str) -> ImageInfo:
        """Pin a reference: what is here under that name, else what the registry has under it now, with its layers.

        Raises ImageMissing, PullFailed (the registry does not answer), EngineUnreachable.
        """
        local = await self._look(ref)
        if local is not None:
            return _local(ref, local, await self._size(local))
        name, flat = parse(ref), await self._flattener()
        if flat is not None and name.digest is not None:
            known = await self._flattened(flat, ref, name.digest, None)
            if known is not None:
                return known
        layers: tuple[ImageLayer, ...] = ()
        try:
            found = await self._find(name)
            digest = found.digest
            known = await self._flattened(flat, ref, digest, found.config) if flat is not None else None
            if known is not None:
                return known
            layers = await self._registries.sized(found)
            layers = _cached(layers, flat.blobs) if flat is not None else _marked(layers, await self._chains())
        except Unreachable:  # the engine may have a proxy of its own; it cannot tell layers
            asked = await self._api.thread(
                f"asking the registry for {ref}", lambda: self._distribution(ref), self._quick
            )
            digest = str(asked["Descriptor"]["digest"])
        size = sum({layer.digest: layer.size for layer in layers if not layer.here}.values()) if layers else None
        return ImageInfo(ref, f"{repository(ref)}@{digest}", digest, None, present=False, size=size, layers=layers)

    async def storage(self) -> Storage:
        """By which law images and containers take space, and where. Raises EngineUnreachable."""
        if self._storage is None:
            info = await self._api.info(self._quick)
            found = await self._api.thread("looking at its disk", lambda: storage_of(info), self._quick)
            if self._flatten is not None and (self._flatten.always or (found.kind == "vfs" and not found.reflink)):
                found = replace(found, flattens=True, cache=self._flatten.root)
            self._storage = found
        return self._storage

    async def fetch(self, image: ImageInfo, on_progress: Callable[[PullProgress], None]) -> ImageInfo:
        """Pull the pinned digest and give it the name that the campaign uses, or flatten it.

        Where layers cannot be made one faithfully, it is pulled after all, unless flattening was asked for expressly.
        Raises ImageMissing, PullFailed, DiskFull, EngineUnreachable.
        """
        name, at, digest = image.pinned.partition("@")
        if not at:
            raise ImageMissing(f"{image.ref} ({image.pinned}) is not here any more and has no digest to pull it by")
        flat = await self._flattener()
        note = ""
        if flat is not None:
            try:
                return await self._fetch_flat(flat, image, on_progress)
            except (Unmergeable, Unreachable) as error:
                if self._flatten is not None and self._flatten.always:
                    raise
                note = f"{image.ref} was pulled with all its layers, not flattened: {error}"
        registry = parse(name).registry
        auth = await self._api.thread(
            f"credentials for {registry}", lambda: credentials.engine_header(registry), self._quick
        )
        session = self._api.session()
        await pull(
            session, name, digest, auth=auth, on_progress=on_progress, layers=image.layers, backoff=self._backoff
        )
        if "@" not in image.ref:
            tag = tag_of(image.ref)
            await self._api.call(f"tagging {image.ref}", lambda c: c.tag(image.pinned, name, tag), self._quick)
        local = await self._look(image.pinned)
        if local is None:
            raise PullFailed(f"{image.pinned} is gone right after its pull")
        size = await self._size(local)
        return replace(image, id=str(local["Id"]), present=True, size=size, layers=(), note=note)

    async def remove(self, image: ImageInfo) -> bool:
        """Remove the campaign's name for the image and its digest; layers that others use stay.

        Never by id, which takes other people's names too, and never by force. False if a container uses it or it is
        gone; a name that meanwhile means another image is left alone.
        """
        removed = False
        names = [image.ref, image.pinned, *([flat_name(image.digest)] if image.digest else [])]
        for name in dict.fromkeys(names):
            local = await self._look(name)
            if local is None or not _is_name(name, local) or (image.id is not None and local["Id"] != image.id):
                continue
            removed = await self._untag(name) or removed
        if removed and self._flat is not None and image.digest is not None:
            self._flat.forget(image.digest)
        return removed

    async def drop_cache(self, needed: frozenset[str]) -> int:
        """Remove blobs from the cache, but none of these digests; bytes that they held."""
        flat = self._flat
        if flat is None:
            return 0
        return await self._api.thread(
            "emptying the cache", lambda: flat.blobs.trim(needed, cap=0), self._remove_timeout
        )

    async def close(self) -> None:
        await self._registries.close()

    async def _find(self, name: Name) -> Remote:
        return await self._registries.find(name, setup_of(await self._api.info(self._quick)))

    async def _flattener(self) -> Flattener | None:
        """None where this engine's images are pulled as they are."""
        return self._flat if self._flat is not None and (await self.storage()).flattens else None

    async def _flattened(
        self, flat: Flattener, ref: str, digest: str, config: ImageConfig | None
    ) -> ImageInfo | None:
        """The one-layer image that was made from this digest, if it is here."""
        local = await self._look(flat_name(digest))
        if local is None:
            return None
        pinned = f"{repository(ref)}@{digest}"
        config = config or flat.config(digest) or (await self._find(parse(pinned))).config
        size = await self._size(local)
        return ImageInfo(ref, pinned, digest, str(local["Id"]), present=True, size=size, config=config)

    async def _fetch_flat(self, flat: Flattener, image: ImageInfo, on_progress: Progress) -> ImageInfo:
        remote = await self._find(parse(image.pinned))
        await flat.make(remote, on_progress)
        made = await self._flattened(flat, image.ref, remote.digest, remote.config)
        if made is None:
            raise PullFailed(f"{image.pinned} is gone right after it was imported")
        return made

    async def _login(self, registry: str) -> credentials.Login | None:
        return await self._api.thread(f"credentials for {registry}", lambda: credentials.login(registry), self._quick)

    async def _look(self, name: str) -> Mapping[str, Any] | None:
        import docker.errors

        def look(client: APIClient) -> Mapping[str, Any] | None:
            try:
                found: Mapping[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
                return found
            except docker.errors.NotFound:
                return None
            except docker.errors.APIError as error:
                if "invalid reference format" in str(error).lower():
                    raise ImageMissing(f"{name!r} is not an image reference") from None
                raise

        return await self._api.call(f"looking for {name}", look, self._quick)

    async def _size(self, local: Mapping[str, Any]) -> int | None:
        """Bytes of the image unpacked, of what `_look` found."""
        own: int | None = local.get("Size")
        if own is None or (await self.storage()).kind != "containerd":
            return own
        # That store's inspect counts the blobs, its list the blobs and what they unpack to.
        both = await self._api.call("listing images", lambda client: client.images(), self._quick)
        listed = next((int(image["Size"]) for image in both if image["Id"] == local["Id"]), own)
        return listed - own if listed > own else own

    async def _chains(self) -> frozenset[tuple[str, ...]]:
        """Every stack of layers that some image here begins with: layers are shared from the lowest upwards."""
        import docker.errors

        def look(client: APIClient) -> frozenset[tuple[str, ...]]:
            found: set[tuple[str, ...]] = set()
            for key in client.images(quiet=True):
                try:
                    image: Mapping[str, Any] = client.inspect_image(key)  # type: ignore[no-untyped-call]
                except docker.errors.NotFound:
                    continue
                stack = tuple((image.get("RootFS") or {}).get("Layers") or ())
                found |= {stack[:height] for height in range(1, len(stack) + 1)}
            return frozenset(found)

        return await self._api.call("listing images", look, self._quick)

    def _distribution(self, ref: str) -> Mapping[str, Any]:
        import docker.errors

        client: Any = self._api.client(self._quick)
        try:
            # The SDK would load credentials once and keep them for days; a login in between must count.
            found: Mapping[str, Any] = client.inspect_distribution(ref, credentials.entry(parse(ref).registry) or {})
            return found
        except docker.errors.InvalidRepository as error:
            raise ImageMissing(f"{ref!r} is not an image reference: {error}") from None
        except docker.errors.APIError as error:
            raise registry_error(f"{ref}: {error.explanation or error}") from error

    async def _untag(self, name: str) -> bool:
        import docker.errors

        def remove(client: APIClient) -> bool:
            try:
                return bool(client.remove_image(name, force=False, noprune=False))
            except docker.errors.APIError as error:
                if error.status_code in {404, 409}:
                    return False
                raise

        return await self._api.call(f"removing {name}", remove, self._remove_timeout)


def _cached(layers: Sequence[ImageLayer], blobs: Blobs) -> tuple[ImageLayer, ...]:
    return tuple(replace(layer, here=blobs.has(layer.digest)) for layer in layers)


def _marked(layers: Sequence[ImageLayer], chains: frozenset[tuple[str, ...]]) -> tuple[ImageLayer, ...]:
    stack = tuple(layer.diff_id for layer in layers)
    return tuple(replace(layer, here=stack[: height + 1] in chains) for height, layer in enumerate(layers))


def _is_name(ref: str, local: Mapping[str, Any]) -> bool:
    """The image is called so; False for an id, or part of one, that merely finds it."""
    _, at, digest = ref.partition("@")
    if at:
        return f"{repository(ref)}@{digest}" in (local.get("RepoDigests") or [])
    return f"{repository(ref)}:{tag_of(ref)}" in (local.get("RepoTags") or [])


def _local(ref: str, local: Mapping[str, Any], size: int | None) -> ImageInfo:
    own = repository(ref)
    digests = [item for item in local.get("RepoDigests") or [] if item.partition("@")[0] == own]
    asked = f"{own}@{ref.partition('@')[2]}"
    pinned = asked if asked in digests else next(iter(digests), None)
    digest = pinned.partition("@")[2] if pinned else None
    return ImageInfo(ref, pinned or str(local["Id"]), digest, str(local["Id"]), present=True, size=size)
