"""Create and start one container, from a thread that cannot be cancelled and therefore cleans up after itself."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isobench_tui.campaign.models import cpu_ids
from isobench_tui.engine import hostlock
from isobench_tui.engine.base import EngineError, EngineUnreachable, Handle, HandleState, LaunchSpec, NameTaken
from isobench_tui.engine.docker_api import Api, translate
from isobench_tui.engine.job import JOB_FILE, PATCH_FILE

if TYPE_CHECKING:
    from docker.types import HostConfig, Mount

WORKSPACE_LABEL = "isobench.workspace"
ATTEMPT_LABEL = "isobench.attempt"
RUNDIR_LABEL = "isobench.rundir"
GPUS_LABEL = "isobench.gpus"
CPUS_LABEL = "isobench.cpus"

ENTRYPOINT = ["python3", "-u", "/isobench/driver.py", f"/isobench/{JOB_FILE}"]

CAPABILITIES = [
    "DAC_OVERRIDE",  # the run directory is 0700 and the operator's: root inside could not write into it
    "CHOWN",  # the driver gives what it and its children made there back to the operator
]

ULIMITS = {
    "memlock": -1,  # pinned host memory of CUDA and NCCL
    "stack": 64 << 20,
}
"""Bytes; -1: no limit."""

_RLIMIT = re.compile(r"error setting rlimit type (\d+)")
_RLIMIT_NAMES = {"3": "stack", "8": "memlock"}
"""Numbers of Linux's RLIMIT_STACK and RLIMIT_MEMLOCK, as runc's message has them."""

_STATES: dict[str, HandleState] = {
    "created": "created",
    "running": "running",
    "paused": "running",
    "restarting": "running",
}


def _claims(gpus: str, cpus: str) -> frozenset[str]:
    """What a container keeps for itself: its GPUs, or its CPUs where it has no GPU."""
    if gpus:
        return frozenset(f"GPU {gpu}" for gpu in gpus.split(","))
    return frozenset(f"CPU {cpu}" for cpu in cpu_ids(cpus)) if cpus else frozenset()


def state_of(status: str) -> HandleState:
    """Our word for the engine's container state (`created running paused restarting removing exited dead`)."""
    return _STATES.get(status, "ended")


def labels_of(spec: LaunchSpec) -> dict[str, str]:
    """The labels by which a container is found again: workspace, attempt, run directory (real path)."""
    own = {
        WORKSPACE_LABEL: spec.workspace,
        ATTEMPT_LABEL: spec.attempt,
        RUNDIR_LABEL: os.path.realpath(spec.run_dir),
        GPUS_LABEL: ",".join(spec.gpus),
        CPUS_LABEL: spec.cpuset or "",
    }
    return {**spec.labels, **own}


def _mounts(spec: LaunchSpec, driver: Path) -> list[Mount]:
    from docker.types import Mount

    run = Path(os.path.realpath(spec.run_dir))
    wanted = [
        (driver, "/isobench/driver.py", True),
        (run / JOB_FILE, f"/isobench/{JOB_FILE}", True),
        (run, "/isobench/run", False),
    ]
    if (run / PATCH_FILE).exists():
        wanted.append((run / PATCH_FILE, f"/isobench/{PATCH_FILE}", True))
    wanted += [(mount.source, mount.target, mount.read_only) for mount in spec.mounts]
    # Mounts, not volumes: the engine refuses a missing source instead of making an empty folder there.
    return [Mount(target, os.path.realpath(source), type="bind", read_only=ro) for source, target, ro in wanted]


def host_config(client: Any, spec: LaunchSpec, driver: Path, ulimits: Mapping[str, int]) -> HostConfig:
    """The engine's HostConfig: mounts, limits, devices and privileges."""
    from docker.types import DeviceRequest, LogConfig, Ulimit

    gpus = [DeviceRequest(device_ids=list(spec.gpus), capabilities=[["gpu"]])] if spec.gpus else None
    config: HostConfig = client.create_host_config(
        mounts=_mounts(spec, driver),
        network_mode=spec.network,
        init=True,
        cap_drop=["ALL"],
        cap_add=CAPABILITIES,
        security_opt=["no-new-privileges"],
        log_config=LogConfig(type="local", config={"max-size": "100m"}),
        device_requests=gpus,
        shm_size=spec.shm_size,
        mem_limit=spec.memory,
        # Equal to the memory limit: no swap, which would slow the measurement instead of ending it.
        memswap_limit=spec.memory,
        pids_limit=spec.pids,
        cpuset_cpus=spec.cpuset,
        ulimits=[Ulimit(name=name, soft=value, hard=value) for name, value in ulimits.items()],
    )
    return config


class Launch:
    """One launch of one attempt. `run` works in a thread; `abandon` may be called from any other at any time.

    An abandoned launch leaves no container, also where the engine makes one minutes later: whoever notices last
    removes it.
    """

    def __init__(
        self,
        api: Api,
        spec: LaunchSpec,
        *,
        driver: Path,
        ulimits: dict[str, int],
        timeout: float,
        reap_for: float,
    ) -> None:
        """`ulimits` loses what the engine turns out not to allow."""
        self._api = api
        self._spec = spec
        self._driver = driver
        self._timeout = timeout
        self._reap_for = reap_for
        self._lock = threading.Lock()
        self._abandoned = False
        self._finished = False
        self._ulimits = ulimits
        self._asked_limits: dict[str, int] = {}
        self._refused: set[str] = set()
        """Containers that cannot start. Where one cannot be removed at once either, the engine calls it dead."""
        self._asked = False  # a create was sent: from here on a container may appear
        self.over = threading.Event()
        """`run` has returned: the engine works on no call of this launch any more."""

    @property
    def attempt(self) -> str:
        return self._spec.attempt

    def run(self) -> Handle:
        """Create and start. Raises EngineError; NameTaken where somebody else holds the name."""
        try:
            return self._run()
        finally:
            self.over.set()

    def _run(self) -> Handle:
        try:
            handle = self._ensure()
        except BaseException as error:
            self._abandoned = True
            mapped = translate("starting the container", error)
            if self._asked and isinstance(mapped, EngineUnreachable):
                self._in_background(self._reap)
            if mapped is error:
                raise
            raise mapped from error
        with self._lock:
            self._finished = not self._abandoned
        if not self._finished:
            self._reap()
            raise EngineError("the launch was given up")
        return handle

    def abandon(self) -> None:
        """Give the launch up: what it made, or is about to make, is removed. Returns at once."""
        with self._lock:
            self._abandoned = True
            finished = self._finished
        if finished:
            self._in_background(self._reap)

    def _ensure(self) -> Handle:
        client = self._api.client(self._timeout)
        deadline = time.monotonic() + self._timeout
        while True:
            found = self._holder()
            if found is None:
                container = self._create(client)
                started = container is not None and self._start(client, container)
                if started:
                    return started
            elif found.id in self._refused:
                self._discard(found.id)
            elif found.state == "created":
                started = self._start(client, found.id)
                if started:
                    return started
            elif found.state != "ended" or not self._removing(found.id):
                return found
            if self._abandoned or time.monotonic() > deadline:
                raise EngineUnreachable(
                    f"starting the container: the name {self._spec.name} stays between create and remove "
                    f"for {self._timeout:g} s"
                )
            time.sleep(0.2)

    def _create(self, client: Any) -> str | None:
        """Container id; None where the name is taken, which the caller looks into. Raises NameTaken on an overlap."""
        spec = self._spec
        claims = _claims(",".join(spec.gpus), spec.cpuset or "")
        self._asked = True
        # The name excludes equal sets; for overlapping ones look and create must be one step on this host.
        guard = hostlock.waiting(hostlock.LOCKS, "isobench-docker") if claims else contextlib.nullcontext()
        with guard:
            self._check_overlap(client, claims)
            return self._create_named(client)

    def _check_overlap(self, client: Any, claims: frozenset[str]) -> None:
        for info in client.containers(all=True, filters={"label": ATTEMPT_LABEL}) if claims else ():
            labels: Mapping[str, str] = info["Labels"]
            name = str((info["Names"] or ["?"])[0]).lstrip("/")
            shared = claims & _claims(labels.get(GPUS_LABEL, ""), labels.get(CPUS_LABEL, ""))
            if shared and name != self._spec.name and state_of(info["State"]) != "ended":
                raise NameTaken(
                    f"container {name} has {', '.join(sorted(shared))}",
                    name=name,
                    owner=labels.get(WORKSPACE_LABEL, "someone else"),
                )

    def _create_named(self, client: Any) -> str | None:
        import docker.errors

        spec, wants = self._spec, self._spec.image.config
        self._asked_limits = dict(self._ulimits)
        try:
            made = client.create_container(
                # Without a configuration of its own the engine's image is named otherwise than what it stands for.
                spec.image.pinned if wants is None else spec.image.id,
                name=spec.name,
                entrypoint=ENTRYPOINT,
                user="0:0",
                labels=labels_of(spec) if wants is None else {**wants.labels, **labels_of(spec)},
                environment=None if wants is None else list(wants.env),
                working_dir=None if wants is None else wants.workdir or None,
                volumes=None if wants is None else list(wants.volumes),
                host_config=host_config(client, spec, self._driver, self._asked_limits),
                # An image's own health check would run beside the measurement; its own stop signal may not stop us.
                healthcheck={"test": ["NONE"]},
                stop_signal="SIGTERM",
            )
        except docker.errors.APIError as error:
            if error.status_code == 409:
                return None
            raise
        return str(made["Id"])

    def _start(self, client: Any, container: str) -> Handle | None:
        """None where a new container has to be made, because this one asks for too high a limit."""
        import docker.errors

        if not self._abandoned:
            try:
                client.start(container)
            except docker.errors.APIError as error:
                # A container that cannot start would hold the name; the error says all there is to know of it.
                self._refused.add(container)
                self._discard(container)
                if self._lowered(str(error.explanation)):
                    return None
                raise
        return self._handle(container, "running")

    def _discard(self, container: str) -> None:
        with contextlib.suppress(Exception):  # what made this necessary says more
            self._remove(container)

    def _lowered(self, message: str) -> bool:
        """Ask no more for a limit that the engine may not raise (it lacks CAP_SYS_RESOURCE); inspect shows which."""
        found = _RLIMIT.search(message)
        name = _RLIMIT_NAMES.get(found[1]) if found else None
        if name is None or name not in self._asked_limits:
            return False
        self._ulimits.pop(name, None)  # another lane's launch may have learned it at the same moment
        return True

    def _handle(self, container: str, state: HandleState) -> Handle:
        spec = self._spec
        return Handle(spec.attempt, spec.name, container, Path(os.path.realpath(spec.run_dir)), state)

    def _inspect(self) -> Mapping[str, Any] | None:
        import docker.errors

        try:
            return self._api.client(60.0).inspect_container(self._spec.name)  # type: ignore[no-any-return]
        except docker.errors.NotFound:
            return None

    def _removing(self, container: str) -> bool:
        info = self._inspect()
        return info is None or (info["Id"] == container and info["State"]["Status"] == "removing")

    def _holder(self) -> Handle | None:
        """The attempt's own container if it is there. None: the name is free, or held by a create still going on."""
        info = self._inspect()
        if info is None:
            return None
        labels: Mapping[str, str] = info["Config"].get("Labels") or {}
        state = state_of(info["State"]["Status"])
        owner = labels.get(WORKSPACE_LABEL)
        if owner == self._spec.workspace and labels.get(ATTEMPT_LABEL) == self._spec.attempt:
            return self._handle(info["Id"], state)
        if owner != self._spec.workspace or state == "running":
            whose = f"attempt {labels.get(ATTEMPT_LABEL)} of workspace {owner}" if owner else "someone else"
            raise NameTaken(
                f"container {self._spec.name} ({info['Id'][:12]}, {info['State']['Status']}) belongs to {whose}",
                name=self._spec.name,
                owner=owner or "someone else",
            )
        self._remove(info["Id"])
        return None

    def _remove(self, container: str) -> None:
        import docker.errors

        try:
            self._api.client(self._timeout).remove_container(container, force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:  # its removal is already in progress
                raise

    def _in_background(self, work: Any) -> None:
        threading.Thread(target=work, name=f"docker: reap {self._spec.name}", daemon=True).start()

    def _reap(self) -> None:
        """Remove the attempt's container as soon as it appears; end when it cannot appear any more."""
        deadline = time.monotonic() + self._reap_for
        pause = 0.1
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # an engine that does not answer is asked again
                info = self._inspect()
                if info is not None:
                    if (info["Config"].get("Labels") or {}).get(ATTEMPT_LABEL) == self._spec.attempt:
                        self._remove(info["Id"])
                    return
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
