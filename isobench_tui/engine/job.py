"""The contract between the runner and the driver: `job.json` in, `events.jsonl` out.

`driver.py` imports nothing of ours, so the shapes are written down here and checked by tests on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from isobench_tui.campaign.models import Mode, Override

FORMAT: Literal[1] = 1

EXIT_OK = 0
"""Every trial ran and the server, where there is one, answered 200 afterwards."""
EXIT_FAILED = 1
"""A step failed; the last `fail` event says which."""
EXIT_FULL = 75
"""In place of 0, 1 and 124: a disk that the job writes to was full at some time, or an event found no room, so that
this may be why it failed, if it did (EX_TEMPFAIL of sysexits.h)."""
EXIT_DEADLINE = 124
"""A deadline of job.json passed (GNU timeout's code)."""
EXIT_STOPPED = 143
"""Ended by SIGTERM or SIGINT (128 + 15)."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PatchJob(_Model):
    path: str
    """The diff as the driver sees it."""
    sha256: str


class DatasetJob(_Model):
    path: str
    """The data set as the driver sees it."""
    sha256: str


class ServerJob(_Model):
    argv: tuple[str, ...]
    port: int
    """0: the driver picks a free one (process engine)."""
    model_ids: tuple[str, ...]


class TrialJob(_Model):
    index: int
    counted: bool
    """False: a warm-up."""
    argv: tuple[str, ...]
    optional: tuple[tuple[str, ...], ...] = ()
    """Options that we added, with their values as they stand in `argv`: left out where this client lacks them."""
    log: str
    """File name in the run directory."""
    result: str | None = None
    """File name of the client's own JSON in the run directory, where it writes one."""
    seed: int | None = None


class Deadlines(_Model):
    """Seconds on CLOCK_BOOTTIME, each from the start of its phase; `overall` from the start of the driver."""

    setup: float
    server: float
    measure: float
    overall: float
    stall: float


class Owner(_Model):
    uid: int
    gid: int


class DriverJob(_Model):
    """`job.json`. Holds no secret: only the paths of the files that do."""

    format: Literal[1] = FORMAT
    attempt: str
    engine: Literal["docker", "process"]
    mode: Mode
    run: str
    """The run directory as the driver sees it."""
    tree: str | None = None
    """The attempt's own copy of the image folder (process engine); becomes the working directory and PYTHONPATH."""
    pythons: tuple[str, ...]
    """Interpreters to try, in order: the first that imports vllm is used for every child."""
    env: dict[str, str]
    secrets: dict[str, str] = {}
    """Environment variable -> file holding its value."""
    model: str
    override: Override | None = None
    setup: tuple[str, ...] = ()
    patch: PatchJob | None = None
    dataset: DatasetJob | None = None
    """Stands in an argv as `{isobench:dataset}`."""
    server: ServerJob | None = None
    fresh_server: bool = False
    """A client without a seed gets a fresh server per trial, so that the prefix cache cannot answer it."""
    trials: tuple[TrialJob, ...]
    deadlines: Deadlines
    grace: float
    owner: Owner | None = None
    """Who shall own what the driver and its children made in the run directory."""


JOB_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
SETUP_LOG = "setup.log"
SERVER_LOG = "server.log"
PATCH_FILE = "patch.diff"
INSPECT_FILE = "inspect.json"

DRIVER = Path(__file__).with_name("driver.py")
