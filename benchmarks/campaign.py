"""How long a campaign takes beside the loop that it replaces: `docker run --rm`, then `docker system prune -af`.

    python benchmarks/campaign.py [--quick] [--driver overlay2|vfs]

16 jobs of 10 s over ten images of 500 MB that share 80 %, from a registry on a line of 50 MB/s: five commits, each
with a baseline and a human image and one or two agents on the baseline's. Both sides run the same argv of the demo's
simulated client, which a file of the image makes last, in the same order, each on a private dockerd whose data-root
is on a new file system. The loop prunes after each job, as the harness did that isobench replaces. Needs root with
dockerd and docker-registry; 50 GB of disk.

500 MB is what a registry counts and the line carries, compressed. What lies above the Debian is like what vLLM
installs: the wheels of vLLM 0.6.3, torch 2.4.0, triton 3.0.0, and NVIDIA's cublas, cudnn, cusparse and nccl for CUDA
12 unpack to 1.8 times their size in all (1.3 to 2.8 each), in files of more than 300 kB on average.

Images have 25 layers, as in `images.py`, of which the lowest two have most: a Debian with python3, and what is
installed on it. On vfs each layer is a whole copy of all under it, so that such an image takes 20 times its size
there. In January 24's campaign images of 15 to 30 GB took some 600 GB; the eight whose pulls ISO-Bench's logs show
have 11, 20, 22, 27, 32, 33, 37 and 37 layers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bars import Bar, print_table, settle
from fresh import fresh

from isobench_tui.store import db
from isobench_tui.store.clock import seconds
from isobench_tui.store.workspace import Workspace

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))

from baseimage import CannotBuild  # noqa: E402
from disks import CannotMount  # noqa: E402
from dockerd import CannotStart, Dockerd, Host, Registry, until  # noqa: E402
from proxy import Proxy  # noqa: E402

MB = 1_000_000
TREE, PATCHES = REPO / "examples" / "demo" / "tree", REPO / "examples" / "demo" / "patches"
ROOT = "/opt/isobench-demo"
CLIENT = "benchmarks/benchmark_throughput.py --model facebook/opt-125m --input-len 16 --output-len 8"
"""What follows the interpreter, which the image has as `python3` only; isobench finds it by itself."""
AGENTS = {"one": "faster-schedule.diff", "two": "faster-block-table.diff"}
LINE = 50 * MB
"""Bytes a second from the registry, over all connections."""
BASE = 59 * MB
"""About what the lowest layer has, the image with python3, compressed."""
FILE = 300_000
"""Bytes of a file above it, on average."""
RATIO = 1.8
"""Bytes of the files of a layer above it, for each compressed one."""
LAYERS = 25
OWN_LAYERS = 5
"""Of them, those that no other image has."""
SMALL = 1 * MB
"""Bytes, compressed, of each of the others but the two lowest and the demo's tree."""
LIMITS = {"overlay2": 2.0, "vfs": 3.0}

LASTING = '''"""SIMULATED: the client starts by waiting, so that a job lasts as long as BENCH_WAIT says."""

import os, sys, time

if any("benchmark_throughput" in word for word in sys.argv) or "benchmark_throughput" in " ".join(sys.orig_argv[1:4]):
    time.sleep(float(os.environ.get("BENCH_WAIT", "0")))
'''


class CannotMeasure(Exception):
    """Why there is nothing to compare; plain words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What both sides run."""

    commits: int
    agents: int
    """Jobs of agents over all commits: one for each commit, the rest for the first ones."""
    shared: int
    """Bytes that all images have in common, compressed."""
    own: int
    wait: float
    """Seconds of a job."""

    def jobs(self) -> list[tuple[str, str]]:
        """(commit, arm) in the order in which both sides run them."""
        found = []
        for at in range(self.commits):
            agents = 1 + (at < self.agents - self.commits)
            found += [(commit(at), arm) for arm in ("baseline", "human", *list(AGENTS)[:agents])]
        return found


FULL = Plan(commits=5, agents=6, shared=400 * MB, own=100 * MB, wait=10.0)
QUICK = Plan(commits=2, agents=2, shared=200 * MB, own=50 * MB, wait=3.0)


def commit(at: int) -> str:
    return "abcdef"[at] * 40


def image_of(arm: str, at: int) -> str:
    return f"{'human' if arm == 'human' else 'baseline'}-{at}"


def files_of(folder: str, size: int, noise: random.Random) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of so many bytes that gzip makes RATIO times smaller: they have few values, in no order."""
    values = bytes(32 + byte % 15 * 7 for byte in range(256))
    while size > 0:
        part = min(size, 1 + int(noise.expovariate(1 / FILE)))
        size -= part
        yield f"{folder}/{size}", noise.randbytes(part).translate(values)


def publish(registry: Registry, plan: Plan) -> None:
    """Build the images and put them into the registry, on an engine that nothing is measured on."""
    files = {f"{ROOT}/{path.relative_to(TREE)}": path.read_bytes() for path in TREE.rglob("*.py")}
    files[f"{ROOT}/sitecustomize.py"] = LASTING.encode()
    extra = [f"ENV PYTHONPATH={ROOT} PYTHONUNBUFFERED=1", f"WORKDIR {ROOT}"]
    noise = random.Random(7)

    def layer(name: str, size: int) -> dict[str, bytes]:
        """So many bytes, compressed."""
        return dict(files_of(f"/opt/{name}", int(size * RATIO), noise))

    small = [layer(f"small-{number}", SMALL) for number in range(LAYERS - OWN_LAYERS - 3)]
    installed = layer("installed", plan.shared - BASE - SMALL * len(small))
    with contextlib.closing(Dockerd("overlay2")) as engine:
        engine.image("isobench-benchmark/shared:1", [installed, *small, files], extra=extra)
        for at in range(plan.commits):
            for arm in ("baseline", "human"):
                name = image_of(arm, at)
                own = [layer(f"{name}-{number}", plan.own // OWN_LAYERS) for number in range(OWN_LAYERS)]
                engine.image(f"isobench-benchmark/{name}", own, base="isobench-benchmark/shared:1")
                engine.push(f"isobench-benchmark/{name}", registry.name(f"bench:{name}"))
                print(f"published {name}", file=sys.stderr)


def loop(engine: Host, plan: Plan, port: int) -> float:
    """Seconds of the plain loop. Raises CannotMeasure."""
    docker = ["docker", "-H", engine.url]
    began = time.monotonic()
    for key, arm in plan.jobs():
        ref = f"127.0.0.1:{port}/bench:{image_of(arm, 'abcdef'.index(key[0]))}"
        run = ["run", "--rm", "--network", "none", "-e", f"BENCH_WAIT={plan.wait}", ref, "python3", *CLIENT.split()]
        for argv in (run, ["system", "prune", "-af"]):
            done = subprocess.run(
                [*docker, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise CannotMeasure(f"docker {argv[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return time.monotonic() - began


def campaign(engine: Host, plan: Plan, port: int, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of the same as a campaign, and of its phases in all. Raises CannotMeasure."""
    workspace = Workspace(folder / "workspace")
    file = folder / "campaign.toml"
    tables = [
        '[campaign]\nname = "bench"\nsimulated = true\narms = ["baseline", "human", "agent"]',
        f'[engine]\nkind = "docker"\nhost = "{engine.url}"',
        '[limits]\nmin_window = "0s"\nmax_attempts = 1',
        f'[env]\nBENCH_WAIT = "{plan.wait}"',
    ]
    jobs = plan.jobs()
    for at in range(plan.commits):
        key = commit(at)
        mine = [arm for other, arm in jobs if other == key and arm in AGENTS]
        refs = [f'images.{arm} = "127.0.0.1:{port}/bench:{image_of(arm, at)}"' for arm in ("baseline", "human")]
        patches = [f'patches.{arm} = "{PATCHES / AGENTS[arm]}"' for arm in mine]
        head = f'[[tasks]]\ncommit = "{key}"\nparent = "1{key[1:]}"\nperf_command = "python {CLIENT}"'
        tables.append("\n".join([head, *refs, *patches]))
    file.write_text("\n".join(tables) + "\n")
    env = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config")}
    argv = [sys.executable, "-m", "isobench_tui", "run", "--plain", "--workspace", str(workspace.root), str(file)]
    began = time.monotonic()
    done = subprocess.run(
        argv, cwd=REPO, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - began
    if done.returncode != 0:
        raise CannotMeasure(f"isobench run ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-500:]}")
    until(lambda: not workspace.locked(), within=60, what="the runner ends")
    with contextlib.closing(db.open_store(workspace)) as store:
        ended = [row["outcome"] for row in store.execute("SELECT outcome FROM attempts")]
        if ended != ["success"] * len(jobs):
            raise CannotMeasure(f"the campaign's attempts ended as {ended}")
        phases: dict[str, float] = {}
        for row in store.execute("SELECT * FROM phases"):
            spent = seconds(row["ended_at"]) - seconds(row["started_at"])
            phases[row["phase"]] = phases.get(row["phase"], 0.0) + spent
    return took, phases


@dataclass(frozen=True, slots=True)
class Side:
    """One side's wall time and what came over the line for it."""

    wall: float
    fetched: int


def measure(driver: str, plan: Plan, registry: Registry) -> tuple[Side, Side, dict[str, float]]:
    """The loop, isobench, and isobench's phases, on this storage driver."""
    with Proxy(("127.0.0.1", registry.port)) as line:
        line.bandwidth = LINE
        with fresh(driver) as (engine, _):
            theirs = Side(loop(engine, plan, line.port), line.passed)
        print(f"{driver}: loop {theirs.wall:.0f} s", file=sys.stderr)
        before = line.passed
        with fresh(driver) as (engine, folder):
            took, phases = campaign(engine, plan, line.port, folder)
        return theirs, Side(took, line.passed - before), phases


def show(driver: str, theirs: Side, ours: Side, phases: dict[str, float]) -> Bar:
    """Print the tables; how many times as long the loop takes."""
    rows = [
        (name, f"{side.wall:.0f}", f"{side.fetched / MB:.0f}")
        for name, side in (("docker run --rm, prune -af", theirs), ("isobench", ours))
    ]
    print_table((driver, "wall s", "fetched MB"), rows)
    print(f"isobench's phases in all, s: {', '.join(f'{name} {spent:.0f}' for name, spent in phases.items())}\n")
    return Bar(f"campaign_{driver}", theirs.wall / ours.wall, ">=", LIMITS[driver])


def main() -> int:
    parser = argparse.ArgumentParser(description="A campaign's makespan beside a loop of docker run --rm and prune.")
    parser.add_argument("--quick", action="store_true", help="6 jobs of 3 s over four images of 250 MB")
    parser.add_argument("--driver", choices=list(LIMITS), help="only this storage driver")
    options = parser.parse_args()
    plan: Plan = QUICK if options.quick else FULL
    drivers: Sequence[str] = [options.driver] if options.driver else list(LIMITS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bars = []
    try:
        with contextlib.closing(Registry()) as registry:
            publish(registry, plan)
            for driver in drivers:
                bars.append(show(driver, *measure(driver, plan, registry)))
    except (CannotStart, CannotMount, CannotBuild, CannotMeasure) as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 2
    print(f"{len(plan.jobs())} jobs of {plan.wait:g} s, {2 * plan.commits} images, a line of {LINE // MB} MB/s")
    return settle(*bars)


if __name__ == "__main__":
    sys.exit(main())
