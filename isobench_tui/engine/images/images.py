"""The images of one Docker engine: what a reference means, making it present, taking it away again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from isobench_tui.engine.base import ImageInfo, ImageLayer, ImageMissing, PullFailed, PullProgress
from isobench_tui.engine.docker_api import Api, registry_error
from isobench_tui.engine.images import credentials
from isobench_tui.engine.images.hosts import setup_of
from isobench_tui.engine.images.names import parse, repository, tag_of
from isobench_tui.engine.images.pull import pull
from isobench_tui.engine.images.registry import Registries, Unreachable

if TYPE_CHECKING:
    from docker import APIClient


class Images:
    """Times are in seconds: `quick` for calls that answer at once, `remove_timeout` for what deletes files, `backoff`
    the first pause after a failure that may pass."""

    def __init__(self, api: Api, *, quick: float, remove_timeout: float, backoff: float) -> None:
        self._api = api
        self._quick = quick
        self._remove_timeout = remove_timeout
        self._backoff = backoff
        self._registries = Registries(self._login, backoff=backoff)

    async def resolve(self, ref: str) -> ImageInfo:
        """Pin a reference: what is here under that name, else what the registry has under it now, with its layers.

        Raises ImageMissing, PullFailed (the registry does not answer), EngineUnreachable.
        """
        local = await self._look(ref)
        if local is not None:
            return _local(ref, local)
        setup = setup_of(await self._api.info(self._quick))
        layers: tuple[ImageLayer, ...] = ()
        try:
            found = await self._registries.find(parse(ref), setup)
            digest = found.digest
            layers = _marked(await self._registries.sized(found), await self._chains())
        except Unreachable:  # the engine may have a proxy of its own; it cannot tell layers
            asked = await self._api.thread(
                f"asking the registry for {ref}", lambda: self._distribution(ref), self._quick
            )
            digest = str(asked["Descriptor"]["digest"])
        size = sum({layer.digest: layer.size for layer in layers if not layer.here}.values()) if layers else None
        return ImageInfo(ref, f"{repository(ref)}@{digest}", digest, None, present=False, size=size, layers=layers)

    async def fetch(self, image: ImageInfo, on_progress: Callable[[PullProgress], None]) -> ImageInfo:
        """Pull the pinned digest and give it the name that the campaign uses.

        Raises ImageMissing, PullFailed, DiskFull, EngineUnreachable.
        """
        name, at, digest = image.pinned.partition("@")
        if not at:
            raise ImageMissing(f"{image.ref} ({image.pinned}) is not here any more and has no digest to pull it by")
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
        return replace(image, id=str(local["Id"]), present=True, size=local.get("Size"), layers=())

    async def remove(self, image: ImageInfo) -> bool:
        """Remove the campaign's name for the image and its digest; layers that others use stay.

        Never by id, which takes other people's names too, and never by force. False if a container uses it or it is
        gone; a name that meanwhile means another image is left alone.
        """
        removed = False
        for name in dict.fromkeys((image.ref, image.pinned)):
            local = await self._look(name)
            if local is None or not _is_name(name, local) or (image.id is not None and local["Id"] != image.id):
                continue
            removed = await self._untag(name) or removed
        return removed

    async def close(self) -> None:
        await self._registries.close()

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


def _marked(layers: Sequence[ImageLayer], chains: frozenset[tuple[str, ...]]) -> tuple[ImageLayer, ...]:
    stack = tuple(layer.diff_id for layer in layers)
    return tuple(replace(layer, here=stack[: height + 1] in chains) for height, layer in enumerate(layers))


def _is_name(ref: str, local: Mapping[str, Any]) -> bool:
    """The image is called so; False for an id, or part of one, that merely finds it."""
    _, at, digest = ref.partition("@")
    if at:
        return f"{repository(ref)}@{digest}" in (local.get("RepoDigests") or [])
    return f"{repository(ref)}:{tag_of(ref)}" in (local.get("RepoTags") or [])


def _local(ref: str, local: Mapping[str, Any]) -> ImageInfo:
    own = repository(ref)
    digests = [item for item in local.get("RepoDigests") or [] if item.partition("@")[0] == own]
    asked = f"{own}@{ref.partition('@')[2]}"
    pinned = asked if asked in digests else next(iter(digests), None)
    digest = pinned.partition("@")[2] if pinned else None
    return ImageInfo(ref, pinned or str(local["Id"]), digest, str(local["Id"]), present=True, size=local.get("Size"))
