"""`demo`: the simulated campaign in a scratch workspace, through the same door as every other one."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import isobench_tui
from isobench_tui.campaign.load import load
from isobench_tui.cli import run as door
from isobench_tui.cli import status
from isobench_tui.store import commands, query
from isobench_tui.store.answer import FAILURES, OK
from isobench_tui.store.workspace import Workspace


def demo(options: argparse.Namespace) -> int:
    """Run it to its end and print its table. 0 once every job has ended: some fail on purpose."""
    chosen = options.workspace
    root = Path(chosen).absolute() if chosen else Path(tempfile.mkdtemp(prefix="isobench-demo-"))
    workspace = Workspace(root.resolve())
    submission = load(campaign_file())
    connection = door.submit(workspace, submission)
    try:
        code = door.start_and_follow(options, workspace, connection, submission.name, outlives=False)
    except KeyboardInterrupt:
        print("stopping the demo", file=sys.stderr)
        commands.call(workspace, connection, "cancel", {"campaign": submission.name})
        raise
    if options.detach:
        return code
    print()
    status.show(workspace, connection, submission.name)
    print(f"\nSIMULATED: no model ran; the failures are part of the demo (see {campaign_file().parent}/README.md).")
    print("Look around:")
    for command in ("status", "logs a3223766:trae_gpt5_0123", "export --format csv"):
        print(f"  {_isobench()} {command} --workspace {root}")
    ended = query.tally(connection, submission.name)
    return OK if ended.ended == ended.total else FAILURES


def _isobench() -> str:
    """How this user can call us again."""
    return "isobench" if shutil.which("isobench") else str(Path(sys.executable).with_name("isobench"))


def campaign_file() -> Path:
    """The demo's campaign: beside the package in a checkout, inside it in a wheel."""
    package = Path(isobench_tui.__file__).parent
    inside = package / "_demo" / "campaign.toml"
    return inside if inside.exists() else package.parent / "examples" / "demo" / "campaign.toml"
