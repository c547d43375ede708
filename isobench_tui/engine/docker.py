"""The docker engine: containers on this host's Docker, through the official SDK."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isobench_tui.engine.base import (
    DiskUsage,
    EngineError,
    EngineUnreachable,
    Exit,
    Handle,
    ImageInfo,
    LaunchSpec,
    PullProgress,
    Storage,
)
from isobench_tui.engine.docker_api import Api, translate
from isobench_tui.engine.docker_launch import ATTEMPT_LABEL, RUNDIR_LABEL, ULIMITS, WORKSPACE_LABEL, Launch, state_of
from isobench_tui.engine.images.images import Flatten, Images
from isobench_tui.engine.job import DRIVER
from isobench_tui.engine.storage import usage_of

if TYPE_CHECKING:
    from docker import APIClient

_PAUSE = 0.2
_NEVER = "0001-01-01"
"""How the engine writes a time that there was none of."""
"""Seconds between two questions to an engine that answered, but not what we wait for."""


class DockerEngine:
    """Engine on a local Docker socket. All times are in seconds.

    `quick` limits calls that answer at once, `create_timeout` create and start (vfs copies the image twice), `remove`
    what deletes files. `poll` is how often `wait` asks in case the engine forgot to tell, `patience` how long `wait`
    bears with an engine that is gone, `reap_for` how long an abandoned create is awaited to remove what it makes.
    `flatten`: make images one layer where the storage driver copies layers; None: never.
    Raises EngineError for a remote engine.
    """

    kind: Literal["docker"] = "docker"

    def __init__(
        self,
        base_url: str | None = None,
        *,
        driver: Path = DRIVER,
        quick: float = 60.0,
        create_timeout: float = 600.0,
        remove_timeout: float = 600.0,
        poll: float = 30.0,
        patience: float = 600.0,
        reap_for: float = 1800.0,
        backoff: float = 1.0,
        flatten: Flatten | None = None,
    ) -> None:
        self._api = Api(base_url)
        self._driver = driver
        self._quick = quick
        self._create_timeout = create_timeout
        self._remove_timeout = remove_timeout
        self._poll = poll
        self._patience = patience
        self._reap_for = reap_for
        self._images = Images(self._api, quick=quick, remove_timeout=remove_timeout, backoff=backoff, flatten=flatten)
        self._ulimits = dict(ULIMITS)
        self._abandoned: list[Launch] = []

    async def check(self) -> str:
        """`docker VERSION STORAGE-DRIVER DATA-ROOT`. Raises EngineUnreachable."""
        info = await self._api.info(self._quick)
        return f"docker {info.get('ServerVersion')} {info.get('Driver')} {info.get('DockerRootDir')}"

    async def resolve(self, ref: str) -> ImageInfo:
        """Pin a reference: what is here under that name, else what the registry has under it now.

        Raises ImageMissing, PullFailed (the registry does not answer), EngineUnreachable.
        """
        return await self._images.resolve(ref)

    async def fetch(self, image: ImageInfo, on_progress: Callable[[PullProgress], None]) -> ImageInfo:
        """Pull the pinned digest and give it the name that the campaign uses.

        Raises ImageMissing, PullFailed, DiskFull, EngineUnreachable.
        """
        return await self._images.fetch(image, on_progress)

    async def launch(self, spec: LaunchSpec) -> Handle:
        """Create and start the attempt's container, or find it where it already exists.

        Raises NameTaken, ImageMissing, GpuUnavailable, DiskFull, EngineUnreachable. If the task is
        cancelled or the engine is late, what was made is removed, also when it appears later.
        """
        launch = Launch(
            self._api,
            spec,
            driver=self._driver,
            ulimits=self._ulimits,
            timeout=self._create_timeout,
            reap_for=self._reap_for,
        )
        try:
            return await self._api.thread("starting the container", launch.run, self._create_timeout)
        except (EngineUnreachable, asyncio.CancelledError):
            launch.abandon()
            self._abandoned.append(launch)
            raise

    async def settled(self, attempt: str) -> None:
        """Return when no launch of the attempt that was cancelled is still on its way in the engine."""
        while any(launch.attempt == attempt for launch in self._abandoned):
            self._abandoned = [launch for launch in self._abandoned if not launch.over.is_set()]
            await asyncio.sleep(_PAUSE)

    async def wait(self, handle: Handle) -> Exit:
        """Return when the container has ended, however long that takes; survives a restart of the engine.

        Raises EngineError (mostly EngineUnreachable) once there was no usable answer for `patience` seconds.
        """
        loop = asyncio.get_running_loop()
        answered = loop.time()
        waited = away = False
        while True:
            try:
                ended = _exit(await self._container(handle))
                if ended is not None:
                    return replace(ended, engine_away=away)
                answered = loop.time()
                if waited:  # a container that never started answers at once, each time
                    await asyncio.sleep(_PAUSE)
                await self._until_not_running(handle, self._poll)
                waited = True
            except EngineError:  # an engine that is shutting down answers all kinds of things
                away = True
                if loop.time() - answered > self._patience:
                    raise
                await asyncio.sleep(_PAUSE)

    async def stop(self, handle: Handle, grace: float) -> Exit:
        """SIGTERM to the driver, `grace` seconds (whole ones, rounded up), SIGKILL to the whole container."""
        seconds = math.ceil(grace)
        try:
            await self._command("stopping", lambda c: c.stop(handle.id, timeout=seconds), self._quick + seconds)
        except EngineUnreachable:
            raise
        except EngineError:  # "tried to kill container, but did not receive an exit event"
            await self._command("killing", lambda c: c.kill(handle.id, signal="SIGKILL"), self._quick)
            await self._until_not_running(handle, self._quick)
        info = await self._container(handle)
        ended = _exit(info)
        if ended is None and info is not None and state_of(info["State"]["Status"]) == "created":
            return Exit(None, error="never started")
        if ended is None:
            raise EngineError(f"container {handle.name} runs on after SIGKILL")
        return ended

    async def inspect(self, handle: Handle) -> dict[str, object]:
        """`Id Name Created State Image Config HostConfig Mounts`, env values as `***`; {} if it is gone."""
        info = await self._container(handle)
        if info is None:
            return {}
        config = dict(info["Config"])
        config["Env"] = [f"{item.partition('=')[0]}=***" for item in config.get("Env") or []]
        keep = ("Id", "Name", "Created", "State", "Image", "HostConfig", "Mounts")
        return {**{key: info[key] for key in keep if key in info}, "Config": config}

    async def remove(self, handle: Handle) -> None:
        """Kill and remove the container and its anonymous volumes. Quiet if it is gone or going."""
        await self._command(
            "removing", lambda c: c.remove_container(handle.id, force=True, v=True), self._remove_timeout
        )

    async def adopt(self, workspace: str, runs: Path) -> list[Handle]:
        """Containers labelled with this workspace whose run directory lies directly in `runs`, in any state."""
        filters = {"label": [f"{WORKSPACE_LABEL}={workspace}"]}
        found = await self._api.call("listing", lambda c: c.containers(all=True, filters=filters), self._quick)
        real = await self._api.thread("resolving the runs folder", runs.resolve, self._quick)
        handles = []
        for item in found:
            labels: Mapping[str, str] = item.get("Labels") or {}
            run_dir = Path(labels.get(RUNDIR_LABEL, ""))
            if ATTEMPT_LABEL in labels and run_dir.parent == real:
                name = (item.get("Names") or ["/"])[0].lstrip("/")
                handles.append(Handle(labels[ATTEMPT_LABEL], name, item["Id"], run_dir, state_of(item["State"])))
        return handles

    async def remove_image(self, image: ImageInfo) -> bool:
        """Remove the campaign's name for the image and its digest; layers that others use stay."""
        return await self._images.remove(image)

    async def prune(self, spare: frozenset[str]) -> list[str]:
        """Remove what no container uses, whoever made it; see the protocol."""
        from isobench_tui.engine.prune import prune

        return await self._api.call("pruning", lambda c: prune(c, WORKSPACE_LABEL, spare), self._remove_timeout)

    async def drop_cache(self, needed: frozenset[str]) -> int:
        """Remove layers from the cache of flattened images, but none of these digests; bytes that they held."""
        return await self._images.drop_cache(needed)

    async def storage(self) -> Storage:
        """By which law images and containers take space, and where."""
        return await self._images.storage()

    async def usage(self) -> DiskUsage:
        """statvfs of where the engine keeps images and containers, or of the closest folder above it that is seen."""
        path = (await self.storage()).path
        return await self._api.thread(f"statvfs of {path}", lambda: usage_of(path), self._quick)

    async def close(self) -> None:
        await self._images.close()
        await self._api.close()

    async def _container(self, handle: Handle) -> Mapping[str, Any] | None:
        import docker.errors

        def look(client: APIClient) -> Mapping[str, Any] | None:
            try:
                return client.inspect_container(handle.id)  # type: ignore[no-any-return]
            except docker.errors.NotFound:
                return None

        return await self._api.call(f"inspecting {handle.name}", look, self._quick)

    async def _command(self, doing: str, work: Callable[[APIClient], object], limit: float) -> None:
        """A call whose aim is reached too where the container is gone, going, or not running."""
        import docker.errors

        def run(client: APIClient) -> None:
            try:
                work(client)
            except docker.errors.APIError as error:
                if error.status_code not in {404, 409}:
                    raise

        await self._api.call(f"{doing} the container", run, limit)

    async def _until_not_running(self, handle: Handle, limit: float) -> None:
        """Return when the engine says that the container is not running, or after `limit` seconds."""
        import aiohttp

        url = f"http://docker/containers/{handle.id}/wait"
        try:
            async with (
                asyncio.timeout(limit),
                self._api.session().post(url, params={"condition": "not-running"}) as got,
            ):
                await got.read()
        except TimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise translate("waiting", error) from error


def _exit(info: Mapping[str, Any] | None) -> Exit | None:
    """How the container ended; None while it has not."""
    if info is None:
        return Exit(None, error="the container is gone: somebody removed it")
    state = info["State"]
    if state_of(state["Status"]) != "ended":
        return None
    if str(state.get("StartedAt", "")).startswith(_NEVER):  # it could not start, nor be removed since
        return Exit(None, error="never started")
    code = int(state["ExitCode"])
    # 128 + n: the driver was killed by signal n, or says so itself; init passes both on alike.
    signal = code - 128 if 128 < code <= 128 + 64 else None
    error = str(state.get("Error") or "")
    if code in {126, 127} and not error:  # the init process's own codes; the driver has no such
        error = f"the image cannot run python3 (exit code {code} of the container's init)"
    return Exit(code, signal, bool(state.get("OOMKilled")), error)
