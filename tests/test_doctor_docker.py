"""`isobench doctor` before real engines: overlay2 and vfs, a registry, a container that somebody left."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import A, Bench, bench_at, task
from conftest import FOREVER, Lab
from dockerd import Host, Registry

pytestmark = pytest.mark.docker


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def checks(bench: Bench, *argv: str | Path, code: int = 0, **env: str) -> dict[str, dict[str, Any]]:
    found = json.loads(bench.cli("doctor", "--json", *argv, code=code, env=env).stdout)
    return {check["name"]: check for check in found["checks"]}


def campaign(bench: Bench, host: Host, image: str, lanes: str = "") -> Path:
    path = bench.root / "campaign.toml"
    path.write_text(
        f'[campaign]\nname = "small"\narms = ["baseline"]\n[images]\nbaseline = "{image}"\n'
        f'[engine]\nkind = "docker"\nhost = "{host.url}"\n{lanes}\n{task(A)}'
    )
    return path


def test_an_engine_tells_what_it_is(bench: Bench, any_host: Host) -> None:
    found = checks(bench, DOCKER_HOST=any_host.url)
    version = any_host.client.version()
    assert found["engine"]["level"] == "ok"
    assert f"docker {version['Version']}, API {version['ApiVersion']}" in found["engine"]["seen"]
    assert found["live-restore"]["level"] == "warn", "the tests' engines do not have it"
    assert found["gpu-runtime"]["level"] == "ok", "nothing asks for a GPU"
    storage = found["storage"]
    assert any_host.client.info()["DockerRootDir"] in storage["seen"]
    if any_host.driver == "vfs":
        assert storage["level"] == "warn"
        assert '"storage-driver": "overlay2"' in "\n".join(storage["do"])
    else:
        name = {"overlayfs": "containerd's"}.get(any_host.driver, any_host.driver)
        assert (storage["level"], storage["seen"].partition(" ")[0]) == ("ok", name)


def test_images_are_weighed_where_they_would_go(bench: Bench, any_host: Host, registry: Registry) -> None:
    name = f"doctor/{uuid.uuid4()}:1"
    registry.publish(name, [os.urandom(2 << 20), os.urandom(1 << 20)])
    found = checks(bench, campaign(bench, any_host, registry.name(name)))
    assert found["images"]["level"] == found["disk"]["level"] == "ok"
    assert "images: 1, to fetch: 1" in found["images"]["seen"]
    # 2 and 1 MiB that do not compress; vfs has two more copies of them for the container
    assert f"container {262 if any_host.driver == 'vfs' else 256} MiB" in found["disk"]["seen"]
    laws = {"overlay2": "(image 3 MiB, downloads 2 MiB, ", "overlayfs": "(image 6 MiB, container "}
    assert laws.get(any_host.driver, "") in found["disk"]["seen"]
    assert not any_host.has_image(registry.name(name)), "nothing was pulled"
    absent = checks(bench, campaign(bench, any_host, registry.name("doctor/absent:1")))
    assert absent["images"]["level"] == "warn"
    assert "1 could not be weighed" in absent["images"]["seen"]


def test_a_lane_with_gpus_needs_a_toolkit(bench: Bench, docker_host: Host) -> None:
    if "nvidia" in docker_host.client.info().get("Runtimes", {}):
        pytest.skip("this engine can give GPUs to containers")
    path = campaign(bench, docker_host, docker_host.base(), '[[lanes]]\ngpus = ["0"]')
    found = checks(bench, path, code=3)
    assert found["gpu-runtime"]["level"] == "fail"
    assert "nvidia-container-toolkit" in found["gpu-runtime"]["do"][0]


async def test_what_another_workspace_left_is_named(bench: Bench, lab: Lab) -> None:
    spec = lab.spec(FOREVER)
    handle = await lab.engine().launch(spec)
    left = checks(bench, DOCKER_HOST=lab.host.url)["leftovers"]
    assert left["level"] == "warn"
    assert f"{spec.name} (running, {spec.attempt})" in left["seen"]
    assert left["do"] == [], "it runs: nobody is told to remove it"
    await lab.engine().remove(handle)
    assert checks(bench, DOCKER_HOST=lab.host.url)["leftovers"]["level"] == "ok"
