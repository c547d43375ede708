"""What images take on disk, by storage driver: the numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.engine.base import ImageInfo, ImageLayer, Storage, StorageKind
from isobench_tui.engine.forecast import (
    EXPANSION,
    Footprint,
    after,
    expansion,
    footprint,
    freed,
    weights,
)

D = Path("/d")
OVERLAY, VFS, CONTAINERD = Storage("overlay2", D), Storage("vfs", D), Storage("containerd", D)
REFLINK, FLAT = Storage("vfs", D, reflink=True), Storage("vfs", D, flattens=True)


def layer(name: str, size: int, unpacked: int | None, *, here: bool = False) -> ImageLayer:
    return ImageLayer(f"sha256:{name}", size, "tar+gzip", f"sha256:diff-{name}", unpacked, here)


def image(*layers: ImageLayer, present: bool = False, size: int | None = None) -> ImageInfo:
    return ImageInfo("app:1", "app@sha256:0", "sha256:0", None, present, size, tuple(layers))


BASE, MIDDLE, TOP = layer("base", 40, 100), layer("middle", 20, 50), layer("top", 10, 10)
WHOLE = image(BASE, MIDDLE, TOP)
SHARED = image(replace(BASE, here=True), replace(MIDDLE, here=True), TOP)


@pytest.mark.parametrize(
    ("storage", "what", "expected"),
    [
        # overlay2: each layer once, and the blobs beside them: 100 + 70, then 150 + 30, then 160 + 10
        (OVERLAY, WHOLE, Footprint(fetch=70, image=160, transit=20)),
        (OVERLAY, SHARED, Footprint(fetch=10, image=10, transit=10)),
        # vfs: 100 + 150 + 160, and two copies of the whole for a container
        (VFS, WHOLE, Footprint(fetch=70, image=410, transit=10, container=320)),
        (VFS, SHARED, Footprint(fetch=10, image=160, transit=10, container=320)),
        (REFLINK, WHOLE, Footprint(fetch=70, image=160, transit=20)),
        # containerd: blob and snapshot both stay
        (CONTAINERD, WHOLE, Footprint(fetch=70, image=230)),
        (CONTAINERD, SHARED, Footprint(fetch=10, image=20)),
        # flattened: one layer with everything, the blobs in the cache, containers as on vfs
        (FLAT, WHOLE, Footprint(fetch=70, image=160, container=320, cache=70)),
        (OVERLAY, image(layer("x", 100, None)), Footprint(fetch=100, image=250, transit=100)),
        (VFS, image(present=True, size=30), Footprint(container=60)),
        (OVERLAY, image(present=True, size=30), Footprint()),
        (Storage("folder", D), image(present=True, size=30), Footprint(container=30)),
        (Storage("folder", D, reflink=True), image(present=True, size=30), Footprint()),
        (OVERLAY, image(), None),
        (VFS, image(present=True), None),
    ],
)
def test_footprints(storage: Storage, what: ImageInfo, expected: Footprint | None) -> None:
    assert footprint(storage, what) == expected


def test_the_measured_vfs_image() -> None:
    """Ten layers that are 462 MiB unpacked took 2096 MiB on vfs, one container 923: docs/disk.md."""
    sizes = [0, 0, *([56] * 6), 63, 63]
    layers = [layer(str(at), size, size) for at, size in enumerate(sizes)]
    found = footprint(VFS, image(*layers))
    assert found is not None
    assert found.container == 2 * 462
    assert 1800 < found.image < 2600


def test_the_ratio_is_learned_from_what_was_fetched() -> None:
    assert expansion([]) == EXPANSION
    assert expansion([(100, 210), (300, 590)]) == 2.0
    assert expansion([(100, 50)]) == 1.0


def test_the_second_of_two_images_needs_only_what_the_first_does_not_bring() -> None:
    other = image(BASE, MIDDLE, layer("other", 5, 8))
    assert footprint(OVERLAY, after(other, [WHOLE])) == Footprint(fetch=5, image=8, transit=5)
    # the same layer over another one is not the same on disk
    moved = image(MIDDLE, BASE)
    assert after(moved, [WHOLE]) == moved


@pytest.mark.parametrize(
    ("storage", "comes_free"), [(OVERLAY, 10), (VFS, 160), (CONTAINERD, 20), (FLAT, 160), (REFLINK, 10)]
)
def test_what_comes_free_is_what_no_other_image_has(storage: Storage, comes_free: int) -> None:
    other = image(BASE, MIDDLE, layer("other", 5, 8))
    mine, theirs = weights(storage, WHOLE.layers), weights(storage, other.layers)
    assert freed([mine], [theirs]) == comes_free
    assert freed([mine], []) == sum(mine.values())
    assert freed([mine, mine], []) == sum(mine.values())
    assert freed([], [mine]) == 0


layers = st.lists(
    st.builds(
        layer, st.uuids().map(str), st.integers(0, 10**6), st.none() | st.integers(0, 10**7), here=st.booleans()
    ),
    min_size=1,
    max_size=12,
)
kinds: list[StorageKind] = ["overlay2", "vfs", "containerd"]


@given(layers, st.sampled_from(kinds), st.booleans(), st.floats(1, 20))
def test_no_layers_make_a_forecast_absurd(
    parts: list[ImageLayer], kind: StorageKind, reflink: bool, ratio: float
) -> None:
    storage = Storage(kind, D, reflink=reflink)
    found = footprint(storage, image(*parts), ratio)
    assert found is not None
    assert min(found.fetch, found.image, found.transit, found.container, found.cache) >= 0
    assert found.transit <= found.fetch
    assert found.fetch == sum(part.size for part in parts if not part.here)
    fewer = footprint(storage, image(*(replace(part, here=True) for part in parts)), ratio)
    assert fewer == Footprint(container=found.container)
