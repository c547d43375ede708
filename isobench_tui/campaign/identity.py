"""Fingerprints (may two results be compared?) and identities (is it the same job?): sha256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from isobench_tui.campaign.models import JobSpec, Settings, Workload

_DATASET_OPTIONS = ("--dataset-path", "--dataset_path", "--dataset")


_NOT_THE_JOB: dict[str, Any] = {"fingerprint": True, "workload": {"override": {"reason"}, "optional": True}}
"""Derived from the rest, or a word about it."""


def canonical(value: Any) -> str:
    """JSON of one spelling: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def _without_paths(workload: Workload) -> list[str]:
    """The client's argv, the script by its name, and the dataset by its digest where that is known."""
    argv = list(workload.client)
    if len(argv) > 1 and argv[1].endswith(".py"):
        argv[1] = argv[1].rsplit("/", 1)[-1]
    if not workload.dataset:
        return argv
    for i, token in enumerate(argv):
        name, joined, _ = token.partition("=")
        if name not in _DATASET_OPTIONS:
            continue
        if joined:
            argv[i] = f"{name}={workload.dataset}"
        elif i + 1 < len(argv):
            argv[i + 1] = workload.dataset
    return argv


def fingerprint(workload: Workload) -> str:
    """64 hex digits, equal exactly where two results may be compared.

    Covers mode, effective argv without port and paths, dataset digest, seed series, model and its override, env and
    setup commands; not what was derived from them (`asked`, `output_tokens`, `model_ids`) and not the reason given.
    """
    override = workload.override
    return _sha256(
        {
            "mode": workload.mode,
            "model": workload.model,
            "override": override.model_dump(exclude={"reason"}) if override else None,
            "client": _without_paths(workload),
            "server": list(workload.server),
            "env": workload.env,
            "setup": list(workload.setup),
            "dataset": workload.dataset,
            "seeds": list(workload.seeds),
        }
    )


def identity(job: JobSpec, settings: Settings) -> str:
    """64 hex digits: two jobs of equal identity are one row of the queue.

    Covers campaign, task, arm, agent, repeat, workload as written, image reference, patch, server args, env, setup
    and limits. Deadlines, lanes and housekeeping are not part of it: who raises a timeout keeps the results so far.
    """
    return _sha256(
        {
            "job": job.model_dump(mode="json", exclude=_NOT_THE_JOB),
            "engine": settings.engine,
            "container": settings.container.model_dump(mode="json"),
            "trials": settings.trials,
            "warmups": settings.warmups,
            "min_window_s": float(settings.min_window_s),
        }
    )


def job_id(identity: str) -> str:
    """The short name that people type: `j` and the identity's first 10 hex digits."""
    return "j" + identity[:10]
