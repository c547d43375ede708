"""Flattened images on a real engine: the same root file system, entry by entry, as the same image pulled normally."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from baseimage import base_tar
from conftest import Lab, missing
from demotree import TREE
from dockerd import Dockerd, Host, Registry, eventually
from isal import igzip
from proxy import Proxy
from rootfs import Node, vfs_folder, walk
from test_merge import FOLDER, LINK, SYMLINK, member, tar

from isobench_tui.engine.base import ImageInfo, ImageMissing, PullFailed, PullProgress
from isobench_tui.engine.docker import DockerEngine
from isobench_tui.engine.images.images import Flatten
from isobench_tui.engine.images.names import flat_name

MB = 1 << 20
CAP = 1 << 30

pytestmark = pytest.mark.docker


def nothing(_: PullProgress) -> None: ...


@pytest.fixture
async def vfs_lab(vfs_host: Host, tmp_path: Path) -> AsyncIterator[Lab]:
    if not isinstance(vfs_host, Dockerd):
        missing("walking an image's files needs an engine that the tests started: root and dockerd")
    made = Lab(vfs_host, tmp_path)
    yield made
    await made.close()


def flattener(lab: Lab, tmp_path: Path, **options: Any) -> DockerEngine:
    return lab.engine(flatten=Flatten(tmp_path / "cache", CAP), **options)


def files(lab: Lab, image: ImageInfo) -> dict[bytes, Node]:
    host = lab.host
    assert isinstance(host, Dockerd)
    assert image.id is not None
    return walk(vfs_folder(host.root / "data", host.inspect(image.id)))


def moved_times(nodes: dict[bytes, Node], *paths: bytes) -> dict[bytes, Node]:
    """Without the times of these: unpacking one layer over another changes them, whoever does it."""
    return {path: replace(node, mtime=None) if path in paths else node for path, node in nodes.items()}


async def both_ways(lab: Lab, tmp_path: Path, ref: str) -> tuple[dict[bytes, Node], dict[bytes, Node], ImageInfo]:
    """The files of an image that is flattened, and of the same pulled by the engine; the latter is removed."""
    engine = flattener(lab, tmp_path)
    one = await engine.fetch(await engine.resolve(ref), nothing)
    plain = lab.engine()
    pulled = await plain.fetch(await plain.resolve(ref), nothing)
    assert pulled.id != one.id
    found = files(lab, one), files(lab, pulled), one
    assert await plain.remove_image(pulled)
    return found


LONG = "/".join(["a-rather-long-folder-name-that-repeats-itself"] * 6)
NOT_UTF8 = b"caf\xe9-\xff".decode("utf-8", "surrogateescape")


def awkward() -> list[bytes]:
    """Layers with everything that tar and the image specification have, and builders produce."""
    capable = {"SCHILY.xattr.security.capability": CAPABILITY}
    base = tar(
        member("./", FOLDER, mode=0o755, mtime=1_600_000_000),
        member("./bin/", FOLDER, mode=0o755, mtime=1_600_000_001),
        member("./bin/tool", content=b"tool" * 5000, mode=0o4755, mtime=1_600_000_002, uid=3, gid=4),
        member("./bin/tool-2", LINK, link="./bin/tool", mode=0o4755, mtime=1_600_000_002, uid=3, gid=4),
        member("./bin/gone", content=b"gone", mtime=1_600_000_003),
        member("./bin/alias-of-gone", LINK, link="bin/gone", mtime=1_600_000_003),
        member("./bin/late", content=b"late" * 300, mtime=1_600_000_004),
        member("./dev/", FOLDER, mode=0o755, mtime=1_600_000_005),
        member("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, mtime=1_600_000_006),
        member("./dev/loop", tarfile.BLKTYPE, devmajor=7, devminor=9, mode=0o660, mtime=1_600_000_007),
        member("./dev/pipe", tarfile.FIFOTYPE, mode=0o600, mtime=1_600_000_008),
        member("./opaque/", FOLDER, mode=0o700, mtime=1_600_000_009),
        member("./opaque/below", content=b"below"),
        member("./swap/", FOLDER, mode=0o755),
        member("./swap/inner", content=b"x"),
        member("./link", SYMLINK, link="bin/tool", mtime=1_600_000_010),
        member("./dangling", SYMLINK, link="/nowhere/" + "x" * 150, mtime=1_600_000_010),
        member("./marked", content=b"marked", mtime=1_600_000_011.123456, pax_headers=capable),
    )
    gnu = tar(
        member(f"{LONG}/", FOLDER, mode=0o755, mtime=1_600_000_100),
        member(f"{LONG}/{'n' * 120}", content=b"long" * 200, mtime=1_600_000_101),
        member(NOT_UTF8, content=b"latin", mtime=1_600_000_102),
        member("big-ids", content=b"1", uid=3_000_000, gid=4_000_000, mtime=1_600_000_103),
        form=tarfile.GNU_FORMAT,
    )
    changes = tar(
        member("bin/", FOLDER, mode=0o711, mtime=1_600_000_200),
        member("bin/.wh.gone"),
        member("bin/linked-below", LINK, link="bin/tool", mode=0o4755, mtime=1_600_000_002, uid=3, gid=4),
        member("bin/late", content=b"newer", mtime=1_600_000_201),
        member("opaque/", FOLDER, mode=0o755, mtime=1_600_000_202),
        member("opaque/.wh..wh..opq"),
        member("opaque/above", content=b"above", mtime=1_600_000_203),
        member("swap", content=b"a file now", mtime=1_600_000_204),
        member(f"{LONG}/{'p' * 200}", content=b"pax" * 400, mtime=1_600_000_205),
        member("naïve-ünïcode", content=b"utf-8", mtime=1_600_000_206),
    )
    last = tar(
        member("bin/", FOLDER, mode=0o755, mtime=1_600_000_300),
        member("bin/.wh.tool"),
        member("swap/", FOLDER, mode=0o755, mtime=1_600_000_301),
        member("swap/again", content=b"a folder again", mtime=1_600_000_302),
        # Here alone: the driver that copies layers keeps no attribute of users in its copies.
        member("empty", mtime=1_600_000_303, pax_headers={"SCHILY.xattr.user.note": "kept"}),
        member(f"{LONG}/", FOLDER, mode=0o750, mtime=1_600_000_304),
    )
    return [base, gnu, changes, last]


CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".decode()
"""cap_net_bind_service=ep as security.capability has it (vfs_cap_data, version 2)."""


def as_zstd(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(raw)


def as_parts(raw: bytes) -> bytes:
    """Gzip of several members, as pigz and estargz write it."""
    half = len(raw) // 2
    return gzip.compress(raw[:half], mtime=0) + gzip.compress(raw[half:], mtime=0)


async def test_awkward_layers_are_the_same_flattened(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    packers: list[Callable[[bytes], bytes]] = [as_parts, gzip.compress, lambda raw: raw, gzip.compress]
    registry.publish_tars("awkward:1", awkward(), packers=packers)
    flat, pulled, _ = await both_ways(vfs_lab, tmp_path, registry.name("awkward:1"))
    implied = {os.fsencode(LONG.rsplit("/", depth)[0]) for depth in range(1, 6)}
    touched = (b"", b"opaque", b"swap", *implied)
    assert moved_times(flat, *touched) == moved_times(pulled, *touched)
    assert flat[b"bin/linked-below"].names == (b"bin/linked-below", b"bin/tool-2")
    assert flat[b"empty"].xattrs == (("user.note", b"kept"),)
    assert flat[b"marked"].xattrs[0][0] == "security.capability"
    assert b"bin/gone" not in flat
    assert flat[b"bin/alias-of-gone"].size == 4


async def test_zstd_layers_are_flattened(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    registry.publish_tars("packed:gzip", awkward())
    registry.publish_tars("packed:zstd", awkward(), packers=[as_zstd] * 4)
    engine = flattener(vfs_lab, tmp_path)
    found = [
        await engine.fetch(await engine.resolve(registry.name(f"packed:{tag}")), nothing) for tag in ("gzip", "zstd")
    ]
    assert files(vfs_lab, found[0]) == files(vfs_lab, found[1])
    for image in found:
        assert await engine.remove_image(image)


def demo(registry: Registry, path: str) -> str:
    """A Debian with the demo's tree in it, patched as agents' images are, and files of the distribution removed; the
    image's digest."""
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as archive:
        archive.add(TREE, "opt/demo")
    late = tar(
        member("opt/demo/patched", content=b"by an agent", mtime=1_600_000_000),
        member("usr/bin/git-again", LINK, link="usr/bin/git", mode=0o755, mtime=1_600_000_000),
        member("usr/share/.wh.bash-completion"),
        member("etc/.wh.debian_version"),
        member("data/x", content=b"x"),
    )
    config = {"Env": ["PATH=/opt/bin:/usr/bin:/bin", WORDS], "WorkingDir": "/data", "Labels": {"mine": "yes"}}
    return registry.publish_tars(
        path,
        [base_tar().read_bytes(), tree.getvalue(), late],
        config={**config, "Volumes": {"/var/v": {}}, "Entrypoint": ["/bin/false"], "User": "nobody"},
        packers=[igzip.compress] * 3,
    )


WORDS = 'WORDS=a $HOME "b"'


async def test_an_image_is_found_used_and_removed_by_its_digest(
    vfs_lab: Lab, registry: Registry, tmp_path: Path
) -> None:
    host, ref = vfs_lab.host, registry.name("demo:1")
    digest = await asyncio.to_thread(demo, registry, "demo:1")
    flat, pulled, image = await both_ways(vfs_lab, tmp_path, ref)
    touched = (b"", b"etc", b"opt", b"opt/demo", b"usr", b"usr/bin", b"usr/share", b"data")
    assert moved_times(flat, *touched) == moved_times(pulled, *touched)
    assert len(flat) > 3000
    assert flat[b"usr/bin/git-again"].names == flat[b"usr/bin/git"].names
    assert (flat[b"opt/demo/patched"].size, b"etc/debian_version" in flat) == (11, False)

    engine = flattener(vfs_lab, tmp_path)
    assert await engine.resolve(ref) == image
    assert (await engine.resolve(f"{registry.name('demo')}@{digest}")).id == image.id
    spec = vfs_lab.spec(
        "import json, os; json.dump([os.environ['WORDS'], os.environ['PATH'], os.getcwd(), os.getuid()], "
        "open(run + '/out', 'w'))",
        image=image,
    )
    handle = await engine.launch(spec)
    assert (await engine.wait(handle)).code == 0
    told = json.loads((spec.run_dir / "out").read_text())
    assert told == ['a $HOME "b"', "/opt/bin:/usr/bin:/bin", "/data", 0]
    made = host.client.inspect_container(handle.id)["Config"]
    assert (made["Labels"]["mine"], made["Volumes"]) == ("yes", {"/var/v": {}})
    assert not await engine.remove_image(image), "a container uses it"
    await engine.remove(handle)

    elsewhere = vfs_lab.engine(flatten=Flatten(tmp_path / "another", CAP))
    assert (await elsewhere.resolve(ref)).config == image.config
    assert await engine.remove_image(replace(image, config=None))
    assert not host.has_image(flat_name(digest))
    assert not (await engine.resolve(ref)).present


async def test_progress_goes_from_bytes_to_merging(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    digest = registry.publish("shown:1", [os.urandom(5 * MB), os.urandom(2 * MB)])
    engine = flattener(vfs_lab, tmp_path)
    with Proxy(("127.0.0.1", registry.port)) as slow:
        slow.rate = 8 * MB
        found = await engine.resolve(f"127.0.0.1:{slow.port}/shown:1")
        told: list[PullProgress] = []
        image = await engine.fetch(found, told.append)
        await engine.remove_image(image)
        again = await engine.resolve(found.ref)
    assert image.digest == digest
    assert {x.total for x in told} == {found.size}
    assert [x.done for x in told] == sorted(x.done for x in told)
    assert told[-1].done == found.size
    assert any(0 < x.done < (found.size or 0) for x in told)
    assert {layer.state for layer in told[-1].layers} == {"done"}
    assert told[-1].moved == found.size
    assert again.size == 0, "its blobs are still in the cache"
    assert all(layer.here for layer in again.layers)


async def test_upper_layers_are_merged_while_lower_ones_come(
    vfs_lab: Lab, registry: Registry, tmp_path: Path
) -> None:
    registry.publish("meanwhile:1", [b"below", b"above"])
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # as if other lanes had the other threads
    engine = flattener(vfs_lab, tmp_path)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        found = await engine.resolve(f"127.0.0.1:{proxy.port}/meanwhile:1")
        below, above = (layer.digest[7:19] for layer in found.layers)
        held = proxy.rule(rf"^GET \S*/blobs/sha256:{below}", "answer")
        told: list[PullProgress] = []
        fetching = asyncio.create_task(engine.fetch(found, told.append))
        await eventually(lambda: told and (above, "extracting") in {(x.id, x.state) for x in told[-1].layers})
        assert not fetching.done()
        held.release()
        image = await fetching
    assert {path for path, node in files(vfs_lab, image).items() if node.kind == stat.S_IFREG} == {b"0", b"1"}
    assert await engine.remove_image(image)


async def test_a_layer_that_is_missing_ends_the_import_of_those_above_it(
    vfs_lab: Lab, registry: Registry, tmp_path: Path
) -> None:
    registry.publish("headless:1", [b"below", b"above"])
    engine = flattener(vfs_lab, tmp_path, backoff=0.01)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        found = await engine.resolve(f"127.0.0.1:{proxy.port}/headless:1")
        proxy.rule(rf"^GET \S*/blobs/{found.layers[0].digest}", 404)
        with pytest.raises(ImageMissing, match="404"):
            await engine.fetch(found, nothing)
        assert not vfs_lab.host.has_image(flat_name(found.digest or ""))
    image = await engine.fetch(await engine.resolve(registry.name("headless:1")), nothing)
    assert await engine.remove_image(image)


async def test_layers_of_a_difficult_registry(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    registry.publish("difficult:1", [os.urandom(9 * MB), os.urandom(MB)])
    engine = flattener(vfs_lab, tmp_path, backoff=0.01)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        proxy.want_token("secret-token")
        found = await engine.resolve(f"127.0.0.1:{proxy.port}/difficult:1")
        rules = [
            proxy.rule(r"^GET \S*/blobs/", 429, times=2, head="Retry-After: 0\r\n"),
            proxy.rule(r"^GET \S*/blobs/", 503, times=1),
            proxy.rule(r"^GET \S*/blobs/", "cut", times=3, at=2 * MB),
            proxy.rule(r"^GET \S*/blobs/", "damage", times=1, at=1000),
        ]
        image = await engine.fetch(found, nothing)
        assert [rule.seen for rule in rules] == [2, 1, 3, 1]
    plain = vfs_lab.engine()
    pulled = await plain.fetch(await plain.resolve(registry.name("difficult:1")), nothing)
    assert moved_times(files(vfs_lab, image), b"") == moved_times(files(vfs_lab, pulled), b"")
    for one in (image, pulled):
        assert await engine.remove_image(one)


async def test_a_blob_that_is_never_right_is_refused(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    registry.publish("wrong:1", [os.urandom(MB)])
    engine = flattener(vfs_lab, tmp_path, backoff=0.01)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        found = await engine.resolve(f"127.0.0.1:{proxy.port}/wrong:1")
        proxy.rule(rf"^GET \S*/blobs/{found.layers[0].digest}", "damage", at=1000)
        with pytest.raises(PullFailed, match="another sha256"):
            await engine.fetch(found, nothing)
    assert not vfs_lab.host.has_image(flat_name(found.digest or ""))


async def test_a_fetch_that_was_killed_goes_on_where_it_was(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    registry.publish("resumed:1", [os.urandom(24 * MB)])
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        proxy.rate = 12 * MB
        first = flattener(vfs_lab, tmp_path)
        found = await first.resolve(f"127.0.0.1:{proxy.port}/resumed:1")
        told: list[PullProgress] = []
        fetching = asyncio.create_task(first.fetch(found, told.append))
        await eventually(lambda: told and told[-1].done > 14 * MB, "bytes come in")
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        proxy.rate, proxy.passed = None, 0
        second = flattener(vfs_lab, tmp_path)
        image = await second.fetch(await second.resolve(found.ref), nothing)
        assert proxy.passed < 14 * MB
        assert await second.remove_image(image)


async def test_a_cancelled_import_leaves_nothing(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    registry.publish("halfway:1", [os.urandom(MB)] * 2 + [os.urandom(30 * MB)])
    engine = flattener(vfs_lab, tmp_path)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        found = await engine.resolve(f"127.0.0.1:{proxy.port}/halfway:1")
        proxy.rule(rf"^GET \S*/blobs/{found.layers[0].digest}", "answer")
        told: list[PullProgress] = []
        fetching = asyncio.create_task(engine.fetch(found, told.append))
        await eventually(lambda: told and any(x.state == "extracting" for x in told[-1].layers), "the merge begins")
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert not vfs_lab.host.has_image(flat_name(found.digest or ""))
    image = await engine.fetch(await engine.resolve(registry.name("halfway:1")), nothing)
    assert await engine.remove_image(image)


async def test_what_cannot_be_merged_is_pulled_as_it_is(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    lower = tar(member("usr/lib/", FOLDER, mode=0o755), member("lib", SYMLINK, link="usr/lib"))
    registry.publish_tars("through:1", [lower, tar(member("lib/new", content=b"through a link"))])
    engine = flattener(vfs_lab, tmp_path)
    found = await engine.resolve(registry.name("through:1"))
    image = await engine.fetch(found, nothing)
    assert "not flattened" in image.note
    assert (image.config, len(vfs_lab.host.inspect(image.pinned)["RootFS"]["Layers"])) == (None, 2)
    assert await engine.remove_image(image)
    stubborn = vfs_lab.engine(flatten=Flatten(tmp_path / "cache", CAP, always=True))
    with pytest.raises(PullFailed, match="files in it"):
        await stubborn.fetch(found, nothing)


LOWER = [
    member("f", content=b"old"),
    member("x/", FOLDER, mode=0o755),
    member("x/old", content=b"old"),
    member("d/", FOLDER, mode=0o755),
    member("d/sub/", FOLDER, mode=0o755),
    member("d/sub/old", content=b"old"),
]
OPAQUE = member("d/.wh..wh..opq")
SUB, NEW = member("d/sub/", FOLDER, mode=0o755), member("d/sub/new", content=b"new")

BEFORE = {
    "a-file": [member(".wh.f"), member("f", content=b"new")],
    "a-folder": [member(".wh.x"), member("x/", FOLDER, mode=0o700), member("x/new", content=b"new")],
    "a-file-in-it": [member(".wh.x"), member("x/new", content=b"new")],
    "nothing": [member(".wh.absent"), member("made/.wh.absent")],
    "after-a-link": [member("g", LINK, link="f"), member(".wh.f")],
    "opaque-first": [OPAQUE, NEW],
    "opaque-last": [SUB, NEW, OPAQUE],
}
"""Upper layers whose whiteouts come before what takes the place of what they remove, or whose order tells nothing."""
AFTER = {
    "a-file": [member("f", content=b"new"), member(".wh.f")],
    "a-file-in-it": [member("x/new", content=b"new"), member(".wh.x")],
    "a-name-of-two": [member("n", content=b"new"), member("m", LINK, link="n"), member(".wh.n")],
    "opaque": [NEW, OPAQUE],
}
"""Upper layers that remove what they have themselves: what is left of it is the engine's word."""


async def test_the_order_of_whiteouts_within_a_layer(vfs_lab: Lab, registry: Registry, tmp_path: Path) -> None:
    for name, upper in BEFORE.items():
        registry.publish_tars(f"before-{name}:1", [tar(*LOWER), tar(*upper)])
        flat, pulled, image = await both_ways(vfs_lab, tmp_path, registry.name(f"before-{name}:1"))
        assert not image.note, name
        assert set(flat) == set(pulled), name
        if name == "nothing":  # Docker's version decides the mode of a folder that is only looked into
            assert flat.pop(b"made").kind == pulled.pop(b"made").kind == stat.S_IFDIR
        touched = [path for path, node in flat.items() if node.kind == stat.S_IFDIR]
        assert moved_times(flat, *touched) == moved_times(pulled, *touched), name
        assert await vfs_lab.engine().remove_image(image)
    for name, upper in AFTER.items():
        registry.publish_tars(f"after-{name}:1", [tar(*LOWER), tar(*upper)])
        engine = flattener(vfs_lab, tmp_path)
        image = await engine.fetch(await engine.resolve(registry.name(f"after-{name}:1")), nothing)
        assert "not flattened" in image.note, name
        assert await engine.remove_image(image)


async def test_where_layers_are_shared_nothing_is_flattened(lab: Lab, registry: Registry, tmp_path: Path) -> None:
    registry.publish("as-it-is:1", [b"1", b"2"])
    ref = registry.name("as-it-is:1")
    auto = lab.engine(flatten=Flatten(tmp_path / "cache", CAP))
    image = await auto.fetch(await auto.resolve(ref), nothing)
    assert (image.config, (await auto.storage()).flattens) == (None, False)
    assert await auto.remove_image(image)
    always = lab.engine(flatten=Flatten(tmp_path / "cache", CAP, always=True))
    image = await always.fetch(await always.resolve(ref), nothing)
    assert image.config is not None
    assert lab.host.inspect(flat_name(image.digest or ""))["Id"] == image.id
    assert await always.remove_image(image)
