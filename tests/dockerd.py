"""Real Docker engines and a real registry for the tests: private, on loopback, gone without a trace afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import docker.errors
from baseimage import base_tar

BASE = "isobench-test/base:1"
SCHEMA = "application/vnd.docker"
OCI = "application/vnd.oci.image"
GROUP = 64217
"""Numeric group that may use the engine's socket. It needs no entry in /etc/group, so the host stays as it is."""


PROGRAM = os.environ.get("ISOBENCH_TEST_DOCKERD") or "dockerd"
"""The dockerd to start: a program on PATH, or the path of one, such as a script that starts another version."""

STORAGE = os.environ.get("ISOBENCH_TEST_STORAGE") or "overlay2"
"""Storage driver of the engine for most tests, or `containerd` for its image store, which Docker has from 24 on."""


class CannotStart(Exception):
    """Why there is no engine or registry; plain words for a skip."""


SHARED = [Path("/run/containerd/s"), Path("/run/containerd"), Path("/run/docker/plugins"), Path("/run/docker")]
"""Folders that every dockerd makes outside its own roots; taken away again if they were not there and are empty."""


def until(condition: Callable[[], object], *, within: float = 30.0, what: str = "") -> None:
    """Poll until `condition()` is true. AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what or condition}"
        time.sleep(0.05)


class Host:
    """An engine that tests may use: its socket, and the means to put images there."""

    owned = False
    """We started it, so it may be stopped and restarted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = docker.APIClient(base_url=url, version="auto", timeout=300)
        self._made: list[str] = []

    @property
    def driver(self) -> str:
        return str(self.client.info()["Driver"])

    def base(self) -> str:
        """Name of the base image (python3, git, patch), imported at the first call."""
        if not self.client.images(name=BASE):
            subprocess.run(
                ["docker", "-H", self.url, "import", str(base_tar()), BASE], check=True, stdout=subprocess.DEVNULL
            )
            self._made.append(BASE)
        return BASE

    def build(self, tag: str, folder: Path) -> str:
        """Build the folder's Dockerfile with the classic builder; returns the image id."""
        for event in self.client.build(
            path=str(folder), tag=tag, rm=True, forcerm=True, decode=True, network_mode="none"
        ):
            assert "error" not in event, event["error"]
        self._made.append(tag)
        return str(self.inspect(tag)["Id"])

    def inspect(self, name: str) -> dict[str, Any]:
        """The engine's own words on an image."""
        client: Any = self.client
        found: dict[str, Any] = client.inspect_image(name)
        return found

    def image(
        self, tag: str, layers: Sequence[Mapping[str, bytes]], *, base: str | None = None, extra: Sequence[str] = ()
    ) -> str:
        """Build an image with one layer for each mapping (absolute path -> content); returns the image id.

        `base` None: the base image with python3; "scratch" makes one that only holds data. `extra` are further
        Dockerfile lines (USER, ENV, …).
        """
        with tempfile.TemporaryDirectory(prefix="isb-build-") as scratch:
            folder, lines = Path(scratch), [f"FROM {base or self.base()}"]
            for number, layer in enumerate(layers):
                for name, content in layer.items():
                    file = folder / str(number) / name.lstrip("/")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
                    file.chmod(0o755)
                lines.append(f"COPY {number}/ /")
            (folder / "Dockerfile").write_text("\n".join([*lines, *extra]) + "\n")
            return self.build(tag, folder)

    def push(self, local: str, remote: str) -> str:
        """Tag `local` as `remote`, push it, take the tag away again; returns the manifest's digest."""
        assert self.client.tag(local, remote)
        digest = ""
        for event in self.client.push(remote, stream=True, decode=True):
            assert "error" not in event, event["error"]
            digest = event.get("aux", {}).get("Digest", digest)
        # containerd's store only tells it of the image
        known = (item.partition("@") for item in self.inspect(remote)["RepoDigests"])
        digest = digest or next(found for name, _, found in known if name == remote.rpartition(":")[0])
        self.client.remove_image(remote)
        return digest

    def exists(self, container: str) -> bool:
        """A container of that name or id is there, in whatever state."""
        try:
            self.client.inspect_container(container)
        except docker.errors.NotFound:
            return False
        return True

    def has_image(self, name: str) -> bool:
        try:
            self.inspect(name)
        except docker.errors.NotFound:
            return False
        return True

    def story(self, container: str) -> list[str]:
        """What the engine did with the container of that name: create, start, die, destroy, …"""
        filters = {"type": "container", "container": container}
        events = self.client.events(since=0, until=int(time.time()), filters=filters, decode=True)
        return [event["Action"] for event in events]

    def sweep(self) -> None:
        """Remove every container that carries a label of ours."""
        for container in self.client.containers(all=True, filters={"label": "isobench.workspace"}):
            with contextlib.suppress(docker.errors.NotFound):
                self.client.remove_container(container["Id"], force=True, v=True)

    def close(self) -> None:
        self.sweep()
        for tag in dict.fromkeys(self._made):
            with contextlib.suppress(docker.errors.APIError):
                self.client.remove_image(tag)
        self.client.close()


class Dockerd(Host):
    """A dockerd of our own. Raises CannotStart."""

    owned = True

    def __init__(self, storage: str, *, room: int | None = None, data: Path | None = None) -> None:
        """`storage`: see STORAGE. `room`: bytes of a tmpfs that the data-root is on. `data`: another folder for it,
        which stays the caller's; None: in the temporary folder."""
        for tool in (PROGRAM, "containerd", "docker"):
            if shutil.which(tool) is None:
                raise CannotStart(f"no {tool} on PATH")
        self.root = Path(tempfile.mkdtemp(prefix="isb-"))
        self.root.chmod(0o755)  # a member of the group must reach the socket
        self.storage = storage
        self.cgroup = f"/isobench-test-{self.root.name}"
        self._absent = [folder for folder in SHARED if not folder.exists()]
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.data = data or self.root / "data"
            self.data.mkdir(0o710, exist_ok=True)
            if room is not None:
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "isb", f"{self.root}/data"], check=True)
            self.start()
            super().__init__(f"unix://{self.root}/docker.sock")
        except BaseException:
            self.wipe()
            raise

    @property
    def socket(self) -> Path:
        return self.root / "docker.sock"

    def start(self) -> None:
        """Start dockerd and return when it answers."""
        root, log = self.root, self.root / "dockerd.log"
        argv = [PROGRAM, "-H", f"unix://{root}/docker.sock", "--data-root", str(self.data)]
        argv += ["--exec-root", f"{root}/exec", "--pidfile", f"{root}/pid", *self._store()]
        argv += ["--group", str(GROUP), "--cgroup-parent", self.cgroup, "--bridge", "none", "--iptables=false"]
        argv += ["--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        with log.open("ab") as sink:
            # containerd writes its stacks there when dockerd finds it unresponsive.
            env = {**os.environ, "TMPDIR": str(root)}
            self._process = subprocess.Popen(argv, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, env=env)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise CannotStart(f"dockerd -s {self.storage}: {log.read_text().strip().splitlines()[-1]}")
            time.sleep(0.05)

    def _store(self) -> list[str]:
        if self.storage != "containerd":
            return ["--storage-driver", self.storage]
        settings = self.root / "daemon.json"
        settings.write_text(json.dumps({"features": {"containerd-snapshotter": True}}))
        return ["--config-file", str(settings)]

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended; its containers end with it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """SIGKILL to dockerd alone: containerd and the containers live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def crash(self) -> None:
        """SIGKILL to dockerd, its containerd and every container, as when the host's memory runs out."""
        self.kill()
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        # Where nobody reaps it, its dead containerd would be taken for a living one.
        (self.root / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and leave no process, mount, cgroup or file."""
        self.client.close()
        self.wipe()

    def wipe(self) -> None:
        self.stop()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.processes(), what=f"processes of {self.root} end")
        for mount in reversed(self.mounts()):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(self.root)
        for folder in Path("/sys/fs/cgroup").glob(f"**{self.cgroup}"):
            for inner in sorted(folder.glob("**/"), reverse=True):
                with contextlib.suppress(FileNotFoundError):  # a shim that ended takes its own away
                    inner.rmdir()
        for folder in self._absent:
            with contextlib.suppress(OSError):  # another engine uses it by now
                folder.rmdir()
        left = [*self.processes(), *self.mounts(), *Path("/sys/fs/cgroup").glob(f"**{self.cgroup}")]
        assert not left and not self.root.exists(), f"left behind by dockerd in {self.root}: {left}"

    def processes(self) -> list[int]:
        """Containerd and shims (they name our folder on their command line), containers (they live in our cgroup)."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):  # it ended meanwhile
                # A test's own children name the socket too, so look for what only the engine's processes name.
                argv = (entry / "cmdline").read_bytes().decode(errors="replace")
                if f"{self.root}/exec" in argv or self.cgroup in (entry / "cgroup").read_text():
                    found.append(int(entry.name))
        return found

    def mounts(self) -> list[str]:
        rows = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return [row[4] for row in rows if row[4].startswith(f"{self.root}/")]

    def _answers(self) -> bool:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe, contextlib.suppress(OSError):
            probe.settimeout(5)
            probe.connect(str(self.socket))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200" in probe.recv(64)
        return False


async def eventually(condition: Callable[[], object], what: str = "", within: float = 30.0) -> None:
    """`until` for async tests: the event loop goes on meanwhile."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.05)


class Registry:
    """A real registry on a loopback port. Raises CannotStart.

    With `users` (lines of an htpasswd file, bcrypt) it asks for a name and password.
    """

    def __init__(self, users: str = "") -> None:
        if shutil.which("docker-registry") is None:
            raise CannotStart("no docker-registry on PATH")
        self.root = Path(tempfile.mkdtemp(prefix="isb-reg-"))
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.headers: dict[str, str] = {}
        """Sent with every request of our own."""
        config = f"version: 0.1\nhttp:\n  addr: {self.address}\n  secret: tests\n"
        config += f"storage:\n  filesystem:\n    rootdirectory: {self.root}/data\n  delete:\n    enabled: true\n"
        if users:
            (self.root / "users").write_text(users)
            config += f"auth:\n  htpasswd:\n    realm: tests\n    path: {self.root}/users\n"
        (self.root / "config.yml").write_text(config)
        with (self.root / "log").open("wb") as sink:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self.root / "config.yml")], stdout=sink, stderr=sink
            )
        try:
            until(self._answers, what="the registry answers")
        except AssertionError as error:
            self.close()
            raise CannotStart(f"docker-registry: {error}") from None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False

    def request(self, method: str, url: str, body: bytes = b"", **headers: str) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of the answer. `url` may be absolute; `headers` have `_` for `-`."""
        if not url.startswith("http"):
            url = f"http://{self.address}{url}"
        request = urllib.request.Request(url, method=method, data=body or None)
        for name, value in {**self.headers, **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers, answer.read()

    def publish(self, path: str, layers: Sequence[bytes]) -> str:
        """Put an image there with no engine's help, one file for each layer; returns the manifest's digest.

        Such an image only holds data. Formats: OCI distribution and image specifications, docker schema 2.
        """
        tars = []
        for number, content in enumerate(layers):
            raw = io.BytesIO()
            with tarfile.open(fileobj=raw, mode="w") as tar:
                entry = tarfile.TarInfo(f"{number}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            tars.append(raw.getvalue())
        return self.publish_tars(path, tars)

    def publish_tars(
        self,
        path: str,
        tars: Sequence[bytes],
        *,
        config: Mapping[str, Any] | None = None,
        packers: Sequence[Callable[[bytes], bytes]] = (),
    ) -> str:
        """The same with layers that are these tars, each packed by its packer (gzip where there is none)."""
        name, _, tag = path.partition(":")
        described, unpacked = [], []
        for number, raw in enumerate(tars):
            unpacked.append(f"sha256:{hashlib.sha256(raw).hexdigest()}")
            packed = packers[number](raw) if number < len(packers) else gzip.compress(raw, 1, mtime=0)
            kind = {b"\x1f\x8b": "tar+gzip", b"\x28\xb5": "tar+zstd"}.get(packed[:2], "tar")
            kind = f"{OCI}.layer.v1.{kind}" if packers else f"{SCHEMA}.image.rootfs.diff.tar.gzip"
            described.append(self._blob(name, packed, kind))
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        rootfs = {"type": "layers", "diff_ids": unpacked}
        made = {"architecture": machine, "os": "linux", "config": config or {}, "rootfs": rootfs, "history": []}
        kind, inner = f"{SCHEMA}.distribution.manifest.v2+json", f"{SCHEMA}.container.image.v1+json"
        if packers:
            kind, inner = f"{OCI}.manifest.v1+json", f"{OCI}.config.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": self._blob(name, json.dumps(made).encode(), inner),
            "layers": described,
        }
        body = json.dumps(manifest).encode()
        headers, _ = self.request("PUT", f"/v2/{name}/manifests/{tag}", body, Content_Type=kind)
        return headers["Docker-Content-Digest"]

    def _blob(self, name: str, data: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        headers, _ = self.request("POST", f"/v2/{name}/blobs/uploads/")
        mark = "&" if "?" in headers["Location"] else "?"
        url = f"{headers['Location']}{mark}digest={digest}"
        self.request("PUT", url, data, Content_Type="application/octet-stream")
        return {"mediaType": kind, "size": len(data), "digest": digest}

    def name(self, path: str) -> str:
        """Reference of `path` (`app:tag`) in this registry."""
        return f"{self.address}/{path}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self.root)
        assert self._process.returncode is not None and not self.root.exists()


def free_port() -> int:
    """A TCP port of loopback that nobody listened on a moment ago."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def host(storage: str | None = None) -> Iterator[Host]:
    """An engine of our own if we are root and have the tools, else one that is reachable. Raises CannotStart.

    `storage` None: STORAGE, or whatever the reachable one has.
    """
    if os.geteuid() == 0 and shutil.which(PROGRAM):
        engine: Host = Dockerd(storage or STORAGE)
    else:
        url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        try:
            engine = Host(url)
        except docker.errors.DockerException as error:
            raise CannotStart(f"not root with dockerd at hand, and no engine at {url}: {error}") from None
        if storage and engine.driver != storage:
            reason = f"the engine at {url} uses {engine.driver}, not {storage}; only root can start another one"
            engine.client.close()
            raise CannotStart(reason)
    try:
        yield engine
    finally:
        engine.close()
