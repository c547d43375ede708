"""An engine with the two images, and the campaign through the ordinary door: `isobench run`, `isobench export`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dockerd

from isobench_tui.store.workspace import Workspace
from real_vllm.build import NEWER, OLDER, OVERLAY, SITE, Tars, cache, say

NAME = "real-vllm"
FILE = Path(__file__).parents[2] / "examples" / "real-vllm" / "campaign.toml"
IMAGE = "isobench-real-vllm"
STOP_S = 60.0


def use_scratch() -> Path:
    """Everything temporary, the engine's data among it, goes beside the cache: /tmp may be small or in memory."""
    scratch = cache() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(scratch)
    tempfile.tempdir = None
    return scratch


@contextlib.contextmanager
def engine(tars: Tars) -> Iterator[dockerd.Host]:
    """A private engine if we are root, else one that is reachable, with both images. Raises dockerd.CannotStart."""
    with dockerd.host() as host:
        say(f"engine: {host.url} ({host.driver})")
        newer, older = f"{IMAGE}:{NEWER}", f"{IMAGE}:{OLDER}"
        change = f"ENV PYTHONPATH=/{SITE}"
        argv = ["docker", "-H", host.url, "import", "--change", change, str(tars.base), newer]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        try:
            with tempfile.TemporaryDirectory(prefix="context-") as context:
                layer = Path(context) / tars.overlay.name
                try:
                    os.link(tars.overlay, layer)
                except OSError:  # another file system
                    shutil.copyfile(tars.overlay, layer)
                lines = [f"FROM {newer}", f"ADD {layer.name} /", f"ENV PYTHONPATH=/{OVERLAY}:/{SITE}"]
                (Path(context) / "Dockerfile").write_text("\n".join(lines) + "\n")
                host.build(older, Path(context))
            say(f"images: {newer} and {older}")
            yield host
        finally:
            if not host.owned:
                host.client.remove_image(newer, force=True)


class Run:
    """One campaign in a workspace of its own."""

    def __init__(self, host: dockerd.Host, root: Path) -> None:
        self.workspace = Workspace(root)
        self._env = {**os.environ, "DOCKER_HOST": host.url, "ISOBENCH_WORKSPACE": str(root)}

    def isobench(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The command as an operator would give it."""
        command = [sys.executable, "-m", "isobench_tui", *argv]
        return subprocess.run(command, env=self._env, text=True, check=False, **options)

    def follow(self) -> int:
        """Run the campaign to its end; its exit code. However that goes, no runner lives afterwards."""
        try:
            return self.isobench("run", str(FILE)).returncode
        finally:
            self.isobench("shutdown", "--now", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            dockerd.until(lambda: not self.workspace.locked(), within=STOP_S, what="the runner ends")

    def table(self) -> str:
        return str(self.isobench("export", "--campaign", NAME, capture_output=True).stdout)

    def rows(self) -> list[dict[str, Any]]:
        """The export's objects, one a job."""
        text = self.isobench("export", "--campaign", NAME, "--json", capture_output=True).stdout
        found: list[dict[str, Any]] = json.loads(text)
        return [row for row in found if row["kind"] == "result"]
