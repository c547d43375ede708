"""`run` and `attach`: submit, make sure that a runner lives, open the dashboard or follow in plain text."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from isobench_tui.cli import dashboard
from isobench_tui.cli.follow import Follower
from isobench_tui.cli.main import INTERRUPTED
from isobench_tui.store import commands, db, live, query
from isobench_tui.store.answer import OK, USAGE, Rejected
from isobench_tui.store.queue import PRUNE_ALLOWED
from isobench_tui.store.workspace import Workspace, WorkspaceError, find

if TYPE_CHECKING:
    import sqlite3

    from isobench_tui.campaign.models import Settings, Submission

MAX_RUNNERS = 5
"""Runners that one `run` puts in the place of dead ones; more would hide a fault of ours."""
START_S = 30.0
"""Seconds that a new runner may take until it beats."""
SERVICE_S = 10.0
"""Seconds that systemd may take to start one; after that it is started without it."""


def run(options: argparse.Namespace) -> int:
    """Submit FILE (or go on with what is queued), start the runner, follow unless detached."""
    workspace = find(options.workspace)
    campaign = None
    if options.file is None:
        connection = db.create_store(workspace) if workspace.database.exists() else db.open_store(workspace)
        if options.allow_prune_all:
            commands.call(workspace, connection, "allow_prune", {})
        if not query.unfinished(connection):
            print("nothing is queued here; give a campaign file")
            return OK
    else:
        from isobench_tui.campaign.load import load

        submission = load(Path(options.file))
        campaign = submission.name
        connection = submit(workspace, submission, allow_prune=options.allow_prune_all)
    return start_and_follow(options, workspace, connection, campaign)


def attach(options: argparse.Namespace) -> int:
    """Follow what there is; starts and changes nothing."""
    workspace = find(options.workspace)
    connection = db.open_store(workspace)
    if options.campaign is not None:
        from isobench_tui.store.selectors import campaign_id

        campaign_id(connection, options.campaign)
    follower = Follower(workspace, connection, options.campaign)
    if not dashboard.wanted(options):
        return follow(workspace, connection, follower)
    return _watch(options, workspace, connection, follower)


def submit(workspace: Workspace, submission: Submission, *, allow_prune: bool = False) -> sqlite3.Connection:
    """Check what can be checked before anything is queued, then queue it. Raises EngineError, Rejected.

    `allow_prune`: campaigns of this workspace may from now on remove images of others.
    """
    errors = [f"{f.where}: {f.text}" for f in submission.findings if f.level == "error"]
    if errors:
        raise Rejected("\n".join(errors), USAGE)
    workspace.create()
    said = asyncio.run(_check_engine(submission.settings, workspace))
    _keep_secrets(submission.settings)
    connection = db.create_store(workspace)
    _check_prune(workspace, connection, submission, allowed=allow_prune)
    answer = commands.call(workspace, connection, "submit", submission.model_dump(mode="json"))
    if answer.exit_code != OK:
        raise Rejected(answer.text, answer.exit_code)
    simulated = " (SIMULATED: its numbers are not measurements of vLLM)" if submission.settings.simulated else ""
    print(f"{answer.text}{simulated}\nengine: {said}\nworkspace: {workspace.root}")
    return connection


def start_and_follow(
    options: argparse.Namespace,
    workspace: Workspace,
    connection: sqlite3.Connection,
    campaign: str | None,
    *,
    outlives: bool = True,
) -> int:
    """The rest of `run`, once the queue is as it shall be. `outlives`: ctrl-c leaves the campaign running."""
    follower = Follower(workspace, connection, campaign)
    if query.unfinished(connection):
        ensure_runner(workspace, connection)
    if options.detach:
        print(f"the runner works on; `isobench attach{_where(workspace)}` follows it")
        return OK
    if dashboard.wanted(options):
        return _watch(options, workspace, connection, follower)
    return follow(workspace, connection, follower, restart=True, outlives=outlives)


def _watch(
    options: argparse.Namespace, workspace: Workspace, connection: sqlite3.Connection, follower: Follower
) -> int:
    """The dashboard, and how it came out - or that it goes on - once it is closed."""
    start = None if options.readonly or not db.writable(workspace) else lambda: ensure_runner_anew(workspace)
    if dashboard.show(options, workspace, connection, follower.campaign, start_runner=start):
        return follower.summary()
    return dashboard.detached(_where(workspace))


def ensure_runner_anew(workspace: Workspace) -> None:
    """`ensure_runner` from another thread: with a connection of its own."""
    with contextlib.closing(db.open_store(workspace)) as connection:
        ensure_runner(workspace, connection)


def follow(
    workspace: Workspace,
    connection: sqlite3.Connection,
    follower: Follower,
    *,
    restart: bool = False,
    outlives: bool = True,
) -> int:
    """Print the story until the campaign's end. ctrl-c detaches and says how to come back.

    `restart`: a runner that died is replaced; one that was told to end is not.
    """
    replaced = 0
    try:
        while True:
            done = follower.step()
            if restart and not workspace.locked() and query.unfinished(connection):
                beat = live.get(connection, live.RUNNER_KEY)
                if beat is None or beat[1]["state"] != "ending":
                    if replaced == MAX_RUNNERS:
                        raise WorkspaceError(f"the runner died again and again:\n{_tail(workspace.runner_log)}")
                    replaced += 1
                    ensure_runner(workspace, connection)
                elif not done:
                    print(f"the runner was shut down; `isobench run{_where(workspace)}` goes on")
                    return INTERRUPTED
            if done:
                break
            time.sleep(0.2)
    except KeyboardInterrupt:
        if outlives:
            print(f"\ndetached; the campaign goes on. `isobench attach{_where(workspace)}` comes back")
        raise
    return follower.summary()


def ensure_runner(workspace: Workspace, connection: sqlite3.Connection) -> None:
    """Return once a runner lives that will not end before it has seen our commands. Raises WorkspaceError."""
    from isobench_tui.cli import service

    deadline = time.monotonic() + START_S
    child: subprocess.Popen[bytes] | None = None
    asked: float | None = None
    while time.monotonic() < deadline:
        beat = live.get(connection, live.RUNNER_KEY)
        if workspace.locked():
            # a command may hold the lock too, and the beat may be that of a runner that died
            if beat is not None and beat[1]["pid"] == workspace.holder() and beat[1]["state"] != "ending":
                return
        elif child is None or child.poll() is not None:
            if not query.unfinished(connection):
                return
            if child is not None and child.returncode not in {0, 5}:  # 5: another one was quicker
                raise WorkspaceError(f"the runner did not start:\n{_tail(workspace.runner_log)}")
            if child is None and asked is None and service.start(workspace):
                asked = time.monotonic()  # it shall be systemd's child, which brings it back
            elif asked is None or time.monotonic() - asked > SERVICE_S:
                child = spawn(workspace)
        time.sleep(0.05)
    raise WorkspaceError(f"the runner did not start within {START_S:.0f} s; see {workspace.runner_log}")


def spawn(workspace: Workspace) -> subprocess.Popen[bytes]:
    """A runner in a session of its own: it outlives this terminal."""
    with workspace.runner_log.open("ab") as log:
        workspace.runner_log.chmod(0o600)
        return subprocess.Popen(
            [sys.executable, "-m", "isobench_tui.runner", "--workspace", str(workspace.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )


async def _check_engine(settings: Settings, workspace: Workspace) -> str:
    from isobench_tui.runner.services import make_engine

    engine = make_engine(settings, workspace)
    try:
        return await engine.check()
    finally:
        await engine.close()


def _check_prune(
    workspace: Workspace, connection: sqlite3.Connection, submission: Submission, *, allowed: bool
) -> None:
    """Who prunes takes away what belongs to others; somebody must have said once that this is meant."""
    if submission.settings.prune != "all":
        return
    if allowed:
        commands.call(workspace, connection, "allow_prune", {})
    elif db.meta(connection, PRUNE_ALLOWED) is None:
        raise Rejected(
            f'{submission.spec_path}: [images] prune = "all" may remove images, stopped containers and build cache '
            "of others on this engine; confirm it once with `isobench run --allow-prune-all FILE`",
            USAGE,
        )


def _keep_secrets(settings: Settings) -> None:
    """Store the values of the environment that the campaign names; what it lacks stays as stored. Raises Rejected."""
    if not settings.secrets and not settings.notify.urls:
        return
    from isobench_tui.store import secrets

    for key, names in (("[model] secrets", settings.secrets), ("[notify] urls", settings.notify.urls)):
        secrets.save(names)
        absent = secrets.missing(names)
        if absent:
            raise Rejected(f"{key} names {', '.join(absent)}, which the environment lacks; set it and run again")


def _where(workspace: Workspace) -> str:
    default = find(None).root
    return "" if workspace.root == default else f" --workspace {workspace.root}"


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-8:])
