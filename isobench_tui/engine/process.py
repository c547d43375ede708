"""The engine for hosts without containers: the driver as a local process tree, an image as a folder that is copied.

Against hostile code it is best effort: the measured processes run as the operator. `mounts`, `network`, `shm_size`,
`memory` and `pids` of a LaunchSpec need a container and have no effect here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from isobench_tui.campaign.models import cpu_ids
from isobench_tui.engine import hostlock, procs
from isobench_tui.engine.base import (
    DiskFull,
    DiskUsage,
    EngineError,
    EngineUnreachable,
    Exit,
    Handle,
    ImageInfo,
    ImageMissing,
    LaunchSpec,
    NameTaken,
    PullProgress,
    Storage,
)
from isobench_tui.engine.job import DRIVER, JOB_FILE
from isobench_tui.engine.record import RECORD, Record, claimed_code, read_record, started, write_record
from isobench_tui.engine.storage import reflinks, usage_of

P = ParamSpec("P")
T = TypeVar("T")

DRIVER_LOG = "driver.log"
_PASSED = ("PATH", "HOME", "LANG")


class Foreign(EngineError):
    """A path that is not this attempt's to write or delete."""


class ProcessEngine:
    """Implements `Engine`. `locks` is the folder where the mutexes of the GPUs lie, one for the whole host."""

    kind: Literal["docker", "process"] = "process"

    def __init__(self, workspace: Path, locks: Path = hostlock.LOCKS) -> None:
        self._workspace = workspace.resolve()
        self._locks = locks
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def check(self) -> str:
        if not procs.environment(os.getpid()) or not hasattr(os, "pidfd_open"):
            raise EngineUnreachable("the process engine needs Linux >= 5.3 with /proc")
        return f"process {platform.system()} {platform.release()} {platform.machine()} {self._workspace}"

    async def resolve(self, ref: str) -> ImageInfo:
        path = Path(ref)
        if not path.is_absolute():
            raise ImageMissing(f"{ref}: with the process engine an image is an absolute folder")
        if not await asyncio.to_thread(path.is_dir):
            raise ImageMissing(f"{ref}: no such folder")
        pinned = str(await asyncio.to_thread(path.resolve))
        return ImageInfo(ref=ref, pinned=pinned, digest=None, id=pinned, present=True)

    async def fetch(self, image: ImageInfo, on_progress: Callable[[PullProgress], None]) -> ImageInfo:
        on_progress(PullProgress(layers=(), done=0, total=0))
        return image

    async def launch(self, spec: LaunchSpec) -> Handle:
        if spec.tree is None:
            raise EngineError("the process engine needs a place for its copy of the image")
        tree = self._own(spec.tree, spec.attempt, spec.run_dir)
        existing = await asyncio.to_thread(self._existing, spec.attempt, spec.run_dir)
        if existing is not None and existing.state != "created":
            return existing
        fds = await self._lock_all(spec)
        try:
            record = Record(
                attempt=spec.attempt,
                name=spec.name,
                workspace=spec.workspace,
                run_dir=str(spec.run_dir.resolve()),
                tree=str(tree),
            )
            await _whole(write_record, record)  # before anything that would have to be removed
            await self._copy(Path(spec.image.pinned), tree)
            record = await _whole(self._spawn, spec, record, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return record.handle("running")

    async def settled(self, attempt: str) -> None:
        """`launch` itself does not return before its copy and its spawn have."""

    async def wait(self, handle: Handle) -> Exit:
        await self._gone(handle)
        return await asyncio.to_thread(self._exit, handle)

    async def stop(self, handle: Handle, grace: float) -> Exit:
        with contextlib.suppress(ProcessLookupError), _pidfd(handle) as fd:
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone(handle), grace)
        await self._kill(handle.attempt)
        return await self.wait(handle)

    async def inspect(self, handle: Handle) -> dict[str, object]:
        return await asyncio.to_thread(self._inspect, handle)

    async def remove(self, handle: Handle) -> None:
        await self._kill(handle.attempt)
        child = self._children.pop(handle.id, None)
        if child is not None:
            child.poll()
        record = await asyncio.to_thread(read_record, handle.run_dir)
        if record is not None:
            with contextlib.suppress(Foreign):
                await asyncio.to_thread(_delete, self._own(Path(record.tree), handle.attempt, handle.run_dir))
        with contextlib.suppress(OSError):  # a folder in its place is not ours to mind
            (handle.run_dir / RECORD).unlink()

    async def adopt(self, workspace: str, runs: Path) -> list[Handle]:
        return await asyncio.to_thread(self._adopt, workspace, runs)

    async def remove_image(self, image: ImageInfo) -> bool:  # noqa: ARG002
        """Always False: the folder is the operator's, not ours."""
        return False

    async def prune(self, spare: frozenset[str]) -> list[str]:  # noqa: ARG002
        """Nothing: folders are the operator's."""
        return []

    async def drop_cache(self, needed: frozenset[str]) -> int:  # noqa: ARG002
        """Nothing: it keeps nothing."""
        return 0

    async def storage(self) -> Storage:
        return Storage("folder", self._workspace, reflink=await asyncio.to_thread(reflinks, self._workspace))

    async def usage(self) -> DiskUsage:
        return await asyncio.to_thread(usage_of, self._workspace)

    async def close(self) -> None:
        """Nothing to close: drivers outlive the engine object on purpose."""

    def _own(self, tree: Path, attempt: str, run_dir: Path) -> Path:
        """The tree's real path. Raises Foreign unless it is plainly this attempt's: the record may be forged."""
        real, run = tree.parent.resolve() / tree.name, run_dir.resolve()
        inside = real.is_relative_to(self._workspace) and attempt in real.relative_to(self._workspace).parts
        if not inside or run.is_relative_to(real):
            raise Foreign(f"{tree} is not a place for the copy of attempt {attempt}")
        return real

    def _existing(self, attempt: str, run_dir: Path) -> Handle | None:
        """The attempt as it is: also one whose driver was started by a runner that died before writing it down."""
        record = read_record(run_dir)
        if record is None or record.attempt != attempt:
            return None
        if not record.pid:
            pid = _find_driver(run_dir, [p for p, mark in procs.marked().items() if mark == attempt])
            if pid is None:
                return record.handle("created")
            record = started(record, pid)
            write_record(record)
        return record.handle("running" if record.alive else "ended")

    async def _lock_all(self, spec: LaunchSpec) -> list[int]:
        """Lock each GPU, or else each CPU, so that overlapping sets exclude each other; without either, the name."""
        cpus = cpu_ids(spec.cpuset) if spec.cpuset and not spec.gpus else ()
        names = sorted({f"isobench-gpu-{gpu}" for gpu in spec.gpus} | {f"isobench-cpu-{cpu}" for cpu in cpus})
        names = names or [spec.name]
        fds: list[int] = []
        try:
            for name in names:
                fds.append(await self._lock(spec, name))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    async def _lock(self, spec: LaunchSpec, name: str) -> int:
        try:
            return hostlock.acquire(self._locks, name, spec.workspace, spec.attempt)
        except NameTaken as taken:
            holder = hostlock.holder(self._locks, name).get("attempt", "")
            if taken.owner != spec.workspace or not holder or await asyncio.to_thread(_has_driver, holder):
                raise
            await self._kill(holder)  # our own dead attempt: only what its driver left holds the lock
            return hostlock.acquire(self._locks, name, spec.workspace, spec.attempt)

    async def _copy(self, source: Path, tree: Path) -> None:
        if not await asyncio.to_thread(source.is_dir):
            raise ImageMissing(f"{source}: no such folder")
        await _whole(_delete, tree)  # half a copy of a runner that died
        await _whole(lambda: tree.parent.mkdir(mode=0o700, parents=True, exist_ok=True))
        for how in (["--reflink=auto"], []):
            copying = await asyncio.create_subprocess_exec(
                "cp",
                "-a",
                *how,
                f"{source}/.",
                str(tree),
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                said = (await copying.communicate())[1].decode(errors="replace").strip()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    copying.kill()
                await copying.wait()
                raise
            if copying.returncode == 0:
                return
            if "No space left on device" in said:
                raise DiskFull(f"copying {source}: {said.splitlines()[0]}")
            if "reflink" not in said:
                break
        raise EngineError(f"copying {source}: {said}")

    def _spawn(self, spec: LaunchSpec, record: Record, fds: list[int]) -> Record:
        env = {name: os.environ[name] for name in _PASSED if name in os.environ}
        env[procs.MARK] = spec.attempt
        if spec.gpus:
            # CUDA's own order is by speed; ours is the PCI bus's, as nvidia-smi and NVML count
            env.update(CUDA_VISIBLE_DEVICES=",".join(spec.gpus), CUDA_DEVICE_ORDER="PCI_BUS_ID")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        log = os.open(spec.run_dir / DRIVER_LOG, flags, 0o600)
        kept = [*fds, procs.mark_file(spec.attempt)]
        env["ISOBENCH_KEEP_FDS"] = ",".join(map(str, kept))
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", "-u", str(DRIVER), str(Path(record.run_dir) / JOB_FILE)],
                cwd=record.tree,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=kept,
            )
        except OSError as error:
            raise EngineError(f"the driver cannot be started: {error}") from error
        finally:
            os.close(log)
            os.close(kept[-1])
        if spec.cpuset:
            # right after the spawn, long before the driver has children, which inherit it
            try:
                os.sched_setaffinity(child.pid, cpu_ids(spec.cpuset))
            except ProcessLookupError:
                pass
            except OSError as error:
                child.kill()
                raise EngineError(f"CPUs {spec.cpuset}: {error}") from error
        record = started(record, child.pid)
        self._children[record.handle_id] = child
        write_record(record)
        return record

    async def _gone(self, handle: Handle) -> None:
        """Return once the driver runs no more."""
        loop = asyncio.get_running_loop()
        with _pidfd(handle) as fd:
            if fd is None:
                return
            ended = loop.create_future()
            loop.add_reader(fd, _settle, ended)
            try:
                await ended
            finally:
                loop.remove_reader(fd)

    def _exit(self, handle: Handle) -> Exit:
        child = self._children.get(handle.id)
        if child is not None:
            code = child.wait()
            return Exit(code=code) if code >= 0 else Exit(code=None, signal=-code)
        claimed = claimed_code(handle.run_dir)
        error = "the driver left no `end` event" if claimed is None else ""
        return Exit(code=claimed, claimed=True, error=error)

    async def _kill(self, attempt: str) -> None:
        left = await asyncio.to_thread(procs.kill, attempt)
        if left:
            raise EngineError(f"processes {sorted(left)} of attempt {attempt} cannot be killed")

    def _inspect(self, handle: Handle) -> dict[str, object]:
        record = read_record(handle.run_dir)
        if record is None:
            return {}
        found: dict[str, object] = {"engine": self.kind, "state": "running" if record.alive else "ended"}
        found.update(record.model_dump())
        if record.alive:
            found["argv"] = procs.command(record.pid)
            found["env"] = dict.fromkeys(sorted(procs.environment(record.pid)), "(redacted)")
        elif record.pid:
            end = self._exit(handle)
            found.update(exit_code=end.code, signal=end.signal, claimed=end.claimed)
        return found

    def _adopt(self, workspace: str, runs: Path) -> list[Handle]:
        found: dict[str, Handle] = {}
        for path in sorted(runs.glob(f"*/{RECORD}")):
            record = read_record(path.parent)
            if record is None or record.workspace != workspace or record.attempt != path.parent.name:
                continue
            if record.run_dir != str(path.parent.resolve()):  # a copy of a workspace: the original's processes
                continue
            handle = self._existing(record.attempt, path.parent)
            if handle is not None:
                found[record.attempt] = handle
        for pid, attempt in procs.marked().items():  # a driver whose record is gone
            run_dir = (runs / attempt).resolve()
            if attempt in found or run_dir.parent != runs.resolve() or read_record(run_dir) is not None:
                continue
            if _find_driver(run_dir, [pid]):
                record = Record(attempt=attempt, name="", workspace=workspace, run_dir=str(run_dir), tree="")
                found[attempt] = started(record, pid).handle("running")
        return list(found.values())


async def _whole(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work` in a thread; who is cancelled meanwhile leaves when it is done, because a thread would go on unseen."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


@contextlib.contextmanager
def _pidfd(handle: Handle) -> Iterator[int | None]:
    """A pidfd of the driver; None if it runs no more."""
    pid, since, boot = handle.id.split(":", 2)
    fd = None
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(int(pid)) if int(pid) > 0 and boot == procs.boot_id() else None
    try:
        # Compared after the open: from then on the pidfd cannot come to mean another process.
        yield fd if fd is not None and procs.is_attempts(int(pid), int(since), handle.attempt) else None
    finally:
        if fd is not None:
            os.close(fd)


def _find_driver(run_dir: Path, pids: list[int]) -> int | None:
    """The oldest of these processes that is a driver at work in `run_dir`."""
    job = str(run_dir.resolve() / JOB_FILE)
    drivers = [pid for pid in pids if str(DRIVER) in (argv := procs.command(pid)) and argv[-1] == job]
    return min(drivers, key=lambda pid: procs.start_time(pid) or 0, default=None)


def _has_driver(attempt: str) -> bool:
    return any(str(DRIVER) in procs.command(pid) for pid, mark in procs.marked().items() if mark == attempt)


def _delete(tree: Path) -> None:
    """Remove a folder that measured code wrote, whatever permissions it left. Raises EngineError."""
    if tree.is_symlink() or tree.is_file():
        tree.unlink()
    shutil.rmtree(tree, ignore_errors=True)
    if tree.exists():
        for folder, _, _ in os.walk(tree):
            Path(folder).chmod(0o700)
        try:
            shutil.rmtree(tree)
        except OSError as error:
            raise EngineError(f"{tree} cannot be removed: {error}") from error
