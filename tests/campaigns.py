"""Real campaigns in real containers: images of the demo tree in a registry, a workspace, the command line.

The tree gets a `sitecustomize` that lets a test hold the server or the client where it wants them, at their start and
at their end, and strays.py: what they leave behind where STRAYS names a folder.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker.errors
import pytest
from dockerd import Host, Registry, until
from proxy import Proxy
from strays import PROGRAM

from isobench_tui.store import db
from isobench_tui.store.workspace import Workspace

T = TypeVar("T")

REPO = Path(__file__).resolve().parents[1]
DEMO = REPO / "examples" / "demo"
ROOT = "/opt/isobench-demo"
WITHIN = 90.0
"""Seconds after which a wait has failed; far more than anything here takes."""
PAYLOAD = 6 << 20
"""Bytes of the layer that makes a pull long enough to be seen."""
CPU = "isobench-cpu"
"""The name that every container of these campaigns has: they ask for no GPU."""

A, B, C = (digit * 40 for digit in "abc")
SERVE = (
    "vllm bench serve --model facebook/opt-125m --dataset-name random --random-input-len 8 --random-output-len 8 "
    "--ignore-eos --num-prompts 8"
)
THROUGHPUT = (
    "python benchmarks/benchmark_throughput.py --model facebook/opt-125m --input-len 16 --output-len 8 "
    "--num-prompts 8"
)

HOLD = '''"""SIMULATED: server, client and driver wait while /gates/PHASE is there, and leave /gates/PHASE.reached.

Before they end by themselves they do so at /gates/PHASE-end, if it is there.
"""

import atexit, hashlib, json, os, sys, time

def hold(gate, told):
    with open("/gates/%s.part" % gate, "w") as file:
        json.dump(told, file)
    os.rename("/gates/%s.part" % gate, "/gates/%s.reached" % gate)
    while os.path.exists("/gates/" + gate):
        time.sleep(0.02)

def hold_end(gate):
    if os.path.exists("/gates/" + gate):
        hold(gate, {})

program = " ".join(sys.orig_argv[1:4])
phase = next((name for part, name in (("driver.py", "driver"), ("api_server", "server"), ("cli.main", "measure"),
                                      ("benchmarks/", "measure")) if part in program and "-c" not in program), None)
if phase in ("server", "measure") and os.environ.get("STRAYS"):
    from strays import leave

    leave(os.environ["STRAYS"], "server" if phase == "server" else "client")
if phase and os.path.isdir("/gates"):
    token = os.environ.get("HF_TOKEN")
    told = {"uid": os.getuid(), "token": token and hashlib.sha256(token.encode()).hexdigest()}
    hold(phase, told)
    atexit.register(hold_end, phase + "-end")
'''


@dataclass(frozen=True)
class Images:
    """The demo's images in the registry: `demo/vllm:baseline`, `:human` and `:user` (with a USER of its own)."""

    host: Host
    registry: Registry
    digests: Mapping[str, str]

    def ref(self, tag: str, port: int | None = None) -> str:
        """Reference of an image; `port` is that of a proxy before the registry."""
        return f"127.0.0.1:{port or self.registry.port}/demo/vllm:{tag}"

    def check_given_up(self, host: Host, proxy: Proxy, ref: str) -> None:
        """The engine does not go on with the pull, although the registry answers again."""
        proxy.stalled, proxy.rate = False, None
        until(lambda: proxy.open == 0, what="the engine has hung up")
        assert not host.has_image(ref)

    def forget(self, host: Host) -> None:
        """Remove what an engine has of these images, whatever the registry's port was, but not their base."""
        for found in host.client.images():
            for name in [*(found["RepoTags"] or ()), *(found["RepoDigests"] or ())]:
                if "/demo/vllm" in name:
                    with contextlib.suppress(docker.errors.NotFound):
                        host.client.remove_image(name)


def _tree(patch: str | None) -> dict[str, bytes]:
    """The demo tree as files of an image, with a patch of the demo applied."""
    with tempfile.TemporaryDirectory(prefix="isb-tree-") as scratch:
        tree = Path(scratch) / "tree"
        shutil.copytree(DEMO / "tree", tree, ignore=shutil.ignore_patterns("__pycache__"))
        if patch:
            diff = (DEMO / "patches" / patch).read_bytes()
            subprocess.run(["patch", "-s", "-p1", "-F0", "-d", str(tree)], input=diff, check=True)
        (tree / "sitecustomize.py").write_text(HOLD)
        (tree / "strays.py").write_text(PROGRAM)
        return {f"{ROOT}/{path.relative_to(tree)}": path.read_bytes() for path in tree.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def images(docker_host: Host, registry: Registry) -> Images:
    return build_images(docker_host, registry)


def build_images(docker_host: Host, registry: Registry) -> Images:
    """The demo's images, built on the engine, pushed, and forgotten there."""
    extra = [f"ENV PYTHONPATH={ROOT} API_KEY=not-a-secret", f"WORKDIR {ROOT}"]
    payload = {"/opt/payload": os.urandom(PAYLOAD)}
    digests = {}
    for tag, patch, more in (("baseline", None, []), ("human", "human.diff", []), ("user", None, ["USER 1000:1000"])):
        local = f"isobench-test/demo:{tag}"
        docker_host.image(local, [payload, _tree(patch)], extra=[*extra, *more])
        digests[tag] = docker_host.push(local, f"{registry.address}/demo/vllm:{tag}")
        docker_host.client.remove_image(local)
    return Images(docker_host, registry, digests)


class Site:
    """A workspace on an engine, and what an operator does with it."""

    def __init__(self, root: Path, host: Host, images: Images) -> None:
        self.root, self.host, self.images = root, host, images
        self.workspace = Workspace(root / "ws")
        self.gates = root / "gates"
        self.gates.mkdir()
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("ISOBENCH_", "DOCKER_", "XDG_", "HF_"))},
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_DATA_HOME": str(root / "data"),
            "ISOBENCH_WORKSPACE": str(self.workspace.root),
        }
        self._started: list[subprocess.Popen[bytes]] = []

    # ------------------------------------------------------------------------------------------- what to run

    def campaign(
        self,
        *tasks: str,
        name: str = "real",
        arms: Sequence[str] = ("baseline",),
        image: str | None = None,
        human: str | None = None,
        docker_socket: str | None = None,
        timeouts: Mapping[str, str] = {},
        limits: str = "max_attempts = 1",
        memory: str = "",
        more: str = "",
    ) -> Path:
        """Write a campaign file. Images are those of the registry unless named."""
        deadlines = {
            **{"preflight": "60s", "image": "60s", "start": "60s", "setup": "60s", "server": "60s"},
            **{"measure": "60s", "cleanup": "60s", "slack": "20s", "grace": "500ms", **timeouts},
        }
        text = [
            f'[campaign]\nname = "{name}"\nsimulated = true\narms = {json.dumps(list(arms))}',
            f'[images]\nbaseline = "{image or self.images.ref("baseline")}"',
            f'human = "{human or self.images.ref("human")}"\nkeep = "all"',
            f'[engine]\nkind = "docker"\nhost = "{docker_socket or self.host.url}"',
            f'[container]\npids = 256\nvolumes = ["{self.gates}:/gates"]'
            + (f'\nmemory = "{memory}"' if memory else ""),
            "[timeouts]",
            *(f'{phase} = "{value}"' for phase, value in deadlines.items()),
            f'[limits]\nmin_window = "0s"\n{limits}',
            "[validity]\nmin_requests = 1\nmin_warmups = 0",
            more,
            *tasks,
        ]
        path = self.root / f"{name}.toml"
        path.write_text("\n".join(text) + "\n")
        return path

    # ---------------------------------------------------------------------------------------------- the doors

    def isobench(
        self, *argv: str | Path, code: int | None = 0, env: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """`isobench …` to its end, which must be the exit code `code` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "isobench_tui", *map(str, argv)],
            cwd=REPO,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * WITHIN,
            check=False,
        )
        assert code is None or done.returncode == code, (argv, done.returncode, done.stdout, done.stderr, self.log())
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, file: Path, faults: str = "") -> int:
        """`isobench run FILE --detach`; the runner's pid."""
        self.isobench("run", file, "--detach", env={"ISOBENCH_FAULTS": faults} if faults else {})
        return self.runner()

    def start_to_die(self, file: Path, faults: str) -> None:
        """The same with a runner that kills itself at a point; returns when it is dead."""
        self.isobench("run", file, "--detach", env={"ISOBENCH_FAULTS": faults}, code=None)
        until(lambda: not self.workspace.locked(), within=WITHIN, what=f"the runner dies at {faults}")

    def runner(self) -> int:
        """The living runner's pid."""
        return until_some(self.workspace.holder, "a runner")

    def kill_runner(self) -> None:
        """SIGKILL, and wait until the lock is free."""
        os.kill(self.runner(), signal.SIGKILL)
        until(lambda: not self.workspace.locked(), within=WITHIN, what="the runner is dead")

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """A process of the test that is ended with it."""
        child = subprocess.Popen(list(map(str, argv)), cwd=REPO, env=self.env, **options)
        self._started.append(child)
        return child

    # ------------------------------------------------------------------------------------------------- gates

    def shut(self, phase: str) -> None:
        """Hold whoever comes to `phase` (driver, server, measure) or, with `-end`, to the end of it."""
        (self.gates / phase).touch()

    def open(self, phase: str) -> None:
        (self.gates / phase).unlink()
        (self.gates / f"{phase}.reached").unlink(missing_ok=True)

    def reached(self, phase: str) -> dict[str, Any]:
        """Wait until somebody came to the gate; what he said of himself."""
        path = self.gates / f"{phase}.reached"
        until(path.exists, within=WITHIN, what=f"{phase} is reached; {self.story()}\n{self.log()}")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    # ----------------------------------------------------------------------------------------------- looking

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        if not self.workspace.database.exists():
            return []
        with contextlib.closing(db.open_store(self.workspace)) as connection:
            return [dict(row) for row in connection.execute(query, values)]

    def one(self, query: str, *values: object) -> Any:
        """First column of the first row; None if there is none."""
        found = self.rows(query, *values)
        return next(iter(found[0].values())) if found else None

    def wait(self, query: str, *values: object) -> Any:
        """Poll until the query finds something that is not 0; that."""
        return until_some(lambda: self.one(query, *values), f"{query} {values}", self.tell)

    def live(self, kind: str) -> dict[str, Any]:
        """The newest live row of a kind (`pull`, `phase`); {} if there is none."""
        value = self.one("SELECT value FROM live WHERE key LIKE ? ORDER BY at DESC", f"{kind}/%")
        found: dict[str, Any] = json.loads(value) if value else {}
        return found

    def story(self) -> list[str]:
        return [row["text"] for row in self.rows("SELECT text FROM events ORDER BY id")]

    def log(self) -> str:
        return self.workspace.runner_log.read_text() if self.workspace.runner_log.exists() else ""

    def tell(self) -> str:
        return "\n".join(["", *self.story(), self.log()])

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts with their job, class and the phases `{phase: outcome}`, in the order in which they began."""
        found = self.rows(
            "SELECT a.*, t.commit_sha, j.arm, j.agent, d.failure, d.blame, d.reason, d.file FROM attempts a "
            "JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id "
            "LEFT JOIN diagnoses d ON d.attempt_id = a.id ORDER BY a.started_at, a.id"
        )
        for row in found:
            phases = self.rows("SELECT phase, outcome FROM phases WHERE attempt_id = ? ORDER BY seq", row["id"])
            row["phases"] = {phase["phase"]: phase["outcome"] for phase in phases}
        return found

    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        """`a:baseline` -> (state or outcome, class); an invalid success says so."""
        rows = self.rows("SELECT j.*, t.commit_sha FROM jobs j JOIN tasks t ON t.id = j.task_id")
        return {
            f"{row['commit_sha'][0]}:{row['agent'] or row['arm']}": (
                "invalid" if row["valid"] == 0 else row["outcome"] or row["state"],
                row["failure"],
            )
            for row in rows
        }

    def export(self) -> dict[str, dict[str, Any]]:
        """`a:baseline` -> the row of `export --json`."""
        rows = [row for row in json.loads(self.isobench("export", "--json").stdout) if row["kind"] == "result"]
        return {f"{row['commit'][0]}:{row['agent'] or row['arm']}": row for row in rows}

    def idle(self) -> None:
        """Wait until no runner holds the workspace."""
        until(lambda: not self.workspace.locked(), within=WITHIN, what=f"the runner ends; {self.tell()}")

    def containers(self) -> list[dict[str, Any]]:
        """The engine's containers of this workspace, in any state."""
        uuid = self.one("SELECT value FROM meta WHERE key = 'uuid'")
        label = f"isobench.workspace={uuid}"
        return list(self.host.client.containers(all=True, filters={"label": label})) if uuid else []

    def assert_nothing_left(self) -> None:
        """Once the runner has ended: no container, no name, nothing open in the store; the logs are there."""
        self.idle()
        assert self.containers() == []
        assert not self.host.exists(CPU)
        assert self.rows("SELECT id FROM attempts WHERE state != 'closed' OR closed_at IS NULL") == []
        assert self.rows("SELECT * FROM phases WHERE ended_at IS NULL OR outcome IS NULL") == []
        assert self.rows("SELECT * FROM live WHERE attempt_id IS NOT NULL") == []
        assert not self.workspace.trees.exists()
        assert "Traceback" not in self.log()

    def close(self) -> None:
        """End the runner, what the test started, and the workspace's containers."""
        for child in self._started:
            if child.poll() is None:
                child.kill()
            child.wait()
        while (pid := self.workspace.holder()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for container in self.containers():
            with contextlib.suppress(docker.errors.NotFound):
                self.host.client.remove_container(container["Id"], force=True, v=True)


def until_some(look: Callable[[], T | None], what: str, more: Callable[[], str] = str) -> T:
    """Poll until `look()` finds something; that."""
    found: list[T] = []

    def met() -> bool:
        value = look()
        if value:
            found.append(value)
        return bool(value)

    try:
        until(met, within=WITHIN, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}{more()}") from None
    return found[0]


@contextlib.contextmanager
def site_at(root: Path, host: Host, images: Images) -> Iterator[Site]:
    """A Site that is closed whatever happens."""
    root.mkdir(parents=True, exist_ok=True)
    made = Site(root, host, images)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def site(tmp_path: Path, docker_host: Host, images: Images) -> Iterator[Site]:
    """A workspace on the engine for most tests."""
    with site_at(tmp_path, docker_host, images) as made:
        yield made


class EngineProxy(Proxy):
    """A proxy before the engine's socket; `url` is what a campaign file names."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(Path(host.url.removeprefix("unix://")), folder / "s")
        self.url = f"unix://{folder}/s"


@pytest.fixture
def slow_engine(docker_host: Host) -> Iterator[EngineProxy]:
    """A proxy before the engine."""
    folder = Path(tempfile.mkdtemp(prefix="isb-p-"))  # a socket's path is short
    proxy = EngineProxy(docker_host, folder)
    with proxy:
        yield proxy
    folder.rmdir()


@pytest.fixture
def slow_registry(registry: Registry) -> Iterator[Proxy]:
    """A proxy before the registry."""
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        yield proxy


def task(
    commit: str, command: str = THROUGHPUT, *, patches: Mapping[str, str] = {}, more: str = "", **env: str
) -> str:
    """A `[[tasks]]` table; `patches` are {agent: file of the demo}, keyword arguments its environment."""
    lines = ["[[tasks]]", f'commit = "{commit}"', f'parent = "1{commit[1:]}"', f'perf_command = "{command}"', more]
    lines += [f'env.{name} = "{value}"' for name, value in env.items()]
    lines += [f'patches.{agent} = "{DEMO / "patches" / name}"' for agent, name in patches.items()]
    return "\n".join(line for line in lines if line) + "\n"


def check_results(site: Site) -> None:
    """Every ended job's metrics and logs are in the store, in the run directory, and in each form of the export."""
    exported = site.export()
    table = {
        row["job"]: row for row in csv.DictReader(io.StringIO(site.isobench("export", "--format", "csv").stdout))
    }
    page = site.isobench("export", "--format", "md").stdout
    for row in exported.values():
        if row["outcome"] is None:
            continue
        stored = {
            found["name"]: found["value"]
            for found in site.rows("SELECT * FROM metrics WHERE attempt_id = ? AND trial = -1", row["attempt"])
        }
        assert bool(stored) == (row["outcome"] == "success"), row
        assert {name: metric["value"] for name, metric in row["metrics"].items()} == stored
        assert {name: float(table[row["job"]][name]) for name in stored} == stored
        assert table[row["job"]]["outcome"] == row["outcome"]
        assert table[row["job"]]["simulated"] == "simulated"
        assert re.search(
            rf"^\| simulated \| {row['commit'][:8]} .*\b{row['outcome'].replace('_', '.*')}\b", page, re.M
        )
        check_logs(site, row["attempt"])
        if stored:
            assert "client-00 | " in site.isobench("logs", row["attempt"], "--file", "client-00").stdout


def check_logs(site: Site, attempt: str) -> None:
    """The attempt's files are those whose sha256 was stored at its end, and `logs` shows them."""
    run_dir = site.workspace.run_dir(attempt)
    stored = json.loads(site.one("SELECT files FROM attempts WHERE id = ?", attempt))
    phases = {row["phase"]: row["outcome"] for row in site.rows("SELECT * FROM phases WHERE attempt_id = ?", attempt)}
    assert ("events.jsonl" in stored) == ("start" in phases and phases["collect"] == "ok")
    if "start" not in phases:
        return
    for name, facts in stored.items():
        assert hashlib.sha256((run_dir / name).read_bytes()).hexdigest() == facts["sha256"], name
    said = site.isobench("logs", attempt).stdout
    for name in ("server.log", "client-00.log"):
        path = run_dir / name
        for line in path.read_bytes().decode().split("\n") if path.exists() else ():
            assert line.rstrip("\r").rpartition("\r")[2] in said
