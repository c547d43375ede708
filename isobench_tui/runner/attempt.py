"""One attempt from preflight to cleanup: the phases on the host, and following the driver through its own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from isobench_tui.campaign.models import JobSpec, Lane, Settings
from isobench_tui.engine.base import DiskFull, EngineError, Exit, Handle, ImageInfo, NameTaken
from isobench_tui.engine.job import JOB_FILE, PATCH_FILE
from isobench_tui.runner import blocks, breaker, collect, deadline, faults, jobfile, keep, models, preflight, room
from isobench_tui.runner.follow import Follower
from isobench_tui.runner.monitors import gate
from isobench_tui.runner.monitors.window import GpuWindow
from isobench_tui.runner.pulls import PullReporter
from isobench_tui.runner.services import Services
from isobench_tui.store import attempts, db, events, live
from isobench_tui.store.attempts import Ending
from isobench_tui.store.clock import now
from isobench_tui.store.rejudge import rejudge
from isobench_tui.store.rundir import RunDir

T = TypeVar("T")

NAME_POLL_S = 2.0
"""How often a lane looks whether another workspace has released its GPUs."""


class Stopped(Exception):
    """The operator asked for this attempt's end."""


class PhaseTimeout(Exception):
    """A phase missed its deadline."""

    def __init__(self, phase: str, seconds: float) -> None:
        super().__init__(f"{phase} took longer than its deadline of {seconds:g} s")
        self.phase = phase


@dataclass(frozen=True, slots=True)
class Order:
    """A job that was given an attempt."""

    attempt: str
    job: str
    task: int
    spec: JobSpec
    settings: Settings
    lane: int
    patch: bytes | None

    @property
    def own_lane(self) -> Lane:
        return self.settings.lanes[self.lane] if self.lane < len(self.settings.lanes) else self.settings.lanes[0]


@dataclass(slots=True)
class Attempt:
    """Runs, or takes over, one attempt. `run` and `adopt` return when nothing of it is left on the engine."""

    services: Services
    order: Order
    on_engine_trouble: Callable[[EngineError], Awaitable[None]]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a command asked for its end."""
    handle: Handle | None = None
    ending: Ending | None = None
    _facts: collect.HostFacts = field(default_factory=collect.HostFacts)

    @property
    def id(self) -> str:
        return self.order.attempt

    @property
    def run_dir(self) -> RunDir:
        return RunDir(self.services.workspace.run_dir(self.id))

    async def run(self) -> Ending:
        """A fresh attempt."""
        facts = self._facts
        try:
            image = await self._phase("preflight", self._preflight)
            image = await self._phase("image", lambda: self._image(image))
            if models.concerned(self.order.spec, self.order.settings):
                await self._phase("model", lambda: models.prepare(self.services, self.order))
            await self._gate()
            self.handle = await self._start(image)
            facts.exit = await self._follow(self.handle, facts)
        except Exception as error:  # whatever happened, the attempt ends with a diagnosis
            collect.note(facts, error, launched=self.handle is not None)
        return await self._end(facts)

    async def adopt(self, handle: Handle | None, *, finished: Exit | None = None) -> Ending:
        """An attempt that another runner began: follow it to its end, collect it, or call it interrupted."""
        facts = self._facts
        self.handle = handle
        try:
            if handle is not None and handle.state != "created":
                await self.services.writer.run(_adopted, self.id, handle.id)
                facts.exit = await self._follow(handle, facts)
            elif finished is not None:
                facts.exit = finished
            else:
                facts.interrupted = "the runner died before the container ran"
        except Exception as error:  # see run
            collect.note(facts, error, launched=self.handle is not None)
        return await self._end(facts)

    async def cleanup(self) -> None:
        """Stop, remove, forget - until the engine has done it, however long that takes."""
        settings = self.order.settings
        await self.services.writer.run(attempts.start_phase, self.id, "cleanup", settings.timeouts.cleanup, now())
        tries = 0
        while True:
            try:
                async with deadline.under(settings.timeouts.cleanup):
                    await faults.point("cleanup")
                    await self._remove_all()
                    await self._memory_back()
                    await keep.evict(self.services, settings.keep_images)
                break
            except (EngineError, TimeoutError) as error:
                trouble = error if isinstance(error, EngineError) else EngineError(f"cleanup of {self.id} timed out")
                await self.services.writer.run(
                    attempts.end_phase,
                    self.id,
                    "cleanup",
                    "timed_out" if trouble is not error else "failed",
                    str(trouble),
                )
                await self.on_engine_trouble(trouble)
                await asyncio.sleep(min(60, 2**tries))
                tries += 1
        if self.handle is not None:
            self.services.gpus.owners.containers.pop(self.handle.id, None)
        await faults.point("removed")
        await self.services.writer.run(_closed, self.id)
        if tries:
            await self.services.writer.run(breaker.due, EngineError.failure)

    async def _preflight(self) -> ImageInfo:
        order = self.order
        await asyncio.to_thread(preflight.check, order.spec, order.settings, order.patch)
        await self._gpus_free()
        image = await self.services.engine.resolve(order.spec.image)
        await blocks.arrange(self.services, order, image)
        image, self._facts.wants = await room.ensure(self.services, order, image, self._extend)
        return image

    async def _gpus_free(self) -> None:
        """See the lane's GPUs free, or say why they cannot be seen. Raises GpuBusy, which pauses the queue."""
        gpus = self.order.own_lane.gpus
        if not gpus:
            return
        _, unseen = await gate.look(self.services.gpus, gpus)
        if unseen:
            await self.services.writer.run(gate.say_once, unseen)
        limit = min(gate.BEFORE_S, self.order.settings.timeouts.preflight / 2)
        await gate.wait_free(self.services.gpus, gpus, limit, self._tell_wait)

    async def _memory_back(self) -> None:
        """See the GPUs' memory back. Raises GpuBusy where the attempt has it; anybody else pauses the queue."""
        gpus = self.order.own_lane.gpus
        try:
            await gate.wait_free(self.services.gpus, gpus, gate.AFTER_S, self._tell_wait)
        except gate.GpuBusy as error:
            if await gate.held_by(self.services.gpus, gpus, self.id):
                raise
            await self.on_engine_trouble(error)

    async def _tell_wait(self, text: str) -> None:
        await self.services.writer.run(_wait_event, self.id, text)

    async def _image(self, image: ImageInfo) -> ImageInfo:
        brought_by, layers = None, keep.layers_text(image.layers)
        if not image.present:
            reporter = PullReporter(self.services.writer, self.id, image.ref)
            async with reporter:
                image, first = await self.services.pulls.fetch(self.services.engine, image, reporter.update)
            brought_by = self.id if first else None
            if first and image.note:
                await self.services.writer.run(events.add, "image", image.note, attempt=self.id)
        await self.services.writer.run(
            attempts.seen_image, image.ref, image.pinned, image.digest, image.id, image.size, brought_by, layers
        )
        await self.services.writer.run(attempts.update, self.id, image_digest=image.digest, image_id=image.id)
        return image

    async def _gate(self) -> None:
        """While the queue is paused nothing new passes `start`; the image that was fetched is kept."""
        if await self.services.writer.run(_paused, self.id):
            raise Stopped

    async def _start(self, image: ImageInfo) -> Handle:
        order, workspace = self.order, self.services.workspace
        tree = workspace.trees / self.id if order.settings.engine == "process" else None
        job = jobfile.build(self.id, order.spec, order.settings, self.run_dir.path, tree)
        self.run_dir.create(jobfile.files(job))
        self.run_dir.write(JOB_FILE, job.model_dump_json(indent=1).encode())
        if order.patch is not None:
            self.run_dir.write(PATCH_FILE, order.patch)
        await faults.point("run-dir")
        spec = jobfile.launch_spec(self.services, self.id, order.spec, order.settings, order.own_lane, image, tree)

        async def launch() -> Handle:
            told = False
            while True:
                try:
                    return await self.services.engine.launch(spec)
                except NameTaken as taken:
                    if not told:
                        await self._tell_wait(f"waiting for {taken.name}, held by {taken.owner}")
                        told = True
                    self._extend(NAME_POLL_S + order.settings.timeouts.start)
                    await asyncio.sleep(NAME_POLL_S)
                    await self._gate()

        handle = await self._phase("start", launch)
        await faults.point("launched")
        await self.services.writer.run(attempts.update, self.id, handle=handle.id)
        self.services.promised.pop(self.id, None)
        return handle

    async def _follow(self, handle: Handle, facts: collect.HostFacts) -> Exit:
        follower = Follower(self.services, self.order, self.run_dir, handle)
        following = asyncio.create_task(follower.run())
        self.services.gpus.owners.containers[handle.id] = self.id
        window = GpuWindow(self.services.gpus, self.id, self.order.own_lane.gpus)
        watching = asyncio.create_task(window.run(lambda: follower.phase == "measure"))
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                missed = follower.missed
                if missed is not None:
                    raise PhaseTimeout(*missed)
                return following.result()
            raise Stopped
        finally:
            facts.starved = follower.starved
            await _cancel(following)
            await _cancel(stopping)
            await _cancel(watching)
            facts.machine = window.facts()

    async def _end(self, facts: collect.HostFacts) -> Ending:
        """Stop what runs, collect what came out, write it, clean up."""
        self.services.promised.pop(self.id, None)
        settings = self.order.settings
        if self.handle is not None and facts.exit is None:
            facts.exit = await self._stop_driver(self.handle)
        await self.services.writer.run(attempts.start_phase, self.id, "collect", settings.timeouts.collect, now())
        try:
            async with deadline.under(settings.timeouts.collect):
                await faults.point("collect")
                ending = await collect.gather(self.services, self.order, self.run_dir, self.handle, facts)
        except TimeoutError:
            facts.timeout = ("collect", str(PhaseTimeout("collect", settings.timeouts.collect)))
            ending = collect.without_files(facts)
        ending = await self.services.writer.durable(_finish, self.order, ending, facts)
        self.ending = ending
        await faults.point("collected")
        await self.cleanup()
        return ending

    async def _stop_driver(self, handle: Handle) -> Exit | None:
        try:
            return await self.services.engine.stop(handle, self.order.settings.timeouts.grace)
        except EngineError as error:
            await self.on_engine_trouble(error)
            return None

    async def _remove_all(self) -> None:
        """What was launched; where no launch was seen to end, whatever the engine holds of this attempt."""
        engine, workspace = self.services.engine, self.services.workspace
        if self.handle is not None:
            await engine.remove(self.handle)
            return
        await engine.settled(self.id)
        for handle in await engine.adopt(self.services.uuid, workspace.runs):
            if handle.attempt == self.id:
                await engine.remove(handle)

    _deadline: deadline.Deadline | None = None

    def _extend(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.extend(seconds)

    async def _phase(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run one phase on the host under its deadline. Raises Stopped, PhaseTimeout or what the work raises."""
        seconds = float(getattr(self.order.settings.timeouts, name))
        await self.services.writer.run(attempts.start_phase, self.id, name, seconds, now())
        working = asyncio.ensure_future(_after(faults.point(name), work))
        stopping = asyncio.create_task(self.stop.wait())
        outcome, detail = "cancelled", ""
        waited = self.services.writer.waited
        try:
            with contextlib.suppress(TimeoutError):
                async with deadline.under(seconds) as self._deadline:
                    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                result = working.result()
                outcome = "ok"
                return result
            if self.stop.is_set():
                raise Stopped
            if self.services.writer.waited > waited:
                raise DiskFull(f"{self.services.workspace.root} was full for too long a part of the phase {name}")
            outcome = "timed_out"
            raise PhaseTimeout(name, seconds)
        except (Stopped, PhaseTimeout):
            raise
        except Exception as error:
            outcome, detail = "failed", str(error)
            raise
        finally:
            self._deadline = None
            await _cancel(working)
            await _cancel(stopping)
            await self.services.writer.run(attempts.end_phase, self.id, name, outcome, detail)


async def _after(first: Awaitable[None], then: Callable[[], Awaitable[T]]) -> T:
    await first
    return await then()


async def _cancel(task: asyncio.Future[T]) -> None:
    """Cancel and forget; what it would have raised is no longer of interest."""
    if task.done():
        if not task.cancelled():
            task.exception()
        return
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def _paused(connection: sqlite3.Connection, attempt: str) -> bool:
    if db.meta(connection, "pause") is not None:
        held = True
    else:
        row = connection.execute(
            "SELECT c.paused FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN campaigns c ON c.id = j.campaign_id "
            "WHERE a.id = ?",
            (attempt,),
        ).fetchone()
        held = row["paused"] is not None
    if held:
        connection.execute("UPDATE attempts SET stop = coalesce(stop, 'pause') WHERE id = ?", (attempt,))
    return held


def _wait_event(connection: sqlite3.Connection, attempt: str, text: str) -> None:
    events.add(connection, "waiting", f"{attempt} {text}", attempt=attempt)
    found = live.get(connection, f"phase/{attempt}")
    if found is not None:
        live.put(connection, f"phase/{attempt}", live.LivePhase(**{**found[1], "detail": text}), attempt)


def _finish(connection: sqlite3.Connection, order: Order, ending: Ending, facts: collect.HostFacts) -> Ending:
    """Decide inside the transaction, with the job's own counters and the newest wish of the operator."""
    ending = collect.decide(connection, order.attempt, ending, order.spec.max_attempts)
    late = facts.timeout is not None and facts.timeout[0] == "collect"
    attempts.end_phase(connection, order.attempt, "collect", "timed_out" if late else "ok")
    attempts.finish(connection, order.attempt, ending)
    rejudge(connection, order.task)
    collect.pause_queue(connection, order, ending, facts)
    return ending


def _adopted(connection: sqlite3.Connection, attempt: str, handle: str) -> None:
    """What the runner that died in `start` did not come to write."""
    attempts.end_phase(connection, attempt, "start", "ok")
    attempts.update(connection, attempt, handle=handle)


def _closed(connection: sqlite3.Connection, attempt: str) -> None:
    attempts.end_phase(connection, attempt, "cleanup", "ok")
    attempts.close(connection, attempt)
