"""`python -m real_vllm`: build, run, show, check. Exit code 0 only if every run came out as what it is."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from dockerd import CannotStart

from isobench_tui.store import db
from real_vllm import verdict
from real_vllm.build import Build, CannotBuild, say
from real_vllm.campaign import Run, engine, use_scratch

CANNOT = 2


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="real-vllm", description="Run the campaign in examples/real-vllm with a real vLLM on the CPU."
    )
    parser.add_argument("--build-only", action="store_true", help="make what the images hold, run nothing")
    parser.add_argument("--keep", action="store_true", help="keep the workspace with the database and all logs")
    return parser.parse_args()


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ended(signum: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def campaign(run: Run) -> int:
    """Run it and print what came of it; 1 if anything is not as it must be."""
    begun = time.monotonic()
    run.follow()
    wall = time.monotonic() - begun
    rows, connection = run.rows(), db.open_store(run.workspace)
    with_agents = verdict.dead_clients(connection, "engine-dies")
    show(f"\n{run.table()}\n{verdict.times(connection)}")
    show(f"{len(rows)} jobs, {sum(row['attempts'] for row in rows)} attempts, {wall:.0f} s in all")
    for code, completed, asked, got, want in with_agents:
        show(f"engine-dies: client exit code {code}, {completed} of {asked} requests, {got} of {want} tokens")
    wrong = list(verdict.complaints(rows, connection))
    connection.close()
    for text in wrong:
        say(f"WRONG: {text}")
    if not wrong:
        say("the four patches came out as what they are")
    return 1 if wrong else 0


def main() -> int:
    given = options()
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    scratch = use_scratch()
    try:
        tars = Build().tars()
        say(f"build: {tars.base}, {tars.overlay}")
        if given.build_only:
            return 0
        root = Path(tempfile.mkdtemp(prefix="workspace-", dir=scratch))
        try:
            with engine(tars) as host:
                return campaign(Run(host, root))
        finally:
            if given.keep:
                say(f"kept: isobench status --workspace {root}")
            else:
                shutil.rmtree(root)
    except (CannotBuild, CannotStart) as error:
        say(str(error))
        return CANNOT
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
