"""The process engine with real drivers: launch, adopt, exclude, stop, remove, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fakevllm import FASTER, Run, make_tree, until

from isobench_tui.engine import process, procs
from isobench_tui.engine.base import EngineError, Handle, ImageInfo, ImageMissing, LaunchSpec, NameTaken
from isobench_tui.engine.process import ProcessEngine
from isobench_tui.engine.record import RECORD, Record, read_record, write_record


@dataclass
class Place:
    """A workspace with an image folder and the locks of a host of its own."""

    root: Path

    def __post_init__(self) -> None:
        self.image = make_tree(self.root / "image")
        self.workspace = self.root / "workspace"
        self.runs = self.workspace / "runs"
        self.locks = self.root / "locks"
        self.runs.mkdir(parents=True)
        self.attempts: list[str] = []

    def engine(self) -> ProcessEngine:
        return ProcessEngine(self.workspace, self.locks)

    def spec(self, number: int = 1, what: str = "ok", uuid: str = "uuid-1", **job: Any) -> LaunchSpec:
        """A prepared run directory, and what launches it."""
        attempt = f"a{number}-{os.getpid()}-{self.root.name}"
        self.attempts.append(attempt)
        tree = self.workspace / "trees" / attempt
        writer = Run.__new__(Run)
        writer.root, writer.dir, writer.tree, writer.attempt = self.root, self.runs / attempt, tree, attempt
        writer.dir.mkdir(exist_ok=True)
        made = writer.job_model(writer.trial(what), **job)
        (writer.dir / "job.json").write_text(made.model_dump_json())
        return LaunchSpec(
            attempt=attempt,
            workspace=uuid,
            name="isobench-cpu",
            image=ImageInfo(str(self.image), str(self.image), None, None, True),
            run_dir=writer.dir,
            tree=tree,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    left = {attempt: procs.family(attempt) for attempt in made.attempts}
    for attempt in made.attempts:
        procs.kill(attempt)
    assert not any(left.values()), "processes were left behind"


def log(spec: LaunchSpec, name: str = "client-00.log") -> str:
    path = spec.run_dir / name
    return path.read_text() if path.exists() else ""


def alive(pid: int) -> bool:
    return procs.is_alive(pid, procs.start_time(pid) or 0)


async def eventually(spec: LaunchSpec, text: str) -> None:
    await asyncio.to_thread(until, lambda: text in log(spec))


def identity(handle: Handle) -> tuple[int, int]:
    pid, started, _ = handle.id.split(":")
    return int(pid), int(started)


async def test_an_attempt_from_launch_to_removal(place: Place) -> None:
    engine = place.engine()
    image = await engine.resolve(str(place.image))
    assert (image.present, image.digest) == (True, None)
    assert await engine.fetch(image, lambda _: None) == image
    spec = replace(place.spec(what="rate", patch=FASTER), image=image)
    handle = await engine.launch(spec)
    assert handle.state == "running"
    assert [h.attempt for h in await engine.adopt("uuid-1", place.runs)] == [spec.attempt]
    end = await engine.wait(handle)
    assert (end.code, end.signal, end.claimed) == (0, None, False)
    assert "rate 300" in log(spec)
    assert "RATE = 100" in (place.image / "vllm/engine.py").read_text()
    (held,) = await engine.adopt("uuid-1", place.runs)
    assert held.state == "ended"
    assert (await engine.inspect(handle))["exit_code"] == 0
    await engine.remove(handle)
    assert spec.tree is not None
    assert not spec.tree.exists()
    assert await engine.adopt("uuid-1", place.runs) == []
    assert await engine.inspect(handle) == {}
    await engine.remove(handle)
    assert await engine.remove_image(image) is False


async def test_check_and_usage(place: Place) -> None:
    assert (await place.engine().check()).startswith("process Linux")
    usage = await place.engine().usage()
    assert 0 < usage.free <= usage.total
    for ref in ("relative", str(place.root / "absent"), str(place.image / "client.py")):
        with pytest.raises(ImageMissing):
            await place.engine().resolve(ref)


async def test_the_driver_does_not_get_the_operators_environment(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "operator's own")
    engine, spec = place.engine(), replace(place.spec(what="env"), gpus=("3", "5"))
    handle = await engine.launch(spec)
    await engine.wait(handle)
    assert "token None" in log(spec)
    await engine.remove(handle)


async def test_gpus_are_made_visible_and_overlapping_sets_exclude_each_other(place: Place) -> None:
    engine, first = place.engine(), replace(place.spec(1, "gate"), gpus=("3", "5"), name="isobench-gpu-3-5")
    handle = await engine.launch(first)
    assert procs.environment(identity(handle)[0])["CUDA_VISIBLE_DEVICES"] == "3,5"
    with pytest.raises(NameTaken) as taken:
        await engine.launch(replace(place.spec(2, uuid="uuid-2"), gpus=("5", "7"), name="isobench-gpu-5-7"))
    assert (taken.value.name, taken.value.owner) == ("isobench-gpu-5", "uuid-1")
    other = replace(place.spec(3), gpus=("7",), name="isobench-gpu-7")  # the refused one kept nothing
    beside = await engine.launch(other)
    assert (await engine.wait(beside)).code == 0
    for one in (handle, beside):
        await engine.stop(one, 10)
        await engine.remove(one)


async def test_launch_is_idempotent(place: Place) -> None:
    spec = place.spec(what="gate")
    one, two = place.engine(), place.engine()
    handle = await one.launch(spec)
    assert await two.launch(spec) == handle
    await one.stop(handle, 10)
    again = await one.launch(spec)
    assert (again.id, again.state) == (handle.id, "ended")
    await one.remove(handle)


async def test_another_workspace_holds_the_name(place: Place) -> None:
    engine, spec = place.engine(), place.spec(1, "gate")
    handle = await engine.launch(spec)
    second = place.spec(2, uuid="uuid-2")
    with pytest.raises(NameTaken) as taken:
        await engine.launch(second)
    assert (taken.value.name, taken.value.owner) == ("isobench-cpu", "uuid-1")
    assert not (second.run_dir / RECORD).exists()
    await engine.stop(handle, 10)
    freed = await engine.launch(second)
    assert (await engine.wait(freed)).code == 0
    for one in (handle, freed):
        await engine.remove(one)


async def test_the_name_is_held_as_long_as_anything_of_the_driver_lives(place: Place) -> None:
    """Another workspace waits for what a killed driver left; our own workspace removes it."""
    engine, spec = place.engine(), place.spec(1, "silent")
    handle = await engine.launch(spec)
    await eventually(spec, "client silent")
    os.kill(identity(handle)[0], signal.SIGKILL)
    end = await engine.wait(handle)
    assert (end.code, end.signal) == (None, signal.SIGKILL)
    assert procs.family(spec.attempt)
    with pytest.raises(NameTaken):
        await engine.launch(place.spec(2, uuid="uuid-2"))
    assert procs.family(spec.attempt), "another workspace's processes are not ours to kill"
    third = await engine.launch(place.spec(3))
    assert not procs.family(spec.attempt)
    assert (await engine.wait(third)).code == 0
    for one in (handle, third):
        await engine.remove(one)


async def test_stop_ends_a_server_that_ignores_sigterm(place: Place) -> None:
    engine = place.engine()
    spec = place.spec(what="silent", fault="stubborn")
    handle = await engine.launch(spec)
    await eventually(spec, "client silent")
    end = await engine.stop(handle, 20)
    assert end.code == 143
    assert not procs.family(spec.attempt)
    await engine.remove(handle)


async def test_stop_kills_what_its_grace_does_not_end(place: Place) -> None:
    engine, spec = place.engine(), place.spec(what="silent", fault="stubborn", grace=600)
    handle = await engine.launch(spec)
    await eventually(spec, "client silent")
    end = await engine.stop(handle, 0.5)
    assert (end.code, end.signal) == (None, signal.SIGKILL)
    assert not procs.family(spec.attempt)
    await engine.remove(handle)


@pytest.mark.parametrize("fault", ["daemon", "hidden-daemon"])
async def test_stop_finds_daemons(place: Place, fault: str) -> None:
    engine, spec = place.engine(), place.spec(what="silent", fault=fault)
    handle = await engine.launch(spec)
    assert spec.tree is not None
    note = spec.tree / "daemon.pid"
    await asyncio.to_thread(until, lambda: note.exists() and note.read_text())
    pid = int(note.read_text())
    assert alive(pid)
    await engine.stop(handle, 0.01)
    assert not alive(pid)
    await engine.remove(handle)


async def test_remove_alone_kills_and_deletes(place: Place) -> None:
    engine, spec = place.engine(), place.spec(what="silent")
    handle = await engine.launch(spec)
    await eventually(spec, "client silent")
    assert spec.tree is not None
    locked = spec.tree / "locked"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0)
    await engine.remove(handle)
    assert not procs.family(spec.attempt)
    assert not spec.tree.exists()


RUNNER = """
import asyncio, os, pickle, sys
sys.path[:0] = {path!r}
from isobench_tui.engine.process import ProcessEngine
from isobench_tui.engine import process

spec = pickle.loads({spec!r})
kill_at = {kill_at!r}
if kill_at == "spawned":  # between the spawn and the record
    written = process.write_record
    process.write_record = lambda record: os._exit(9) if record.pid else written(record)
if kill_at == "copied":
    ProcessEngine._spawn = lambda *_: os._exit(9)
asyncio.run(ProcessEngine({workspace!r}, {locks!r}).launch(spec))
os._exit(9)
"""


def another_runner(place: Place, spec: LaunchSpec, kill_at: str) -> None:
    """A runner of its own that launches and dies."""
    import pickle
    from pathlib import PosixPath

    values: dict[str, object] = {"path": sys.path, "spec": pickle.dumps(spec), "kill_at": kill_at}
    values |= {"workspace": place.workspace, "locks": place.locks}
    code = "from pathlib import PosixPath\n" + textwrap.dedent(RUNNER).format(**values)
    assert isinstance(place.workspace, PosixPath)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 9


@pytest.mark.parametrize("kill_at", ["launched", "spawned"])
async def test_a_driver_of_a_runner_that_died_is_adopted(place: Place, kill_at: str) -> None:
    spec = place.spec(what="gate")
    another_runner(place, spec, kill_at)
    engine = place.engine()
    (handle,) = await engine.adopt("uuid-1", place.runs)
    assert (handle.attempt, handle.name, handle.state) == (spec.attempt, "isobench-cpu", "running")
    assert await engine.launch(spec) == handle
    assert (await engine.inspect(handle))["state"] == "running"
    waiting = asyncio.create_task(engine.wait(handle))
    await eventually(spec, "client gate")
    assert not waiting.done()
    assert spec.tree is not None
    (spec.tree / "go").touch()
    end = await waiting
    assert (end.code, end.claimed) == (0, True)
    await engine.remove(handle)
    assert not spec.tree.exists()


async def test_a_runner_that_died_before_the_spawn_leaves_something_to_remove(place: Place) -> None:
    spec = place.spec()
    another_runner(place, spec, "copied")
    engine = place.engine()
    (handle,) = await engine.adopt("uuid-1", place.runs)
    assert handle.state == "created"
    assert spec.tree is not None
    assert spec.tree.exists()
    (spec.tree / "half").touch()
    handle = await engine.launch(spec)
    assert not (spec.tree / "half").exists()
    assert (await engine.wait(handle)).code == 0
    await engine.remove(handle)


async def test_a_driver_whose_record_was_deleted_is_found(place: Place) -> None:
    engine, spec = place.engine(), place.spec(what="silent")
    handle = await engine.launch(spec)
    await eventually(spec, "client silent")
    (spec.run_dir / RECORD).unlink()
    (found,) = await engine.adopt("uuid-1", place.runs)
    assert (found.id, found.state) == (handle.id, "running")
    assert (await engine.stop(found, 10)).code == 143


async def test_a_driver_that_was_killed_without_a_word(place: Place) -> None:
    spec = place.spec(what="silent")
    another_runner(place, spec, "launched")
    engine = place.engine()
    (handle,) = await engine.adopt("uuid-1", place.runs)
    await eventually(spec, "client silent")
    os.kill(identity(handle)[0], signal.SIGKILL)
    end = await engine.wait(handle)
    assert (end.code, end.claimed) == (None, True)
    assert "no `end` event" in end.error
    await engine.remove(handle)
    assert not procs.family(spec.attempt)


async def test_other_workspaces_and_copies_are_not_adopted(place: Place) -> None:
    engine, spec = place.engine(), place.spec(what="silent")
    handle = await engine.launch(spec)
    assert await engine.adopt("uuid-2", place.runs) == []
    copied = place.root / "snapshot" / "runs"
    (copied / spec.attempt).mkdir(parents=True)
    (copied / spec.attempt / RECORD).write_bytes((spec.run_dir / RECORD).read_bytes())
    assert await engine.adopt("uuid-1", copied) == []
    await engine.stop(handle, 10)
    await engine.remove(handle)


async def test_a_cancelled_launch_leaves_nothing_that_adopt_does_not_see(place: Place) -> None:
    engine = place.engine()
    for number in range(6):
        spec = place.spec(number, what="silent")
        launching = asyncio.create_task(engine.launch(spec))
        for _ in range(number * 3):
            await asyncio.sleep(0)
        launching.cancel()
        await asyncio.wait({launching})
        for handle in await engine.adopt("uuid-1", place.runs):
            assert handle.attempt == spec.attempt
            await engine.remove(handle)
        assert spec.tree is not None
        assert not spec.tree.exists()
        assert not procs.family(spec.attempt)


async def test_a_launch_that_is_cancelled_while_it_writes_ends_after_that(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that a thread wrote later would be seen by nobody before the next start."""
    engine, spec = place.engine(), place.spec()
    begun, go_on = threading.Event(), threading.Event()

    def slow_disk(record: Record) -> None:
        begun.set()
        go_on.wait(60)
        write_record(record)

    monkeypatch.setattr(process, "write_record", slow_disk)
    launching = asyncio.create_task(engine.launch(spec))
    await asyncio.to_thread(begun.wait, 60)
    launching.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not launching.done()
    go_on.set()
    await asyncio.wait({launching})
    assert launching.cancelled()
    (handle,) = await engine.adopt("uuid-1", place.runs)
    assert (handle.attempt, handle.state) == (spec.attempt, "created")
    await engine.remove(handle)


async def test_a_forged_record_deletes_and_kills_nothing(place: Place) -> None:
    engine, spec = place.engine(), place.spec()
    handle = await engine.launch(spec)
    await engine.wait(handle)
    record = read_record(spec.run_dir)
    assert record is not None
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    victim = place.root / "victim"
    victim.mkdir()
    since = procs.start_time(bystander.pid)
    forged = {**record.model_dump(), "tree": str(victim), "pid": bystander.pid, "starttime": since}
    (spec.run_dir / RECORD).write_text(json.dumps(forged))
    try:
        (found,) = await engine.adopt("uuid-1", place.runs)
        assert found.state == "ended"
        await engine.stop(found, 1)
        await engine.remove(found)
        assert alive(bystander.pid)
        assert victim.exists()
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_tree_outside_the_workspace_is_refused(place: Place) -> None:
    for tree in (place.root / "elsewhere", place.workspace, place.runs):
        with pytest.raises(EngineError, match="not a place"):
            await place.engine().launch(replace(place.spec(), tree=tree))
