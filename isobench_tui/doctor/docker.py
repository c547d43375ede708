"""The Docker engine as it describes itself: whether it answers, what its restart does, GPUs, what we left there."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isobench_tui.doctor.check import LIMIT_S, Check, fail, ok, warn
from isobench_tui.engine.base import EngineError
from isobench_tui.engine.docker_api import Api, translate
from isobench_tui.engine.docker_launch import ATTEMPT_LABEL, WORKSPACE_LABEL

DAEMON_JSON = "/etc/docker/daemon.json"
SYSTEMD = Path("/run/systemd/system")
MIN_API = (1, 40)
"""Docker 19.03, the first whose API can ask for GPUs (docs.docker.com/engine/api/version-history)."""
HOOK = "nvidia-container-runtime-hook"
"""What dockerd looks for on its PATH to serve a request for GPUs (moby, daemon/nvidia_linux.go)."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine said of itself."""

    socket: str
    info: Mapping[str, Any]
    version: Mapping[str, Any]
    containers: Sequence[Mapping[str, Any]]
    """Those that carry a label of ours, in any state."""


def look(url: str | None) -> Engine:
    """Ask the engine. Blocks for a few seconds at most. Raises EngineError."""
    api = Api(url)
    try:
        client = api.client(LIMIT_S / 2)
        labelled = client.containers(all=True, filters={"label": [WORKSPACE_LABEL]})
        return Engine(str(api.socket), client.info(), client.version(), labelled)
    except Exception as error:
        raise translate(f"asking {api.url}", error) from error


def service(verb: str) -> str:
    """The command that does it to the engine: by systemd where that is this host's init (sd_booted(3))."""
    return f"systemctl {verb} docker" if SYSTEMD.is_dir() else f"service docker {verb}"


def absent(error: EngineError) -> Check:
    """The engine does not answer."""
    do = [service("start"), "another socket: [engine] host, or $DOCKER_HOST"]
    if "permission denied" in str(error):
        do = ["sudo usermod -aG docker $USER   # then log in again"]
    return fail("engine", str(error), *do)


def answers(engine: Engine) -> Check:
    """Version and API."""
    said = engine.version
    api = tuple(int(part) for part in str(said.get("ApiVersion", "0")).split(".") if part.isdigit())
    text = f"docker {said.get('Version')}, API {said.get('ApiVersion')}, {engine.socket}"
    if api < MIN_API:
        return fail("engine", f"{text}: older than Docker 19.03, which GPUs need", "upgrade Docker")
    if any("name=rootless" in str(option) for option in engine.info.get("SecurityOptions") or []):
        return warn("engine", f"{text}, rootless: files in run directories will belong to other ids")
    return ok("engine", text)


def live_restore(engine: Engine) -> Check:
    """Whether a restart of the engine ends what runs."""
    if engine.info.get("LiveRestoreEnabled"):
        return ok("live-restore", "on: containers outlive a restart of the engine")
    return warn(
        "live-restore",
        "off: a restart of the engine ends the running measurement",
        f'"live-restore": true in {DAEMON_JSON}, then:',
        service("reload"),
    )


def gpu_runtime(engine: Engine, wanted: Sequence[str], hook: str | None) -> Check:
    """Whether containers can get GPUs. `wanted`: ids of the campaign's lanes; `hook`: where the toolkit's hook is."""
    ways = [f"runtime {name}" for name in engine.info.get("Runtimes") or {} if "nvidia" in name]
    ways += [f"CDI {device['ID']}" for device in _cdi(engine.info)[:2]]
    ways += [hook] if hook else []
    if ways:
        return ok("gpu-runtime", ", ".join(ways))
    text = "no NVIDIA container toolkit: this engine cannot give a container a GPU"
    if not wanted:
        return ok("gpu-runtime", f"{text}, and nothing asks for one")
    cure = ("apt-get install nvidia-container-toolkit", "nvidia-ctk runtime configure --runtime=docker")
    return fail("gpu-runtime", text, *cure, service("restart"))


def hook_on_path() -> str | None:
    return shutil.which(HOOK)


def leftovers(engine: Engine, uuid: str | None, *, runner: bool) -> Check:
    """Containers of ours. `uuid`: of this workspace; `runner`: one lives here, so what it has is in use."""
    mine = [item for item in engine.containers if item.get("Labels", {}).get(WORKSPACE_LABEL) == uuid]
    others = [item for item in engine.containers if item not in mine]
    said = []
    if mine and not runner:
        said.append(f"{_names(mine)} of this workspace, and no runner: `isobench run` takes up or removes them")
    if others:
        said.append(f"{_names(others)} of other workspaces; they keep their GPUs from us while they run")
    if not said:
        return ok("leftovers", f"{len(mine)} containers of ours, in use" if mine else "no container of ours")
    ended = [_name(item) for item in others if item.get("State") != "running"]
    gone = [f"docker rm {' '.join(ended)}   # where their workspaces are gone"] if ended else []
    return warn("leftovers", "; ".join(said), *gone)


def _cdi(info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Devices that the engine lists itself (since 28), else those of the specifications in its folders."""
    listed = [one for one in info.get("DiscoveredDevices") or [] if "nvidia.com/gpu" in str(one.get("ID"))]
    if listed:
        return listed
    folders = map(Path, info.get("CDISpecDirs") or [])
    return [{"ID": str(path)} for folder in folders for path in sorted(folder.glob("*nvidia*"))]


def _name(item: Mapping[str, Any]) -> str:
    return str((item.get("Names") or ["?"])[0]).lstrip("/")


def _names(items: Sequence[Mapping[str, Any]]) -> str:
    told = [
        f"{_name(one)} ({one.get('State')}, {one.get('Labels', {}).get(ATTEMPT_LABEL, '?')})" for one in items[:3]
    ]
    return ", ".join(told) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def daemon_json(**values: object) -> str:
    """What `/etc/docker/daemon.json` shall say: what it says now, and these values."""
    now: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        now = json.loads(Path(DAEMON_JSON).read_text())
    return json.dumps({**now, **values})
