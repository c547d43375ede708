"""The docker engine on real engines and a real registry: references, pulls with progress, removal of images."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from dockerd import SCHEMA, Dockerd, Registry, eventually, free_port
from proxy import Proxy

from isobench_tui.engine import storage
from isobench_tui.engine.base import DiskFull, EngineUnreachable, ImageInfo, ImageMissing, PullFailed, PullProgress
from isobench_tui.engine.docker import DockerEngine
from isobench_tui.engine.images.pull import Progress, short
from isobench_tui.engine.storage import root_of

MB = 1 << 20

pytestmark = pytest.mark.docker


def nothing(_: PullProgress) -> None: ...


def test_where_images_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = (tmp_path / "containerd.sock",)
    monkeypatch.setattr(storage, "CONTAINERD_SOCKETS", sockets)
    overlay: dict[str, Any] = {"DockerRootDir": "/d", "DriverStatus": [["Backing Filesystem", "extfs"]]}
    assert root_of(overlay) == Path("/d")
    snapshotter = {"DockerRootDir": "/d", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
    assert root_of(snapshotter) == Path("/d/containerd/daemon"), "the engine found none on the host"
    sockets[0].touch()
    assert root_of(snapshotter) == Path("/var/lib/containerd")
    for address, place in ((sockets[0], "/var/lib/containerd"), ("/run/docker/x.sock", "/d/containerd/daemon")):
        assert root_of({**snapshotter, "Containerd": {"Address": str(address)}}) == Path(place)


def test_progress_counts_downloads_and_waits_for_sizes() -> None:
    progress = Progress()
    assert progress.snapshot() == PullProgress((), 0, None)
    for event in (
        {"status": "Pulling from app", "id": "sha256:1"},
        {"status": "Already exists", "id": "a"},
        {"status": "Pulling fs layer", "id": "b"},
        {"status": "Pulling fs layer", "id": "c"},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 4, "total": 10}},
    ):
        progress.feed(event)
    told = progress.snapshot()
    assert [(x.id, x.state, x.done, x.total) for x in told.layers] == [
        ("a", "exists", 0, 0),
        ("b", "downloading", 4, 10),
        ("c", "waiting", 0, None),
    ]
    assert (told.done, told.total) == (4, None)
    progress.feed({"status": "Download complete", "id": "b"})
    progress.feed({"status": "Extracting", "id": "b", "progressDetail": {"current": 2, "total": 10}})
    progress.feed({"status": "Pull complete", "id": "c"})
    told = progress.snapshot()
    assert [(x.state, x.done, x.total) for x in told.layers[1:]] == [("extracting", 2, 10), ("done", 0, 0)]
    assert (told.done, told.total) == (10, 10)
    progress.finish()
    assert [x.state for x in progress.snapshot().layers] == ["exists", "done", "done"]


async def test_a_pull_tells_bytes_and_pins_what_it_pulled(any_lab: Lab, registry: Registry) -> None:
    host, engine = any_lab.host, any_lab.engine()
    path = f"{host.driver}:v1"
    layers = [os.urandom(MB), os.urandom(3 * MB), os.urandom(MB) + bytes(8 * MB)]
    digest = registry.publish(path, layers)
    _, body = registry.request(
        "GET", f"/v2/{host.driver}/manifests/{digest}", Accept=f"{SCHEMA}.distribution.manifest.v2+json"
    )
    sizes = sorted(layer["size"] for layer in json.loads(body)["layers"])
    ref = registry.name(path)

    found = await engine.resolve(ref)
    bare = ImageInfo(ref, f"{registry.name(host.driver)}@{digest}", digest, None, present=False, size=sum(sizes))
    assert replace(found, layers=()) == bare
    assert sorted(layer.size for layer in found.layers) == sizes
    assert not any(layer.here for layer in found.layers)
    told: list[PullProgress] = []
    image = await engine.fetch(found, told.append)
    last = told[-1]
    assert {layer.state for layer in last.layers} == {"done"}
    assert sorted(layer.total or 0 for layer in last.layers) == sizes
    assert (last.done, last.total) == (sum(sizes), sum(sizes))
    assert [x.done for x in told] == sorted(x.done for x in told)
    assert any(0 < x.done < sum(sizes) for x in told)
    assert {x.total for x in told} == {sum(sizes)}, "known from the first word on"
    assert {x.id for x in last.layers} == {short(x.digest) for x in found.layers}

    assert image == replace(bare, id=host.inspect(ref)["Id"], present=True, size=image.size)
    assert 0 <= (image.size or 0) - sum(map(len, layers)) < MB, "unpacked, however the engine counts"
    assert await engine.resolve(ref) == image
    assert await engine.resolve(image.pinned) == replace(image, ref=image.pinned)
    registry.publish(f"{host.driver}:v2", [*layers, os.urandom(MB)])
    second = await engine.resolve(registry.name(f"{host.driver}:v2"))
    assert [layer.here for layer in second.layers] == [True, True, True, False]
    assert second.size == second.layers[-1].size
    await engine.fetch(second, told.append)
    assert sorted(layer.state for layer in told[-1].layers) == ["done", "exists", "exists", "exists"]
    for mine in (image, second):
        assert await engine.remove_image(mine)
        assert not await engine.remove_image(mine)
    assert not host.client.images(name=registry.name(host.driver))


async def test_a_cancelled_pull_ends_in_the_engine_too(lab: Lab, registry: Registry) -> None:
    digest = registry.publish("big:1", [os.urandom(16 * MB)])
    engine = lab.engine()
    with Proxy(("127.0.0.1", registry.port)) as slow:
        slow.rate = 2 * MB
        image = await engine.resolve(f"127.0.0.1:{slow.port}/big:1")
        assert image.digest == digest
        told: list[PullProgress] = []
        pulling = asyncio.create_task(engine.fetch(image, told.append))
        await eventually(lambda: told and told[-1].done > MB, "bytes come in")
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        await eventually(lambda: slow.open == 0, "the engine hangs up on the registry")
        assert slow.passed < 16 * MB
        assert not lab.host.has_image(image.pinned)
        slow.rate = None
        assert (await engine.fetch(image, told.append)).present
        await engine.remove_image(image)


async def test_a_pull_from_a_silent_registry_is_cancelled_at_once(lab: Lab, registry: Registry) -> None:
    registry.publish("silent:1", [os.urandom(1000)])
    engine = lab.engine()
    with Proxy(("127.0.0.1", registry.port)) as silent:
        image = await engine.resolve(f"127.0.0.1:{silent.port}/silent:1")
        silent.stalled = True
        pulling = asyncio.create_task(engine.fetch(image, nothing))
        await eventually(lambda: silent.open, "the engine asks for the manifest")
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        assert silent.stalled


async def test_a_registry_that_fails_for_a_while_is_asked_again(lab: Lab, registry: Registry) -> None:
    registry.publish("flaky:1", [os.urandom(1000)])
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        engine = lab.engine(backoff=0.05)
        image = await engine.resolve(f"127.0.0.1:{proxy.port}/flaky:1")
        sick = proxy.rule(r"/manifests/", 503, times=2)
        assert (await engine.fetch(image, nothing)).present
        assert sick.seen == 2
        assert await engine.remove_image(image)

        registry.publish("sick:1", [os.urandom(1000)])
        image = await engine.resolve(f"127.0.0.1:{proxy.port}/sick:1")
        proxy.rule(r"/manifests/", 503)
        with pytest.raises(PullFailed, match="503"):
            await engine.fetch(image, nothing)
        with pytest.raises(PullFailed, match="503"):
            await engine.resolve(image.ref)


BUSY = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'


@pytest.mark.parametrize(
    "words", [b"layer verification failed for sha256:0", b"failed commit on ref: unexpected commit digest sha256:0"]
)
async def test_an_engine_that_got_a_damaged_blob_is_asked_again(
    lab: Lab, registry: Registry, tmp_path: Path, words: bytes
) -> None:
    registry.publish("spoilt:1", [os.urandom(1000)])
    with Proxy(Path(lab.host.url.removeprefix("unix://")), tmp_path / "p.sock") as proxy:
        engine = lab.engine(f"unix://{tmp_path}/p.sock", backoff=0.01)
        rule = proxy.rule(r"^POST /images/create", 200, times=2, body=b'{"error":"' + words + b'"}')
        image = await engine.fetch(await engine.resolve(registry.name("spoilt:1")), nothing)
        assert rule.seen == 2
        assert await engine.remove_image(image)


async def test_an_engine_pulls_from_a_difficult_registry(any_lab: Lab, registry: Registry) -> None:
    """It asks for a token, is busy, resets a connection within a blob and spoils another one; the files are right."""
    registry.publish("difficult:2", [b"whole", os.urandom(3 * MB)])
    engine = any_lab.engine(backoff=0.05)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        proxy.want_token("secret-token")
        found = await engine.resolve(f"127.0.0.1:{proxy.port}/difficult:2")
        rules = [
            proxy.rule(r"^(GET|HEAD) \S*/manifests/", 429, times=1, body=BUSY),
            proxy.rule(rf"^GET \S*/blobs/{found.layers[1].digest}", "cut", times=1, at=MB),
            proxy.rule(rf"^GET \S*/blobs/{found.layers[0].digest}", "damage", times=1, at=30),
        ]
        image = await engine.fetch(found, nothing)
        assert [rule.seen for rule in rules] == [1, 1, 1]
    assert any_lab.host.inspect(image.pinned)["RootFS"]["Layers"] == [layer.diff_id for layer in found.layers]
    assert await engine.remove_image(image)


async def test_what_no_registry_has_is_missing(lab: Lab, registry: Registry) -> None:
    engine = lab.engine()
    for ref in (
        registry.name("never:1"),
        "Not A Reference",
        f"{registry.address}/UPPER:1",
        f"{registry.address}/x@sha256:{'0' * 64}",
    ):
        with pytest.raises(ImageMissing):
            await engine.resolve(ref)
    digest = registry.publish("deleted:1", [os.urandom(1000)])
    image = await engine.resolve(registry.name("deleted:1"))
    await asyncio.to_thread(registry.request, "DELETE", f"/v2/deleted/manifests/{digest}")
    with pytest.raises(ImageMissing):
        await engine.fetch(image, nothing)
    with pytest.raises(ImageMissing, match="no digest"):
        await engine.fetch(ImageInfo("local:1", f"sha256:{'1' * 64}", None, None, present=False), nothing)


async def test_a_registry_that_is_down_is_no_missing_image(lab: Lab) -> None:
    engine = lab.engine(backoff=0.01)
    ref = f"127.0.0.1:{free_port()}/app"
    with pytest.raises(PullFailed):
        await engine.resolve(f"{ref}:1")
    with pytest.raises(PullFailed):
        await engine.fetch(ImageInfo(f"{ref}:1", f"{ref}@sha256:{'2' * 64}", None, None, present=False), nothing)


async def test_an_engine_that_is_gone_cannot_pull(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnreachable):
        await engine.fetch(ImageInfo("x:1", f"x@sha256:{'3' * 64}", None, None, present=False), nothing)
    await engine.close()


@pytest.mark.filterwarnings("ignore:docker-credential-isobench-absent")
async def test_credentials_of_the_docker_command_line_are_used(
    lab: Lab, locked_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = base64.b64encode(b"reader:secret-word").decode()
    locked_registry.headers["Authorization"] = f"Basic {login}"
    locked_registry.publish("private:1", [os.urandom(1000)])
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine, ref = lab.engine(), locked_registry.name("private:1")
    with pytest.raises(ImageMissing):
        await engine.resolve(ref)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {locked_registry.address: {"auth": login}}}))
    image = await engine.fetch(await engine.resolve(ref), nothing)
    assert image.present
    await engine.remove_image(image)
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "isobench-absent"}))
    with pytest.raises(PullFailed, match="credentials"):
        await lab.engine().resolve(ref)  # the other still has what it was given


async def test_a_full_disk_is_told_apart(own_dockerd: Dockerd, registry: Registry) -> None:
    registry.publish("large:1", [os.urandom(24 * MB)])
    small = await asyncio.to_thread(Dockerd, "vfs", room=16 * MB)
    engine = DockerEngine(small.url)
    try:
        image = await engine.resolve(registry.name("large:1"))
        with pytest.raises(DiskFull):
            await engine.fetch(image, nothing)
        usage = await engine.usage()
        assert (usage.path, usage.total) == (small.root / "data", 16 * MB)
    finally:
        await engine.close()
        await asyncio.to_thread(small.close)


async def test_only_our_reference_is_removed(lab: Lab) -> None:
    host, engine = lab.host, lab.engine()
    host.image("isobench-test/ours:1", [{"/x": os.urandom(10)}])
    image = await engine.resolve("isobench-test/ours:1")
    assert (image.pinned.rpartition("@")[2], image.present) == (host.inspect(image.ref)["Id"], True)
    # containerd's store has manifests and so digests also of what was built here
    assert (image.digest is None) == (host.driver != "overlayfs")
    handle = await engine.launch(lab.spec(image=image))
    await engine.wait(handle)
    assert not await engine.remove_image(image)
    await engine.remove(handle)
    host.client.tag(image.ref, "isobench-test/theirs", "1")
    assert await engine.remove_image(image)
    assert not host.has_image(image.ref)
    assert host.inspect("isobench-test/theirs:1")["Id"] == image.id
    host.image(image.ref, [{"/y": os.urandom(10)}])
    assert not await engine.remove_image(image)
    assert host.has_image(image.ref)
    assert not await engine.remove_image(replace(image, ref=image.id or "", pinned=image.id or ""))
    host.client.remove_image("isobench-test/theirs:1")
