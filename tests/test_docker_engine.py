"""The docker engine on real engines: containers from launch to removal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FOREVER, Lab
from docker import APIClient
from docker.errors import APIError
from dockerd import eventually
from fakevllm import FASTER, MODEL, make_tree

from isobench_tui.engine.base import (
    EngineError,
    EngineUnreachable,
    Exit,
    GpuUnavailable,
    Handle,
    ImageInfo,
    ImageMissing,
    Mount,
    NameTaken,
)
from isobench_tui.engine.docker import DockerEngine
from isobench_tui.engine.job import Deadlines, DriverJob, Owner, PatchJob, ServerJob, TrialJob
from isobench_tui.engine.storage import root_of


@pytest.mark.parametrize("url", ["ssh://me@host", "tcp://10.0.0.1:2375", "unix://relative.sock", "nonsense"])
def test_an_engine_that_is_not_local_is_refused(url: str) -> None:
    with pytest.raises(EngineError, match=r"unix:///"):
        DockerEngine(url)


def test_the_socket_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    with pytest.raises(EngineError, match=r"10\.0\.0\.1"):
        DockerEngine()


async def test_no_socket_is_an_unreachable_engine(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnreachable, match="does not answer"):
        await engine.check()
    await engine.close()


@pytest.mark.docker
async def test_check_and_usage_tell_where_images_live(any_lab: Lab) -> None:
    engine = any_lab.engine()
    info = any_lab.host.client.info()
    assert await engine.check() == f"docker {info['ServerVersion']} {info['Driver']} {info['DockerRootDir']}"
    usage = await engine.usage()
    assert usage.path == root_of(info)
    assert usage.path.is_relative_to(info["DockerRootDir"]), "containerd's store too, where the engine started it"
    real = os.statvfs(usage.path)
    assert usage.total == real.f_blocks * real.f_frsize
    assert 0 < usage.free < usage.total


@pytest.mark.docker
async def test_a_container_runs_writes_and_ends(any_lab: Lab) -> None:
    """Into a run directory that is 0700 and somebody else's, whose files the driver can give back."""
    code = """
import os, pathlib
pathlib.Path(run, 'out').write_text(os.getcwd() + open('/isobench/patch.diff').read() + open('/data/x').read())
os.chown(run + '/out', 4711, 4712)
for target in ('/isobench/job.json', '/isobench/patch.diff', '/data/x', '/isobench/driver.py'):
    try:
        open(target, 'a')
    except OSError as error:
        assert error.errno == 30, error
    else:
        sys.exit(9)
sys.exit(3)
"""
    data = any_lab.runs.parent / "data"
    data.mkdir()
    (data / "x").write_text("+data")
    engine = any_lab.engine()
    spec = any_lab.spec(code, mounts=(Mount(data, "/data"),))
    (spec.run_dir / "patch.diff").write_text("+patch")
    if os.geteuid() == 0:
        os.chown(spec.run_dir, 4711, 4711)
    handle = await engine.launch(spec)
    assert (handle.attempt, handle.name, handle.run_dir) == (spec.attempt, spec.name, spec.run_dir.resolve())
    ended = await engine.wait(handle)
    assert (ended.code, ended.signal, ended.oom_killed, ended.error) == (3, None, False, "")
    made = spec.run_dir / "out"
    assert made.read_text() == "/+patch+data"
    assert (made.stat().st_uid, made.stat().st_gid) == (4711, 4712)
    await engine.remove(handle)
    await engine.remove(handle)
    assert not any_lab.host.exists(spec.name)
    assert await engine.inspect(handle) == {}


@pytest.mark.docker
async def test_limits_and_privileges_as_seen_inside(lab: Lab) -> None:
    """An image with its own user, working directory, entrypoint, volume and health check."""
    lab.host.image(
        "isobench-test/user:1",
        [{"/work/file": b""}],
        extra=[
            "USER 1000",
            "WORKDIR /work",
            'ENTRYPOINT ["/bin/false"]',
            'CMD ["nothing"]',
            "HEALTHCHECK CMD true",
            "STOPSIGNAL SIGINT",
            "ENV FROM_IMAGE=1",
        ],
    )
    code = """
import os, pathlib, resource, shutil
seen = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines())
seen['cwd'], seen['uid'], seen['env'] = os.getcwd(), os.getuid(), sorted(os.environ)
seen['links'] = sorted(os.listdir('/sys/class/net'))
seen['stack'] = resource.getrlimit(resource.RLIMIT_STACK)
seen['memlock'] = resource.getrlimit(resource.RLIMIT_MEMLOCK)
seen['shm'] = shutil.disk_usage('/dev/shm').total
seen['cpus'] = sorted(os.sched_getaffinity(0))
seen['init'] = pathlib.Path('/proc/1/comm').read_text().strip()
json.dump(seen, open(run + '/seen', 'w'))
"""
    image = ImageInfo("isobench-test/user:1", "isobench-test/user:1", None, None, present=True)
    engine = lab.engine()
    spec = lab.spec(code, image=image, shm_size=96 << 20, memory=512 << 20, pids=99, cpuset="0")
    handle = await engine.launch(spec)
    assert (await engine.wait(handle)).code == 0
    seen = json.loads((spec.run_dir / "seen").read_text())
    assert seen["NoNewPrivs"].strip() == "1"
    dac_override, chown = 1 << 1, 1 << 0  # linux/capability.h
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(seen[kind], 16) == dac_override | chown
    assert (seen["cwd"], seen["uid"], seen["links"], seen["cpus"]) == ("/work", 0, ["lo"], [0])
    assert seen["shm"] == 96 << 20
    assert seen["stack"] == [67108864, 67108864]
    assert "init" in seen["init"]
    assert "FROM_IMAGE" in seen["env"]
    told: dict[str, Any] = await engine.inspect(handle)
    limits = told["HostConfig"]
    assert (limits["Memory"], limits["PidsLimit"], limits["CpusetCpus"]) == (512 << 20, 99, "0")
    # An engine without CAP_SYS_RESOURCE cannot lift the limit; then the attempt runs without, and inspect says so.
    lifted = {"Name": "memlock", "Soft": -1, "Hard": -1} in limits["Ulimits"]
    assert lifted == (seen["memlock"] == [-1, -1])
    assert limits["LogConfig"] == {"Type": "local", "Config": {"max-size": "100m"}}
    assert told["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert not limits["PortBindings"]
    assert not limits["AutoRemove"]


@pytest.mark.docker
async def test_env_values_appear_nowhere(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter-outside")
    lab.host.image("isobench-test/env:1", [{"/x": b""}], extra=["ENV API_KEY=hunter-inside EMPTY="])
    engine = lab.engine()
    spec = lab.spec(
        "import os; open(run + '/env', 'w').write(repr(dict(os.environ)))",
        image=ImageInfo("isobench-test/env:1", "isobench-test/env:1", None, None, present=True),
    )
    handle = await engine.launch(spec)
    await engine.wait(handle)
    assert "hunter-outside" not in (spec.run_dir / "env").read_text()
    told: dict[str, Any] = await engine.inspect(handle)
    assert "hunter" not in repr(told)
    assert {"API_KEY=***", "EMPTY=***"} <= set(told["Config"]["Env"])
    assert told["State"]["ExitCode"] == 0
    assert told["Image"].startswith("sha256:")


@pytest.mark.docker
@pytest.mark.parametrize(
    ("code", "grace", "expected"),
    [
        (FOREVER, 20.0, (128 + 15, 15)),
        ("import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); " + FOREVER, 20.0, (5, None)),
        (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: " + FOREVER[15:],
            0.3,
            (128 + 9, 9),
        ),
    ],
    ids=["default", "handles TERM", "ignores TERM"],
)
async def test_stop(lab: Lab, code: str, grace: float, expected: tuple[int, int | None]) -> None:
    engine = lab.engine()
    spec = lab.spec(code)
    handle = await engine.launch(spec)
    await eventually((spec.run_dir / "up").exists, "the driver is up")
    waiting = asyncio.create_task(engine.wait(handle))
    ended = await engine.stop(handle, grace)
    assert (ended.code, ended.signal) == expected
    assert await waiting == ended
    assert await engine.stop(handle, grace) == ended


@pytest.mark.docker
async def test_a_driver_that_takes_too_much_memory_was_killed_by_the_kernel(lab: Lab) -> None:
    engine = lab.engine()
    handle = await engine.launch(lab.spec("x = [bytearray(1 << 20) for _ in range(500)]", memory=64 << 20))
    ended = await engine.wait(handle)
    assert ended.oom_killed
    assert (ended.code, ended.signal) == (137, signal.SIGKILL)


@pytest.mark.docker
async def test_a_launch_that_cannot_work_says_why_and_frees_the_name(lab: Lab) -> None:
    engine = lab.engine()
    gone = ImageInfo("isobench-test/gone:1", "isobench-test/gone:1", None, None, present=True)
    for error, fields in (
        (ImageMissing, {"image": gone}),
        (GpuUnavailable, {"gpus": ("isobench-none",)}),
        (EngineError, {"mounts": (Mount(lab.runs / "absent", "/x"),)}),
    ):
        spec = lab.spec(**fields)
        with pytest.raises(error) as told:
            await engine.launch(spec)
        assert type(told.value) is error
        assert not lab.host.exists(spec.name)
    assert "absent" in str(told.value)


@pytest.mark.docker
async def test_an_image_without_python_says_so(lab: Lab) -> None:
    lab.host.image("isobench-test/bare:1", [{"/x": b""}], base="scratch")
    bare = ImageInfo("isobench-test/bare:1", "isobench-test/bare:1", None, None, present=True)
    engine = lab.engine()
    ended = await engine.wait(await engine.launch(lab.spec(image=bare)))
    assert ended.code == 127
    assert "python3" in ended.error


@pytest.mark.docker
async def test_launch_is_idempotent_for_an_attempt(lab: Lab) -> None:
    engine, other = lab.engine(), lab.engine()
    spec = lab.spec(FOREVER)
    first = await engine.launch(spec)
    assert await other.launch(spec) == first
    await engine.stop(first, 0)
    again = await other.launch(spec)
    assert (again.id, again.state) == (first.id, "ended")


@pytest.mark.docker
async def test_an_attempt_that_was_created_only_is_started(lab: Lab) -> None:
    spec = lab.spec("sys.exit(4)")
    created = create(lab, spec.name, {"isobench.workspace": spec.workspace, "isobench.attempt": spec.attempt})
    engine = lab.engine()
    handle = await engine.launch(spec)
    assert handle.id == created
    assert (await engine.wait(handle)).code == 7  # the program of `create`


@pytest.mark.docker
async def test_what_could_not_start_nor_be_removed_is_no_end_of_the_attempt(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit is refused, and the engine is too busy to remove the container: it calls that one dead from then on."""
    refused: list[str] = []
    start, remove, inspect = APIClient.start, APIClient.remove_container, APIClient.inspect_container

    def first_start(client: APIClient, container: str) -> None:
        if refused:
            start(client, container)
            return
        refused.append(container)
        raise APIError("error", explanation="error setting rlimit type 8: operation not permitted")

    def second_removal(client: APIClient, container: str, **how: Any) -> None:
        if len(refused) == 1:
            refused.append("tried")
            raise APIError("error", explanation="device or resource busy")
        remove(client, container, **how)

    def dead(client: APIClient, container: str) -> dict[str, Any]:
        found: dict[str, Any] = inspect(client, container)
        if found["Id"] in refused:
            found["State"].update(Status="dead", ExitCode=128, Error="error setting rlimit type 8")
        return found

    monkeypatch.setattr(APIClient, "start", first_start)
    monkeypatch.setattr(APIClient, "remove_container", second_removal)
    monkeypatch.setattr(APIClient, "inspect_container", dead)
    engine = lab.engine()
    spec = lab.spec("sys.exit(4)")
    handle = await engine.launch(spec)
    assert handle.id != refused[0]
    assert (await engine.wait(handle)).code == 4
    left = replace(handle, id=create(lab, f"{spec.name}-left", {}))
    refused.append(left.id)
    assert await engine.wait(left) == Exit(None, error="never started"), "also where another runner finds it"
    lab.host.client.remove_container(left.id)


def create(lab: Lab, name: str, labels: dict[str, str]) -> str:
    made = lab.host.client.create_container(
        lab.image.pinned,
        ["sh", "-c", "exit 7"],
        name=name,
        labels=labels,
        host_config=lab.host.client.create_host_config(network_mode="none"),
    )
    return str(made["Id"])


@pytest.mark.docker
async def test_a_name_that_is_taken(lab: Lab) -> None:
    """By another workspace or by nobody we know: left alone. By our own dead attempt: replaced."""
    engine = lab.engine()
    spec = lab.spec(FOREVER, name="isobench-cpu")
    for labels, owner in (
        ({"isobench.workspace": "theirs", "isobench.attempt": spec.attempt}, "theirs"),
        ({}, "someone else"),
    ):
        holder = create(lab, spec.name, labels)
        with pytest.raises(NameTaken) as told:
            await engine.launch(spec)
        assert (told.value.name, told.value.owner) == (spec.name, owner)
        assert lab.host.exists(holder)
        lab.host.client.remove_container(holder)
    dead = create(lab, spec.name, {"isobench.workspace": lab.workspace, "isobench.attempt": "older"})
    handle = await engine.launch(spec)
    assert not lab.host.exists(dead)
    with pytest.raises(NameTaken) as told:
        await engine.launch(lab.spec(name="isobench-cpu"))
    assert told.value.owner == lab.workspace
    assert spec.attempt in str(told.value)
    await engine.remove(handle)


@pytest.mark.docker
async def test_adopt_finds_what_is_ours_in_any_state(lab: Lab, tmp_path: Path) -> None:
    engine = lab.engine()
    running = await engine.launch(lab.spec(FOREVER))
    ended = await engine.launch(lab.spec())
    await engine.wait(ended)
    labels = {"isobench.workspace": lab.workspace, "isobench.attempt": "made", "isobench.rundir": f"{lab.runs}/made"}
    created = create(lab, "isobench-test-made", labels)
    create(lab, "isobench-test-moved", {**labels, "isobench.rundir": "/elsewhere/runs/made"})
    await engine.launch(lab.spec(workspace="theirs"))
    (tmp_path / "link").symlink_to(lab.runs)
    found = {handle.id: handle for handle in await engine.adopt(lab.workspace, tmp_path / "link")}
    assert found == {
        running.id: running,
        ended.id: Handle(ended.attempt, ended.name, ended.id, ended.run_dir, "ended"),
        created: Handle("made", "isobench-test-made", created, lab.runs / "made", "created"),
    }
    stopped = await engine.stop(found[created], 0)
    assert (stopped.code, stopped.error) == (None, "never started")


async def run_the_driver(lab: Lab, patch: str) -> tuple[Exit, Path]:
    """The real driver in an image whose files are another user's and not writable by root's group."""
    tree = make_tree(lab.runs.parent / "tree")
    layer = {f"/opt/app/{path.relative_to(tree)}": path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    extra = ["USER 0", "RUN chown -R 1000:1000 /opt/app && chmod -R go-w /opt/app", "USER 1000"]
    lab.host.image("isobench-test/app:1", [layer], extra=[*extra, "WORKDIR /opt/app", "ENV PYTHONPATH=/opt/app"])
    image = ImageInfo("isobench-test/app:1", "isobench-test/app:1", None, None, present=True)
    spec = lab.spec(image=image)
    (spec.run_dir / "patch.diff").write_text(patch)
    job = DriverJob(
        attempt=spec.attempt,
        engine="docker",
        mode="serving",
        run="/isobench/run",
        pythons=("python3",),
        env={},
        model=MODEL,
        patch=PatchJob(path="/isobench/patch.diff", sha256=hashlib.sha256(patch.encode()).hexdigest()),
        server=ServerJob(
            argv=("python", "server.py", "--model", "{isobench:model}", "--port", "{isobench:port}"),
            port=8000,
            model_ids=(MODEL,),
        ),
        trials=(TrialJob(index=0, counted=True, argv=("python", "client.py", "ok"), log="client-00.log", seed=0),),
        deadlines=Deadlines(setup=60, server=60, measure=60, overall=180, stall=60),
        grace=5,
        owner=Owner(uid=4711, gid=4712),
    )
    (spec.run_dir / "job.json").write_text(job.model_dump_json())
    if os.geteuid() == 0:
        os.chown(spec.run_dir, 4711, 4712)
    engine = DockerEngine(lab.host.url)
    ended = await engine.wait(await engine.launch(spec))
    await engine.close()
    return ended, spec.run_dir


@pytest.mark.docker
async def test_the_driver_needs_no_more_privileges(lab: Lab) -> None:
    """It patches files of another user, runs server and client, stops them, and gives its files to the operator."""
    ended, run = await run_the_driver(lab, FASTER)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert (ended.code, events[-1]["outcome"]) == (0, "ok"), events
    (patch,) = (event for event in events if event["event"] == "patch")
    assert patch["applied"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in run.glob("*.log")} == {(4711, 4712)}
