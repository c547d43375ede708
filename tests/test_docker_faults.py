"""The docker engine where things go wrong: engines that hang, restart or stay away, users who are not root."""

from __future__ import annotations

import asyncio
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from conftest import FOREVER, Lab
from dockerd import Dockerd, eventually, until
from proxy import Proxy

from isobench_tui.engine.base import EngineUnreachable


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
                await eventually(lambda: lab.host.exists(spec.name), "the container is there")
            launching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await launching
        rule.release()
        await eventually(lambda: "destroy" in lab.host.story(spec.name), "what appeared is removed")
        assert "start" not in lab.host.story(spec.name)
        assert not lab.host.exists(spec.name)


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
        await eventually(lambda: not lab.host.exists(spec.name), "it is removed")


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
