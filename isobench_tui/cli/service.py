"""`service`: a systemd user unit that brings the runner of a workspace back - after a crash, and after a reboot."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from isobench_tui.store.answer import FAILURES, OK, Rejected
from isobench_tui.store.workspace import Workspace, find

LIMIT_S = 30.0
"""How long systemd's own commands may take."""
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_KEPT = (
    *("PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DOCKER_HOST", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("REQUESTS_CA_BUNDLE", "HF_HOME", "HF_ENDPOINT", *_PROXIES, *(name.upper() for name in _PROXIES)),
)
"""What the runner takes from the environment of `install`: systemd gives it a bare one. No secret is among them."""

_UNIT = """\
# Written by `isobench service install`; `isobench service uninstall` removes it.
[Unit]
Description=isobench runner of {name}

[Service]
Type=exec
ExecStart={command}
{environment}
StandardOutput=append:{log}
StandardError=append:{log}
UMask=0077
# 0: nothing is left to do, or told to end; 2: it cannot work there, runner.log says why. All else starts it again.
Restart=on-failure
RestartPreventExitStatus=2
RestartSec=10
# What it measures lives on without it and is adopted by the next one.
KillMode=process
TimeoutStopSec=30

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of one workspace."""

    workspace: Workspace

    @property
    def name(self) -> str:
        """`isobench-`, the folder's name as far as it is plain, and a digest of its path."""
        plain = "".join(char for char in self.workspace.root.name if char.isascii() and char.isalnum())[:20]
        digest = hashlib.sha256(os.fsencode(self.workspace.root)).hexdigest()[:8]
        return f"isobench-{plain or 'workspace'}-{digest}.service"

    @property
    def path(self) -> Path:
        """Where systemd looks for a user's units (systemd.unit(5))."""
        config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(config) / "systemd" / "user" / self.name

    def text(self) -> str:
        """The unit file. Raises Rejected for paths that no unit file can hold."""
        argv = [sys.executable, "-m", "isobench_tui.runner", "--after-others"]
        argv += ["--workspace", str(self.workspace.root)]
        kept = [f"{name}={os.environ[name]}" for name in _KEPT if os.environ.get(name)]
        return _UNIT.format(
            name=_specifiers(_one_line(str(self.workspace.root))),
            command=" ".join(_quoted(word).replace("$", "$$") for word in argv),
            log=_specifiers(_one_line(str(self.workspace.runner_log))),
            environment="\n".join(f"Environment={_quoted(pair)}" for pair in kept),
        )


def install(options: argparse.Namespace) -> int:
    """Write the unit, have systemd start it now and at every boot, and say what lingering means."""
    unit = Unit(find(options.workspace))
    text = unit.text()
    unit.workspace.create()
    unit.path.parent.mkdir(parents=True, exist_ok=True)
    unit.path.touch(mode=0o600)  # a proxy's address may hold a password
    unit.path.write_text(text)
    print(f"wrote {unit.path}")
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", "--no-block", unit.name)
    print(f"enabled {unit.name}: systemd starts the runner again when it dies, and after a reboot")
    if not lingers():
        print(
            "Without lingering, systemd ends your services at your last logout and starts them at the next login:\n"
            f"  loginctl enable-linger {getpass.getuser()}\n"
            "keeps them running without you, from boot on (it may ask for an administrator)."
        )
    return OK


def uninstall(options: argparse.Namespace) -> int:
    """Take the unit away. A runner that lives goes on; it is only not brought back any more."""
    unit = Unit(find(options.workspace))
    if not unit.path.exists():
        raise Rejected(f"no service is installed for {unit.workspace.root} ({unit.path} is not there)")
    unit.path.unlink()
    try:
        _systemctl("disable", unit.name)
        _systemctl("daemon-reload")
    except Rejected as error:
        print(f"{error.answer.text}\nthe unit is gone all the same; systemd forgets it at its next start")
    print(f"removed {unit.path}")
    return OK


def status(options: argparse.Namespace) -> int:
    """0: installed, and systemd knows it; 1: not."""
    unit = Unit(find(options.workspace))
    pid = unit.workspace.holder()
    print(f"runner: {f'pid {pid}' if pid else 'none'}")
    if not unit.path.exists():
        print("service: not installed; `isobench service install` brings the runner back after a crash or a reboot")
        return FAILURES
    if unit.path.read_text() != unit.text():
        print("service: installed by another isobench or environment; `isobench service install` renews it")
    done = _run("systemctl", "--user", "is-enabled", unit.name)
    known = done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}"
    print(f"service: {unit.name}, {known}\nlingering: {'yes' if lingers() else 'no'}")
    return OK if done.returncode == 0 else FAILURES


def start(workspace: Workspace) -> bool:
    """Have systemd start the workspace's runner; False where no service is installed or systemd does not answer."""
    unit = Unit(workspace)
    return unit.path.exists() and _run("systemctl", "--user", "start", "--no-block", unit.name).returncode == 0


def lingers() -> bool:
    """Whether this user's services live without a login (loginctl(1), enable-linger)."""
    done = _run("loginctl", "show-user", getpass.getuser(), "--property=Linger", "--value")
    return done.stdout.strip() == "yes"


def _systemctl(*argv: str) -> None:
    done = _run("systemctl", "--user", *argv)
    if done.returncode != 0:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise Rejected(f"`systemctl --user {' '.join(argv)}` failed: {why}")


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 127, "", str(error))


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise Rejected(f"{text!r} cannot stand in a unit file; move the workspace to a plainer path")
    return text


def _specifiers(text: str) -> str:
    """`%` begins a specifier in a unit file (systemd.unit(5))."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word in double quotes (systemd.syntax(7))."""
    escaped = _specifiers(_one_line(word)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
