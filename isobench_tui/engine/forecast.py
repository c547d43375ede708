"""What an image and a container made from it will take on the engine's disk. Arithmetic only: nothing is asked here.

The laws are those of the storage drivers, measured on dockerd 20.10 and stated by moby's sources:
overlay2 keeps each layer once, unpacked; vfs makes every layer a whole copy of all layers under it
(daemon/graphdriver/vfs/driver.go, CopyDir) and two more copies for each container; containerd's store keeps the
compressed blob beside the unpacked snapshot. Where the file system shares blocks between copies (reflink), vfs costs
what overlay2 costs. A graph driver's pull keeps each blob until its layer is unpacked, one layer after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from isobench_tui.engine.base import ImageInfo, ImageLayer, Storage

EXPANSION = 2.5
"""Unpacked bytes for a compressed byte where nothing better is known; CUDA and Python layers have 2.1 to 2.6."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one image, absent or present, and one container of it will still take."""

    fetch: int = 0
    """Over the network."""
    image: int = 0
    """On the engine's disk, to stay."""
    transit: int = 0
    """The most that downloads take beside it on the way; gone at the end."""
    container: int = 0
    """Copies of the image that a container is made of; gone with it."""
    cache: int = 0
    """Blobs that stay in the cache of flattened images."""


def expansion(known: Iterable[tuple[int, int]]) -> float:
    """Unpacked bytes for a compressed byte, by (compressed, unpacked) of images seen so far; else EXPANSION."""
    pairs = list(known)
    packed = sum(pair[0] for pair in pairs)
    return max(1.0, sum(pair[1] for pair in pairs) / packed) if packed else EXPANSION


def unpacked(layer: ImageLayer, ratio: float = EXPANSION) -> int:
    """Bytes of a layer on disk: as its blob says, else by the ratio."""
    return layer.unpacked if layer.unpacked is not None else int(layer.size * ratio)


def footprint(storage: Storage, image: ImageInfo, ratio: float = EXPANSION) -> Footprint | None:
    """What the image takes; None where neither its layers nor its size are known."""
    if image.present:
        return None if image.size is None else Footprint(container=_copies(storage, image.size))
    if not image.layers:
        return None
    whole = sum(unpacked(layer, ratio) for layer in image.layers)
    container = _copies(storage, whole)
    if storage.flattens:
        fetch = sum(layer.size for layer in image.layers if not layer.here)
        return Footprint(fetch=fetch, image=whole, container=container, cache=fetch)
    new = [(layer.size, size) for layer, size in _stored(storage, image.layers, ratio) if not layer.here]
    fetch, stays = sum(packed for packed, _ in new), sum(size for _, size in new)
    transit = 0 if storage.kind == "containerd" else _peak(new) - stays
    return Footprint(fetch=fetch, image=stays, transit=transit, container=container)


def after(image: ImageInfo, fetched: Sequence[ImageInfo]) -> ImageInfo:
    """The image as it will be once the others were fetched: the layers that it shares with them are there."""
    there = {chain for other in fetched for chain in chains(other.layers)}
    layers = tuple(
        replace(layer, here=layer.here or chain in there)
        for layer, chain in zip(image.layers, chains(image.layers), strict=True)
    )
    return replace(image, layers=layers)


def chains(layers: Sequence[ImageLayer]) -> list[str]:
    """A name for each layer together with all under it: only with the same ones under it is a layer stored once."""
    names: list[str] = []
    for layer in layers:
        names.append(f"{names[-1]}/{layer.diff_id}" if names else layer.diff_id)
    return names


def weights(storage: Storage, layers: Sequence[ImageLayer], ratio: float = EXPANSION) -> dict[str, int]:
    """Chain -> bytes on the engine's disk, for each layer of an image that was fetched."""
    if storage.flattens:
        return {chains(layers)[-1]: sum(unpacked(layer, ratio) for layer in layers)} if layers else {}
    stored = _stored(storage, layers, ratio)
    return {chain: size for chain, (_, size) in zip(chains(layers), stored, strict=True)}


def freed(going: Iterable[dict[str, int]], staying: Iterable[dict[str, int]]) -> int:
    """Bytes that come free when images go: those of layers that none of the staying ones has. Both are `weights`."""
    kept = {chain for image in staying for chain in image}
    return sum({chain: size for image in going for chain, size in image.items() if chain not in kept}.values())


def _stored(storage: Storage, layers: Sequence[ImageLayer], ratio: float) -> list[tuple[ImageLayer, int]]:
    """Each layer with the bytes that it takes once stored."""
    sizes, below = [], 0
    for layer in layers:
        own = unpacked(layer, ratio)
        below += own
        if storage.kind == "vfs" and not storage.reflink:
            own = below
        elif storage.kind == "containerd":
            own += layer.size
        sizes.append((layer, own))
    return sizes


def _copies(storage: Storage, whole: int) -> int:
    """Bytes of a container's copies of an image."""
    if storage.reflink or storage.kind not in {"vfs", "folder"}:
        return 0
    return (2 if storage.kind == "vfs" else 1) * whole


def _peak(new: Sequence[tuple[int, int]]) -> int:
    """The most that (blob, stored) layers take at once, if all blobs arrive before the first is unpacked."""
    waiting = sum(packed for packed, _ in new)
    most = done = 0
    for packed, size in new:
        done += size
        most = max(most, done + waiting)
        waiting -= packed
    return most
