"""Runs the demo's simulated vLLM from its tree, or from a patched copy of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[1]
DEMO = REPO / "examples" / "demo"
TREE = DEMO / "tree"
PATCHES = DEMO / "patches"
DEADLINE_S = 60.0


def environment(tree: Path) -> dict[str, str]:
    """Like the driver's: the tree on PYTHONPATH, unbuffered; and no bytecode, so that the tree stays as it is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIT_"))}
    return {**kept, "PYTHONPATH": str(tree), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run(tree: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A program of the tree: a script, or a module where the name does not end in .py."""
    head = [argv[0]] if argv[0].endswith(".py") else ["-m", argv[0]]
    return subprocess.run(
        [sys.executable, *head, *argv[1:]],
        cwd=tree,
        env=environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Server:
    """A running server of the tree."""

    port: int
    log_file: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, body: object) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        match = re.search(rf"^{re.escape(name)}\{{[^}}]*\}} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        assert match, name
        return float(match[1])

    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for_status(self, status: int) -> None:
        """Until /health answers `status`; a server that ends first fails the test with its log."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(OSError):
                if self.get("/health")[0] == status:
                    return
            time.sleep(0.02)
        pytest.fail(f"/health never answered {status}:\n{self.log()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_S)


@contextlib.contextmanager
def serving(tree: Path, folder: Path, *options: str) -> Iterator[Server]:
    """A server of the tree that is ready, with model id `m`."""
    port = free_port()
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "--host", "127.0.0.1"]
    log_file = folder / "server.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*argv, "--port", str(port), *options], cwd=tree, env=environment(tree), stdout=log, stderr=log
        )
    server = Server(port, log_file, process)
    try:
        server.wait_for_status(200)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def copied(tmp_path: Path, name: str = "tree") -> Path:
    """A copy of the tree."""
    copy = tmp_path / name
    shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def patched(tmp_path: Path, name: str) -> Path:
    """A copy of the tree with a patch of the demo."""
    copy = copied(tmp_path, name)
    assert apply(copy, name) == 0
    return copy


def apply(tree: Path, name: str, *options: str) -> int:
    """`git apply` of a patch of the demo: its exit code."""
    argv = ["git", "apply", *options, str(PATCHES / f"{name}.diff")]
    env = {**environment(tree), "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    return subprocess.run(argv, cwd=tree, env=env, capture_output=True, timeout=DEADLINE_S, check=False).returncode
