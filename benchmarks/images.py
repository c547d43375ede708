"""What an image costs on Docker's vfs driver: flattened, beside `docker pull` and `docker system prune -af`.

    python benchmarks/images.py [--quick]

One image of 25 layers, of which the lowest has nearly all (60,000 entries and 0.9 GB, as a CUDA and Python base has)
and each other replaces, removes and links some files. Both sides bring it from the same registry on loopback to a
private dockerd on a new file system and take it away again, in turn: flattened, pulled, flattened. Disk is what `du`
counts in the data-root while the image is there, and the bar is on that; the cache of blobs, which `[images]
blob_cache` bounds and which may be emptied at any time, is a column of its own, and the table says what both take
together. Then the merge of the cached blobs: alone, on which the bar is, and into `tar -x`, in turn with `tar -x` of
the very tar that it makes. Needs root with dockerd and docker-registry; 40 GB of disk, 8 GB with --quick.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import io
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bars import Bar, print_table, settle, spread
from fresh import fresh

from isobench_tui.engine.docker import DockerEngine
from isobench_tui.engine.images.blobs import Blobs
from isobench_tui.engine.images.images import Flatten
from isobench_tui.engine.images.merge import Merge
from isobench_tui.engine.images.unpack import pieces

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))

from disks import CannotMount  # noqa: E402
from dockerd import CannotStart, Dockerd, Registry  # noqa: E402

MB = 1_000_000
CAP = 10_000 * MB
PIPE = 1 << 20
"""Bytes of the pipe into tar: room for one piece of the merge, so that both work at once."""
ROUNDS = 3
"""Of the merge alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The image."""

    files: int
    size: int
    """Bytes of a file on average."""
    layers: int = 25


FULL = Plan(files=56_000, size=16_000)
QUICK = Plan(files=12_000, size=16_000)
FOLDER_FILES = 15


@dataclass(frozen=True, slots=True)
class Cost:
    """One side's way with the image, once."""

    bring: float
    remove: float
    disk: int
    """Bytes in the data-root while it is there, beyond those of the empty engine."""
    cache: int = 0

    @property
    def seconds(self) -> float:
        return self.bring + self.remove

    def cells(self, whole: int) -> tuple[str, ...]:
        """Of the table; parts are of `whole` bytes."""
        both = self.disk + self.cache
        sizes = (
            f"{self.disk / MB:.0f}",
            f"1/{whole / self.disk:.1f}",
            f"{self.cache / MB:.0f}",
            f"1/{whole / both:.1f}",
        )
        return (f"{self.bring:.1f}", f"{self.remove:.1f}", *sizes)


def layers(plan: Plan) -> list[bytes]:
    """The tars: half of each file is noise, the other half compresses to nothing, as libraries' do together."""
    noise = random.Random(25)
    pool = noise.randbytes(8 * MB)
    return [_lowest(plan, noise, pool), *(_upper(plan, number, pool) for number in range(1, plan.layers))]


def _lowest(plan: Plan, noise: random.Random, pool: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(plan.files):
            if number % FOLDER_FILES == 0:
                _add(archive, _folder(number), None)
            size = int(noise.expovariate(1 / plan.size))
            at = noise.randrange(len(pool) - size // 2 - 1)
            _add(archive, _path(number), pool[at : at + size // 2] + bytes(size - size // 2))
    return out.getvalue()


def _upper(plan: Plan, number: int, pool: bytes) -> bytes:
    out, first = io.BytesIO(), number * plan.files // (2 * plan.layers)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in map(_path, range(first, first + 10)):
            _add(archive, path, pool[number * 1000 : number * 1000 + 100_000])
        head, _, tail = _path(first + 20).rpartition("/")
        _add(archive, f"{head}/.wh.{tail}", b"")
        link = tarfile.TarInfo(f"opt/links/{number}")
        link.type, link.linkname = tarfile.LNKTYPE, _path(first + 40)
        archive.addfile(link)
    return out.getvalue()


def _folder(number: int) -> str:
    return f"usr/lib/python3/site-packages/package_{number // 3000}/module_{number // FOLDER_FILES}"


def _path(number: int) -> str:
    return f"{_folder(number)}/file_{number}.py"


def _add(archive: tarfile.TarFile, name: str, content: bytes | None) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = 1_600_000_000
    if content is None:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def taken(folder: Path) -> int:
    """Bytes on disk."""
    done = subprocess.run(["du", "-s", "--block-size=1", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


async def flattened(engine: Dockerd, ref: str, cache: Path) -> Cost:
    """Fetched, merged, imported and removed by isobench; what it fetched stays in `cache`."""
    ours = DockerEngine(engine.url, flatten=Flatten(cache, CAP))
    try:
        empty = await asyncio.to_thread(_settled, engine.data)
        began = time.monotonic()
        image = await ours.fetch(await ours.resolve(ref), lambda _: None)
        bring = time.monotonic() - began
        disk = await asyncio.to_thread(_settled, engine.data) - empty
        began = time.monotonic()
        removed = await ours.remove_image(image)
        assert removed and image.config is not None
        return Cost(bring, time.monotonic() - began, disk, await asyncio.to_thread(taken, cache))
    finally:
        await ours.close()


def pulled(engine: Dockerd, ref: str) -> Cost:
    """Pulled and pruned with Docker's own command."""
    empty = _settled(engine.data)
    bring = _docker(engine, "pull", "--quiet", ref)
    disk = _settled(engine.data) - empty
    return Cost(bring, _docker(engine, "system", "prune", "-af"), disk)


def _settled(folder: Path) -> int:
    """`taken`, with nothing left to be written that the next measurement would pay for."""
    os.sync()
    return taken(folder)


def _docker(engine: Dockerd, *argv: str) -> float:
    began = time.monotonic()
    subprocess.run(
        ["docker", "-H", engine.url, *argv], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Merges:
    """Seconds of each round; entries that were read, bytes of the tar."""

    alone: list[float]
    unpacked: list[float]
    tar: list[float]
    entries: int
    size: int


def merges(blobs: Blobs, digests: Sequence[str], folder: Path) -> Merges:
    """The merge into nothing, into `tar -x`, and `tar -x` of what it makes, in turn."""
    one = folder / "one.tar"
    with one.open("wb") as file:
        entries = _merge(blobs, digests, file.write)
    found = Merges([], [], [], entries, one.stat().st_size)

    def alone(_: Path) -> None:
        _merge(blobs, digests, lambda _: None)

    def unpacked(tree: Path) -> None:
        with subprocess.Popen(["tar", "-x", "-C", str(tree)], stdin=subprocess.PIPE) as tar:
            assert tar.stdin is not None
            fcntl.fcntl(tar.stdin, fcntl.F_SETPIPE_SZ, PIPE)
            _merge(blobs, digests, tar.stdin.write)
        assert tar.returncode == 0

    def tar(tree: Path) -> None:
        subprocess.run(["tar", "-x", "-f", str(one), "-C", str(tree)], check=True)

    for _ in range(ROUNDS):
        for took, work in ((found.alone, alone), (found.unpacked, unpacked), (found.tar, tar)):
            with tempfile.TemporaryDirectory(dir=folder) as tree:
                os.sync()
                began = time.monotonic()
                work(Path(tree))
                took.append(time.monotonic() - began)
    return found


def _merge(blobs: Blobs, digests: Sequence[str], sink: Callable[[bytes], object]) -> int:
    merge = Merge([lambda digest=digest: pieces(blobs.path(digest)) for digest in digests], sink)  # type: ignore[misc]
    merge.run()
    return merge.entries


async def _digests(engine: Dockerd, ref: str, cache: Path) -> list[str]:
    ours = DockerEngine(engine.url, flatten=Flatten(cache, CAP))
    try:
        return [layer.digest for layer in (await ours.resolve(ref)).layers]
    finally:
        await ours.close()


def measure(plan: Plan) -> int:
    with contextlib.closing(Registry()) as registry:
        registry.publish_tars("bench:1", layers(plan))
        ref = registry.name("bench:1")
        print("published", file=sys.stderr)
        with fresh("vfs") as (engine, folder):
            first = asyncio.run(flattened(engine, ref, folder / "cache"))
        print(f"flattened in {first.seconds:.1f} s", file=sys.stderr)
        with fresh("vfs") as (engine, _):
            docker = pulled(engine, ref)
        print(f"pulled and pruned in {docker.seconds:.1f} s", file=sys.stderr)
        with fresh("vfs") as (engine, folder):
            second = asyncio.run(flattened(engine, ref, folder / "cache"))
            print(f"flattened in {second.seconds:.1f} s", file=sys.stderr)
            digests = asyncio.run(_digests(engine, ref, folder / "cache"))
            merge = merges(Blobs(folder / "cache" / "blobs", CAP), digests, folder)
    rows = [("flattened, first", first), ("docker pull, system prune -af", docker), ("flattened, second", second)]
    print_table(
        ("image of 25 layers on vfs", "bring s", "remove s", "data-root MB", "part", "blob cache MB", "part with it"),
        [(name, *cost.cells(docker.disk)) for name, cost in rows],
    )
    print()
    print_table(
        (f"{merge.size / MB:.0f} MB, {merge.entries} entries", "runs", "median s", "least", "greatest"),
        [
            ("merge of the blobs, alone", *spread(merge.alone)),
            ("merge of the blobs, into tar -x", *spread(merge.unpacked)),
            ("tar -x of the same tree", *spread(merge.tar)),
        ],
    )
    ours = statistics.mean((first.seconds, second.seconds))
    return settle(
        Bar("images_times", docker.seconds / ours, ">=", 12),
        Bar("images_disk", max(first.disk, second.disk) / docker.disk, "<=", 1 / 20),
        Bar("images_merge", statistics.median(merge.alone) / statistics.median(merge.tar), "<=", 1.3),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the files")
    args = parser.parse_args()
    try:
        return measure(QUICK if args.quick else FULL)
    except (CannotStart, CannotMount) as reason:
        print(f"cannot measure here: {reason}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
