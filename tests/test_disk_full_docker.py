"""Real campaigns on disks that fill up - before a pull, during it, while a benchmark runs: the queue pauses and goes
on by itself, and no job pays for it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaigns import SERVE, WITHIN, A, B, C, Images, Site, check_results, site_at, task
from conftest import disk_of, missing
from disks import MB, SmallDisk
from dockerd import CannotStart, Dockerd, until
from fakevllm import looks
from proxy import Proxy

from isobench_tui.engine.images.names import flat_name

pytestmark = pytest.mark.docker

GB = 1 << 30


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """Two gigabytes: enough for one of the demo's images and its container, also on vfs."""
    with disk_of(2 * GB) as made:
        yield made


@pytest.fixture(params=["overlay2", "vfs"])
def engine(request: pytest.FixtureRequest, disk: SmallDisk) -> Iterator[Dockerd]:
    """An engine whose data-root is all that is on the small disk."""
    try:
        made = Dockerd(request.param, data=disk.path / "docker")
    except CannotStart as reason:
        missing(reason)
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path, engine: Dockerd, images: Images) -> Iterator[Site]:
    """A workspace on the ordinary disk."""
    with site_at(tmp_path, engine, images) as made:
        yield made


def paused(site: Site) -> dict[str, Any]:
    """The pause of a queue that has paused itself."""
    site.wait("SELECT value FROM meta WHERE key = 'breaker'")
    found: dict[str, Any] = json.loads(site.isobench("status", "--json").stdout)["paused"]
    return found


def looked_at_again(site: Site) -> None:
    """Time for more than one look at the disks; nothing may have been started meanwhile."""
    before = len(site.attempts())
    since = site.one("SELECT at FROM events WHERE kind = 'paused' ORDER BY id DESC")
    site.wait("SELECT julianday('now') - julianday(?) > 7.0 / 86400", since)
    assert len(site.attempts()) == before


def check_unhurt(site: Site, *, jobs: int) -> None:
    """Every job ended with a valid success in its one counted attempt; what the disk ended burnt nothing."""
    site.idle()
    assert set(site.outcomes().values()) == {("success", None)}
    assert len(site.outcomes()) == jobs
    counted = [row for row in site.attempts() if row["counts"]]
    others = [row for row in site.attempts() if not row["counts"]]
    assert [row["outcome"] for row in counted] == ["success"] * jobs
    assert {(row["outcome"], row["failure"], row["blame"]) for row in others} <= {("failed", "disk_full", "infra")}
    check_results(site)
    site.assert_nothing_left()


def test_a_disk_without_room_before_a_pull_and_one_that_fills_during_it(
    site: Site, disk: SmallDisk, engine: Dockerd, slow_registry: Proxy
) -> None:
    """First the forecast says no and nothing is fetched; then it says yes, and somebody else takes the space."""
    disk.fill(leave=150 * MB)
    ref = site.images.ref("baseline", slow_registry.port)
    site.start(site.campaign(task(A), task(B), image=ref))
    found = paused(site)
    assert (found["failure"], found["foreseen"]) == ("disk_full", True)
    assert f"needed in {engine.data} (image " in found["reason"]
    (needed,) = [size for path, size in found["wants"] if path == str(engine.data)]
    assert needed > 400 * MB
    assert f"disk_full: {found['reason']}" in site.isobench("status").stdout
    looked_at_again(site)
    assert slow_registry.passed < 5 * MB
    (attempt,) = site.attempts()
    assert list(attempt["phases"]) == ["preflight", "collect", "cleanup"]
    assert set(site.outcomes().values()) == {("queued", None)}

    slow_registry.rate = 20 * MB
    disk.empty()
    site.wait("SELECT 1 FROM events WHERE text LIKE 'there is space again%'")
    until(lambda: site.live("pull").get("done", 0) > MB, within=WITHIN, what="bytes arrive")
    forecast = site.live("forecast")
    assert forecast["fetch"] == site.live("pull")["total"]
    assert {need["what"] for need in forecast["needs"]} >= {"image", "container", "logs", "workspace"}
    ours = site.workspace.images if engine.driver == "vfs" else site.workspace.runs  # the first of ours on its disk
    assert {volume["path"] for volume in forecast["volumes"]} == {str(engine.data), str(ours)}
    disk.fill()
    slow_registry.rate = None
    found = paused(site)
    assert (found["failure"], found["foreseen"]) == ("disk_full", False)
    assert [path for path, _ in found["wants"]] == [str(engine.data), str(ours)]
    looked_at_again(site)
    assert set(site.outcomes().values()) == {("queued", None)}
    disk.empty()
    check_unhurt(site, jobs=2)
    assert len(site.attempts()) == 4


def test_images_go_where_the_next_one_needs_the_room(
    site: Site, disk: SmallDisk, engine: Dockerd, images: Images
) -> None:
    """Three images where only one fits: the oldest idle one goes, the operator's own stays."""
    theirs = images.ref("user")
    for event in engine.client.pull(theirs, stream=True, decode=True):
        assert "error" not in event
    tasks = [task(commit, more=f'images.baseline = "{_variant(images, name)}"') for commit, name in VARIANTS.items()]
    file = site.campaign(*tasks)
    file.write_text(file.read_text().replace('keep = "all"', 'keep = "shared"'))
    disk.fill(leave=ROOM[engine.driver])
    site.isobench("run", file)
    check_unhurt(site, jobs=3)
    removed = site.rows("SELECT text, data FROM events WHERE kind = 'image' ORDER BY id")
    assert removed, site.story()
    for row in removed:
        data = json.loads(row["data"])
        assert data["image"] in {_variant(images, name) for name in VARIANTS.values()}
        assert (data["keep"], data["use"]) == ("shared", "idle")
        assert not engine.has_image(data["image"])
        assert not engine.has_image(flat_name(site.one("SELECT digest FROM images WHERE ref = ?", data["image"])))
    assert engine.has_image(theirs)


@pytest.mark.parametrize("engine", ["overlay2"], indirect=True)
def test_arms_run_in_turn_where_their_images_fit_and_else_in_blocks(
    site: Site, disk: SmallDisk, engine: Dockerd, images: Images
) -> None:
    pair = f'images.baseline = "{_variant(images, "one")}"\nimages.human = "{_variant(images, "two")}"'
    file = site.campaign(task(A, more=pair), arms=("baseline", "human"), name="roomy")
    text = file.read_text().replace('keep = "all"', 'keep = "shared"')
    file.write_text(text.replace('arms = ["baseline", "human"]', 'arms = ["baseline", "human"]\nrepeats = 2'))
    site.isobench("run", file)
    assert [row["arm"] for row in site.attempts()] == ["baseline", "human"] * 2
    assert site.one("SELECT blocked FROM tasks") == ""

    for name in ("one", "two"):
        engine.client.remove_image(_variant(images, name))
    disk.fill(leave=680 * MB)
    tight = site.root / "tight.toml"
    tight.write_text(file.read_text().replace('name = "roomy"', 'name = "tight"'))
    site.isobench("run", tight)
    assert [row["arm"] for row in site.attempts()[4:]] == ["baseline"] * 2 + ["human"] * 2
    assert "its 2 images need" in site.one("SELECT blocked FROM tasks ORDER BY id DESC")
    assert site.one("SELECT count(*) FROM events WHERE kind = 'order'") == 1
    pulls = site.one("SELECT count(*) FROM events WHERE kind = 'pull' AND text LIKE 'pulling%'")
    assert pulls == 4, "each image once in each campaign"
    site.idle()
    site.assert_nothing_left()


@pytest.mark.parametrize("engine", ["overlay2"], indirect=True)
def test_prune_takes_what_others_left_once_somebody_allowed_it(
    site: Site, disk: SmallDisk, engine: Dockerd, images: Images
) -> None:
    theirs, running, mine = _variant(images, "one"), images.ref("user"), _variant(images, "two")
    for ref in (theirs, running):
        for event in engine.client.pull(ref, stream=True, decode=True):
            assert "error" not in event
    for ref in (theirs, running):
        host_config = engine.client.create_host_config(network_mode="none")
        argv = ["python3", "-c", "import time; time.sleep(1000)"]
        engine.client.create_container(ref, argv, name=f"theirs-{ref == running}", host_config=host_config)
    engine.client.start("theirs-True")
    disk.fill(leave=420 * MB)
    file = site.campaign(task(A), image=mine)
    file.write_text(file.read_text().replace('keep = "all"', 'prune = "all"'))
    refused = site.isobench("run", file, code=2).stderr
    assert "--allow-prune-all" in refused
    assert not site.rows("SELECT id FROM jobs")
    site.isobench("run", "--allow-prune-all", file)
    check_unhurt(site, jobs=1)
    assert len(site.attempts()) == 1
    (told,) = [text for text in site.story() if text.startswith("pruned what no container used")]
    assert f"image {theirs}" in told
    assert not engine.exists("theirs-False")
    assert not engine.has_image(theirs)
    assert engine.exists("theirs-True")
    assert engine.has_image(running)
    engine.client.remove_container("theirs-True", force=True)
    site.isobench("run", file)  # allowed once for the workspace


VARIANTS = {A: "one", B: "two", C: "three"}
PAYLOAD = 100 * MB
ROOM = {"overlay2": 520 * MB, "vfs": 1130 * MB}
"""Where the operator's image is: enough for one more of the demo's with such a layer, not for two."""


def _variant(images: Images, name: str) -> str:
    """A reference of the demo's image with a large layer of its own; built and pushed at the first call."""
    ref = f"{images.registry.address}/demo/{name}:1"
    if name not in _made:
        local = f"isobench-test/variant:{name}"
        base = images.ref("baseline")
        for event in images.host.client.pull(base, stream=True, decode=True):
            assert "error" not in event
        images.host.image(local, [{"/opt/large": _noise(name)}], base=base)
        images.host.push(local, ref)
        images.host.client.remove_image(local)
        images.forget(images.host)
        _made.add(name)
    return ref


_made: set[str] = set()


def _noise(name: str) -> bytes:
    import random

    return random.Random(name).randbytes(PAYLOAD)


@pytest.fixture
def small_site(tmp_path: Path, disk: SmallDisk, docker_host: Any, images: Images) -> Iterator[Site]:
    """A workspace on the small disk; the engine is elsewhere."""
    with site_at(disk.path / "site", docker_host, images) as made:
        yield made
        disk.empty()


def test_a_disk_that_fills_while_a_benchmark_runs(small_site: Site, disk: SmallDisk) -> None:
    """Neither the benchmark nor the runner can write a byte: both wait or try again, and nothing is lost."""
    site = small_site
    site.shut("measure")
    file = site.campaign(task(A), task(B))
    pid = site.start(file)
    site.reached("measure")
    events = site.story()
    disk.fill()
    site.open("measure")
    until(lambda: not site.containers() or site.containers()[0]["State"] == "exited", within=WITHIN, what="its end")
    until(
        lambda: json.loads(site.isobench("status", "--json").stdout)["runner"].get("no_room"),
        within=WITHIN,
        what="the runner waits",
    )
    assert "it waits for space" in site.isobench("status").stdout
    assert site.runner() == pid
    assert site.story()[: len(events)] == events
    disk.empty()
    check_unhurt(site, jobs=2)
    assert any("could not be written" in text for text in site.story())


@pytest.mark.parametrize(
    ("phase", "ending"),
    [
        ("server", "freed before"),
        ("server", "freed after"),
        ("measure", "freed before"),
        ("measure", "freed after"),
        ("measure", "driver killed"),
    ],
)
def test_a_disk_that_is_full_while_no_runner_lives(
    small_site: Site, disk: SmallDisk, tmp_path: Path, phase: str, ending: str
) -> None:
    """What fails by it then is nobody's fault, though there is space again when the next runner comes.

    There is before or after what failed has ended; or before, and the driver is killed when it has said what failed.
    """
    site = small_site
    site.gates = tmp_path / "gates"  # not on that disk
    site.gates.mkdir()
    site.shut(phase)
    site.shut(f"{phase}-end")
    if ending == "driver killed":
        site.shut("server-end")
    file = site.campaign(task(A, SERVE), timeouts={"grace": "60s"})
    site.start(file)
    site.reached(phase)
    site.kill_runner()
    (container,) = site.containers()
    init = site.host.client.inspect_container(container["Id"])["State"]["Pid"]
    disk.fill()
    site.open(phase)
    # the store cannot be read meanwhile: the first who opens it has to write
    until((site.gates / f"{phase}-end.reached").exists, within=WITHIN, what="it fails")
    driver = int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
    if ending != "freed after":
        looks(driver)
        disk.empty()
    site.open(f"{phase}-end")
    if ending == "driver killed":
        site.reached("server-end")
        os.kill(driver, signal.SIGKILL)
        site.open("server-end")
    until(lambda: not Path(f"/proc/{init}").exists(), within=WITHIN, what="its end")
    disk.empty()
    site.isobench("run", file)
    site.idle()
    first, second = site.attempts()
    assert (first["outcome"], first["failure"], first["counts"]) == ("interrupted", "interrupted", 0), first
    assert "disk was full" in first["reason"]
    assert (second["outcome"], second["counts"]) == ("success", 1)
    assert site.outcomes() == {"a:baseline": ("success", None)}
    check_results(site)
    site.assert_nothing_left()
