"""In which order the arms of a task run, and tasks that share an image: pure arithmetic over the queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from isobench_tui.engine.base import ImageInfo, ImageLayer, Storage
from isobench_tui.runner.blocks import Waiting, in_blocks, together
from isobench_tui.runner.room import OWN


def waiting(text: str) -> list[Waiting]:
    """`b1 h1 b2` -> jobs at positions 10, 20, 30; the image is the letter."""
    return [Waiting(job, job[0], 10 * at) for at, job in enumerate(text.split(), 1)]


@pytest.mark.parametrize(
    ("queue", "first", "expected"),
    [
        ("h1 a1 b2 h2 a2", "b", "b2 h1 h2 a1 a2"),
        ("h1 b2 h2 b3", "h", "h1 h2 b2 b3"),
        ("h1 h2", "b", "h1 h2"),
        ("", "b", ""),
    ],
)
def test_blocks_begin_with_the_image_at_hand(queue: str, first: str, expected: str) -> None:
    moved = in_blocks(waiting(queue), first)
    assert [job for job, _ in moved] == expected.split()
    assert [place for _, place in moved] == sorted(one.position for one in waiting(queue))


def image(name: str, *sizes: tuple[str, int], present: bool = False) -> ImageInfo:
    layers = tuple(ImageLayer(f"sha256:{x}", size, "tar+gzip", x, size) for x, size in sizes)
    return ImageInfo(name, name, None, None, present, 1000 if present else None, () if present else layers)


def test_what_images_need_together_counts_shared_layers_once() -> None:
    overlay = Storage("overlay2", Path("/d"))
    one, two = image("one", ("base", 1000), ("x", 100)), image("two", ("base", 1000), ("y", 200))
    alone = together(overlay, [one], 1.0)
    assert together(overlay, [one, two], 1.0) == alone + int(200 * 1.05)
    assert together(overlay, [image("here", present=True)], 1.0) == OWN
    vfs = Storage("vfs", Path("/d"))
    assert together(vfs, [image("here", present=True), image("there", present=True)], 1.0) == OWN + 2 * 1000
    assert together(overlay, [image("unknown")], 1.0) == OWN
