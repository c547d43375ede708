"""Models of a campaign: which the host's Hugging Face cache lacks, and whether the hub would give them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isobench_tui.campaign.models import Submission
from isobench_tui.campaign.repos import Repo, needs
from isobench_tui.doctor.check import Check, fail, ok, warn
from isobench_tui.engine.storage import usage_of
from isobench_tui.report.text import bytes_text
from isobench_tui.runner import fetch_model
from isobench_tui.runner.hubcache import Repository
from isobench_tui.runner.models import TOKENS, WEIGH_S, child_environment
from isobench_tui.store import secrets
from isobench_tui.store.answer import USAGE

_REFUSED = frozenset({"gated_auth", "model_not_found"})
"""What the hub says of a model that no waiting brings."""


def check(submission: Submission) -> tuple[Check, dict[str, int]]:
    """The cache, and bytes still to fetch into it by model, as far as the hub tells them now."""
    settings = submission.settings
    repos = {repo: job.workload.env.get("HF_ENDPOINT") for job in submission.jobs for repo in needs(job.workload)}
    if settings.model_cache is None:
        text = f"no [model] cache: {len(repos)} models must come with the images or mounts"
        return ok("model-cache", text), {}
    cache = Path(settings.model_cache)
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return fail("model-cache", f"{folder} is not writable", f"chown -R $USER {folder}", code=USAGE), {}
    said = f"{cache}: {bytes_text(usage_of(folder).free)} free"
    absent = {repo: endpoint for repo, endpoint in repos.items() if not _whole(cache, repo)}
    if not absent:
        return ok("model-cache", f"{said}; all {len(repos)} models are there" if repos else said), {}
    if importlib.util.find_spec("huggingface_hub") is None:
        text = f"{said}; {len(absent)} of {len(repos)} models are missing, and huggingface_hub is not installed"
        return fail("model-cache", text, "pip install 'isobench-tui[hub]'", code=USAGE), {}
    told = asyncio.run(_ask(cache, absent, _token(settings.secrets)))
    sizes = {repo.model: found["need"] for repo, found in told.items() if "need" in found}
    return _verdict(said, absent, told, sum(sizes.values())), sizes


def _verdict(said: str, absent: Iterable[Repo], told: dict[Repo, dict[str, Any]], total: int) -> Check:
    refused = [found["reason"] for found in told.values() if found.get("failure") in _REFUSED]
    silent = [repo.model for repo in absent if "need" not in told.get(repo, {})]
    if refused:
        return warn("model-cache", f"{said}; {'; '.join(refused)}")
    names = [repo.model for repo in absent]
    text = f"{said}; to fetch: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}, {bytes_text(total)}"
    if silent:
        reason = next((found["reason"] for found in told.values() if "reason" in found), "no answer in time")
        return warn("model-cache", f"{text} and what the hub does not tell now ({reason})")
    return ok("model-cache", text)


def _whole(cache: Path, repo: Repo) -> bool:
    repository = Repository(cache, repo.model)
    commit = repository.commit_of(repo.revision)
    return commit is not None and repository.whole(commit, repo.weights)


def _token(names: Iterable[str]) -> str | None:
    """What a run would give the hub: the value in this shell, which `run` stores, else the stored one."""
    for name in TOKENS:
        if name in names:
            stored = secrets.path(name)
            return os.environ.get(name) or (stored.read_text().strip() if stored.is_file() else None)
    return None


async def _ask(cache: Path, repos: dict[Repo, str | None], token: str | None) -> dict[Repo, dict[str, Any]]:
    """What `fetch_model` says of each: `need` in bytes, or `failure` and `reason`; nothing of those that are late."""
    asking = {asyncio.create_task(_weigh(cache, repo, end, token)): repo for repo, end in repos.items()}
    done, late = await asyncio.wait(asking, timeout=WEIGH_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return {asking[task]: task.result() for task in done}


async def _weigh(cache: Path, repo: Repo, endpoint: str | None, token: str | None) -> dict[str, Any]:
    order = fetch_model.Order(repo.model, repo.revision, str(cache), repo.weights, weigh=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", fetch_model.__name__, env=child_environment(str(cache), endpoint, token),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with contextlib.suppress(ConnectionError):
            child.stdin.write(order.text().encode() + b"\n")
            await child.stdin.drain()
        async for line in child.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] in {"pinned", "failed"}:
                return found
        return {}
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
