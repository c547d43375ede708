"""The docker engine on real engines: containers from launch to removal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from conftest import Lab
from dockerd import Dockerd, until
from proxy import Proxy

from isobench_tui.engine.base import (
    EngineError,
    EngineUnreachable,
    GpuUnavailable,
    Handle,
    ImageInfo,
    ImageMissing,
    Mount,
    NameTaken,
)
from isobench_tui.engine.docker import DockerEngine

FOREVER = "import signal; open(run + '/up', 'w').close(); signal.pause()"


async def eventually(condition: Any, what: str = "", within: float = 30.0) -> None:
    """`until` for async tests: the loop goes on meanwhile."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.05)


def exists(lab: Lab, name: str) -> bool:
    try:
        lab.host.client.inspect_container(name)
    except docker.errors.NotFound:
        return False
    return True


def story(lab: Lab, name: str) -> list[str]:
    """What the engine did with the container of that name: create, start, die, destroy, …"""
    filters = {"type": "container", "container": name}
    events = lab.host.client.events(since=0, until=int(time.time()), filters=filters, decode=True)
    return [event["Action"] for event in events]


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
    assert usage.path == Path(info["DockerRootDir"])
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
    assert not exists(any_lab, spec.name)
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
        assert not exists(lab, spec.name)
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
        assert exists(lab, holder)
        lab.host.client.remove_container(holder)
    dead = create(lab, spec.name, {"isobench.workspace": lab.workspace, "isobench.attempt": "older"})
    handle = await engine.launch(spec)
    assert not exists(lab, dead)
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


@pytest.mark.docker
async def test_a_container_that_somebody_removes_ends_the_wait(lab: Lab) -> None:
    engine = lab.engine(poll=0.2)
    handle = await engine.launch(lab.spec(FOREVER))
    waiting = asyncio.create_task(engine.wait(handle))
    lab.host.client.remove_container(handle.id, force=True)
    ended = await waiting
    assert ended.code is None
    assert "removed" in ended.error


@pytest.mark.docker
async def test_wait_survives_a_restart_of_the_engine(lab: Lab, own_dockerd: Dockerd) -> None:
    engine = lab.engine(poll=0.5, patience=60)
    spec = lab.spec(FOREVER)
    handle = await engine.launch(spec)
    await eventually((spec.run_dir / "up").exists, "the driver is up")
    waiting = asyncio.create_task(engine.wait(handle))
    await asyncio.to_thread(own_dockerd.restart)
    ended = await waiting
    assert ended.signal in {signal.SIGTERM, signal.SIGKILL}
    assert [handle.state for handle in await engine.adopt(lab.workspace, lab.runs)] == ["ended"]


@pytest.mark.docker
async def test_wait_gives_up_on_an_engine_that_stays_away(lab: Lab, own_dockerd: Dockerd) -> None:
    engine = lab.engine(poll=0.5, patience=0.5)
    handle = await engine.launch(lab.spec(FOREVER))
    waiting = asyncio.create_task(engine.wait(handle))
    try:
        await asyncio.to_thread(own_dockerd.stop)
        with pytest.raises(EngineUnreachable):
            await waiting
            await engine.inspect(handle)  # wait may still have heard the end: then this one fails
    finally:
        await asyncio.to_thread(own_dockerd.start)


@pytest.mark.docker
async def test_wait_asks_where_the_engine_forgets_to_tell(lab: Lab, tmp_path: Path) -> None:
    with Proxy(Path(lab.host.url.removeprefix("unix://")), tmp_path / "p.sock") as proxy:
        proxy.rule(r"^POST .*/wait", "answer")
        engine = lab.engine(f"unix://{tmp_path}/p.sock", poll=0.3)
        handle = await engine.launch(lab.spec("sys.exit(6)"))
        assert (await engine.wait(handle)).code == 6


@pytest.mark.docker
@pytest.mark.parametrize("held", ["request", "answer"])
@pytest.mark.parametrize("leave", ["late", "cancelled"])
async def test_a_create_that_hangs_leaves_no_container(lab: Lab, tmp_path: Path, held: Any, leave: str) -> None:
    with Proxy(Path(lab.host.url.removeprefix("unix://")), tmp_path / "p.sock") as proxy:
        rule = proxy.rule(r"^POST .*/containers/create", held)
        engine = lab.engine(f"unix://{tmp_path}/p.sock", create_timeout=1.0 if leave == "late" else 60.0)
        spec = lab.spec(FOREVER)
        launching = asyncio.create_task(engine.launch(spec))
        if leave == "late":
            with pytest.raises(EngineUnreachable):
                await launching
        else:
            await eventually(lambda: rule.seen, "the create is on its way")
            if held == "answer":
                await eventually(lambda: exists(lab, spec.name), "the container is there")
            launching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await launching
        rule.release()
        await eventually(lambda: "destroy" in story(lab, spec.name), "what appeared is removed")
        assert "start" not in story(lab, spec.name)
        assert not exists(lab, spec.name)


@pytest.mark.docker
async def test_a_launch_cancelled_while_it_starts_leaves_no_container(lab: Lab, tmp_path: Path) -> None:
    with Proxy(Path(lab.host.url.removeprefix("unix://")), tmp_path / "p.sock") as proxy:
        engine = lab.engine(f"unix://{tmp_path}/p.sock")
        await engine.launch(lab.spec())  # finds out which limits the engine allows
        rule = proxy.rule(r"^POST .*/start", "answer")
        spec = lab.spec(FOREVER)
        launching = asyncio.create_task(engine.launch(spec))
        await eventually((spec.run_dir / "up").exists, "it runs")
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching
        rule.release()
        await eventually(lambda: not exists(lab, spec.name), "it is removed")


@pytest.mark.docker
async def test_calls_that_hang_time_out_and_free_their_caller(lab: Lab, tmp_path: Path) -> None:
    with Proxy(Path(lab.host.url.removeprefix("unix://")), tmp_path / "p.sock") as proxy:
        engine = lab.engine(f"unix://{tmp_path}/p.sock", quick=1.0, remove_timeout=1.0)
        handle = await engine.launch(lab.spec(FOREVER))
        proxy.rule(r"^DELETE ", "request")
        hung = proxy.rule(r"^GET .*/json", "request")
        with pytest.raises(EngineUnreachable, match="removing"):
            await engine.remove(handle)
        with pytest.raises(EngineUnreachable, match="inspecting"):
            await engine.inspect(handle)
        patient = lab.engine(f"unix://{tmp_path}/p.sock")
        asking = asyncio.create_task(patient.inspect(handle))
        seen = hung.seen
        await eventually(lambda: hung.seen > seen, "the question is on its way")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not hung.released.is_set()


@pytest.mark.docker
async def test_a_plain_member_of_the_engines_group_can_run_attempts(
    lab: Lab, own_dockerd: Dockerd, member: Any
) -> None:
    source = f"""
import asyncio, os, pathlib
from isobench_tui.engine.base import ImageInfo, LaunchSpec
from isobench_tui.engine.docker import DockerEngine

async def main():
    home = pathlib.Path.home()
    run = home / 'runs' / 'one'
    run.mkdir(parents=True, mode=0o700)
    (run / 'job.json').write_text('{{}}')
    (home / 'driver.py').write_text(
        'import os; open("/isobench/run/out", "w").close(); os.chown("/isobench/run/out", %d, %d)'
        % (os.getuid(), os.getgid()))
    engine = DockerEngine('{lab.host.url}', driver=home / 'driver.py')
    print(await engine.check())
    print((await engine.usage()).total > 0)
    image = await engine.resolve('{lab.image.ref}')
    handle = await engine.launch(LaunchSpec('member-one', '{lab.workspace}', 'isobench-test-member', image, run))
    print(await engine.wait(handle))
    (run / 'out').write_text('mine')
    await engine.remove(handle)
    print(os.getuid(), os.access('/root', os.R_OK), await engine.adopt('{lab.workspace}', home / 'runs'))
    await engine.close()

asyncio.run(main())
"""
    done = await asyncio.to_thread(member.script, source)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("docker ")
    assert lines[1] == "True"
    assert lines[2].startswith("Exit(code=0,")
    assert lines[3].endswith("False []")
    assert stat.S_IMODE(own_dockerd.socket.stat().st_mode) == 0o660


@pytest.mark.docker
async def test_who_may_not_use_the_socket_is_told_so(lab: Lab, own_dockerd: Dockerd, member: Any) -> None:
    source = f"""
import asyncio
from isobench_tui.engine.docker import DockerEngine
asyncio.run(DockerEngine('{lab.host.url}').check())
"""
    mode = own_dockerd.socket.stat().st_mode
    own_dockerd.socket.chmod(0o600)
    try:
        done = await asyncio.to_thread(member.script, source)
    finally:
        own_dockerd.socket.chmod(mode)
    assert "EngineUnreachable" in done.stderr
    assert "permission denied" in done.stderr.splitlines()[-1]


@pytest.mark.docker
def test_our_own_engine_leaves_nothing_behind(own_dockerd: Dockerd) -> None:
    """Also where it is killed with a container running."""
    other = Dockerd("overlay2")
    try:
        other.image("isobench-test/data:1", [{"/x": b"1"}])
        config = other.client.create_host_config(network_mode="none")
        made = other.client.create_container("isobench-test/data:1", ["sleep", "1000"], host_config=config)
        other.client.start(made["Id"])
        assert len(other.processes()) >= 3
        other.kill()
        until(other.mounts, what="its mounts are there still")
    finally:
        other.close()
    assert not other.root.exists()
