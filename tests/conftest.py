"""Fixtures that several test modules share: real engines, a real registry, a user who is not root.

Where an engine cannot be had, its tests are skipped with the reason; ISOBENCH_REQUIRE_DOCKER=1 makes that a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from baseimage import CannotBuild, base_tar
from disks import CannotMount, SmallDisk
from dockerd import STORAGE, CannotStart, Dockerd, Host, Registry, host
from hypothesis import settings
from member import Member

from isobench_tui.engine.base import ImageInfo, LaunchSpec
from isobench_tui.engine.docker import DockerEngine

pytest_plugins = ["campaigns"]

for name in (
    "COLUMNS",
    "LINES",
):  # whoever starts the tests may set them, and Textual believes them more than a terminal
    os.environ.pop(name, None)

settings.register_profile("isobench", deadline=None)  # how fast an example runs says nothing on a busy machine
settings.load_profile("isobench")


def missing(reason: object) -> NoReturn:
    """Skip for want of an engine, or fail where one is required."""
    if os.environ.get("ISOBENCH_REQUIRE_DOCKER") == "1":
        pytest.fail(f"required by ISOBENCH_REQUIRE_DOCKER=1: {reason}", pytrace=False)
    pytest.skip(str(reason))


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[SmallDisk]:
    """A file system of so many bytes that a test may fill, see `disks`; where none can be mounted, `missing`."""
    try:
        made = SmallDisk(size)
    except CannotMount as reason:
        missing(reason)
    with contextlib.closing(made):
        yield made


def _host(storage: str | None) -> Iterator[Host]:
    try:
        base_tar()
        with host(storage) as engine:
            yield engine
    except (CannotStart, CannotBuild) as reason:
        missing(reason)


@pytest.fixture(scope="session")
def docker_host() -> Iterator[Host]:
    """The engine for most tests: our own on overlay2 (see STORAGE), else one that is reachable."""
    yield from _host(None)


@pytest.fixture(scope="session")
def vfs_host() -> Iterator[Host]:
    """An engine on vfs, where every layer and every container is a copy."""
    yield from _host("vfs")


@pytest.fixture(params=dict.fromkeys((STORAGE, "vfs")))
def any_host(request: pytest.FixtureRequest) -> Host:
    """Each storage driver in turn, for what depends on it."""
    engine: Host = request.getfixturevalue("vfs_host" if request.param == "vfs" else "docker_host")
    return engine


@pytest.fixture
def own_dockerd(docker_host: Host) -> Dockerd:
    """The engine for tests that stop or restart it; running again afterwards is the test's duty."""
    if not isinstance(docker_host, Dockerd):
        missing("only an engine that the tests started may be restarted: needs root and dockerd")
    return docker_host


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """An empty registry on loopback."""
    try:
        found = Registry()
    except CannotStart as reason:
        missing(reason)
    yield found
    found.close()


@pytest.fixture
def locked_registry() -> Iterator[Registry]:
    """A registry that wants the name `reader` and the password `secret-word` (bcrypt, as htpasswd -B writes it)."""
    try:
        found = Registry("reader:$2b$04$0O171HtxliD1GxRtO3wLZeo772c/nsHyYH3KhnBW2OjtvapqaRswK\n")
    except CannotStart as reason:
        missing(reason)
    yield found
    found.close()


@pytest.fixture
def member() -> Iterator[Member]:
    """Somebody who is in the engine's group and is not root."""
    tools = [tool for tool in ("setpriv", "unshare", "mount") if shutil.which(tool) is None]
    if os.geteuid() != 0 or tools:
        missing(f"becoming another user needs root{' and ' + ', '.join(tools) if tools else ''}")
    found = Member()
    yield found
    found.close()


class Lab:
    """Launches on an engine with programs of the test's own in place of the driver."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.runs = folder / "runs"
        self.runs.mkdir()
        self.driver = folder / "driver.py"
        self.driver.write_text(PROGRAM)
        self.workspace = f"workspace-{uuid.uuid4()}"
        self.image = ImageInfo(host.base(), str(host.inspect(host.base())["Id"]), None, None, present=True)
        self._engines: list[DockerEngine] = []

    def engine(self, url: str | None = None, **options: Any) -> DockerEngine:
        """An engine to test; closed with the lab."""
        made = DockerEngine(url or self.host.url, driver=self.driver, **options)
        self._engines.append(made)
        return made

    def spec(self, code: str = "", **fields: Any) -> LaunchSpec:
        """An attempt whose driver executes `code`, with `run` the run directory as a string."""
        attempt = fields.pop("attempt", None) or f"attempt-{uuid.uuid4()}"
        run = self.runs / attempt
        run.mkdir(mode=0o700, exist_ok=True)
        (run / "job.json").write_text(json.dumps({"code": code}))
        fields = {"workspace": self.workspace, "name": f"isobench-test-{attempt}", "image": self.image, **fields}
        return LaunchSpec(attempt=attempt, run_dir=run, **fields)

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()
        self.host.sweep()


FOREVER = "import signal; open(run + '/up', 'w').close(); signal.pause()"
"""Code for `Lab.spec`: says that it is up, and stays until a signal comes."""

PROGRAM = """
import json, sys
run = "/isobench/run"
exec(json.load(open(sys.argv[1]))["code"])
"""


@pytest.fixture
async def lab(docker_host: Host, tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab on the engine for most tests."""
    made = Lab(docker_host, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def any_lab(any_host: Host, tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab on each storage driver."""
    made = Lab(any_host, tmp_path)
    yield made
    await made.close()
