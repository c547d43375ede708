"""The phase `model`: pin the revisions of an attempt's models, and see that their files are in the host's cache.

A campaign keeps the revision that its first attempt pinned, so that all arms and repeats measure the same weights and
a hub that is down tomorrow holds up nothing. Measured processes are offline and take `refs/main` of the cache for
"main": the phase makes it name the pinned commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from isobench_tui.campaign.models import JobSpec, Settings
from isobench_tui.campaign.repos import Repo, needs
from isobench_tui.runner import fetch_model
from isobench_tui.runner.hubcache import Repository
from isobench_tui.runner.meter import Meter
from isobench_tui.runner.preflight import Refused
from isobench_tui.runner.services import Services
from isobench_tui.runner.writer import Writer
from isobench_tui.store import attempts, events, live, secrets

if TYPE_CHECKING:
    from isobench_tui.runner.attempt import Order

EVERY_S = 0.5
WEIGH_S = 20.0
"""Seconds that the hub gets to tell sizes beforehand."""
STDERR_LINES = 20
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Names that huggingface_hub knows its token by."""

_busy: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
"""(cache, model) -> who fetches it now: lanes that need the same model fetch and pin it once."""


class Unavailable(Refused):
    """A model cannot be had; ends the attempt in the phase `model`."""

    where = "model"

    def __init__(self, failed: fetch_model.Failed) -> None:
        super().__init__(failed.failure, str(failed))
        self.unreachable = failed.unreachable


def concerned(spec: JobSpec, settings: Settings) -> bool:
    """Whether an attempt has this phase: with `[model] cache`, or where the measured processes ask the hub."""
    return bool(needs(spec.workload)) and (settings.model_cache is not None or spec.hub == "online")


async def prepare(services: Services, order: Order) -> None:
    """Raises Unavailable. Without a cache (`hub = "online"`) it only looks whether the hub gives the models."""
    cache = order.settings.model_cache
    pins: dict[str, str] = {}
    for repo in needs(order.spec.workload):
        if cache is None:
            await _look(services, order, repo)
            continue
        lock = _busy.setdefault((cache, repo.model), asyncio.Lock())
        if lock.locked():
            await services.writer.run(_detail, order.attempt, f"another lane fetches {repo.model}")
        async with lock:
            pins[repo.key] = await _ensure(services, order, repo, Path(cache))
            await services.writer.run(attempts.update, order.attempt, model_pins=json.dumps(pins))


async def weigh(services: Services, order: Order) -> tuple[dict[str, int], list[str]]:
    """Bytes still to fetch into the cache by model, and the models of which the hub does not tell them now."""
    cache = order.settings.model_cache
    known: dict[str, int] = {}
    unknown: list[str] = []
    if cache is None:
        return known, unknown
    for repo in needs(order.spec.workload):
        repository = Repository(Path(cache), repo.model)
        pin = await services.writer.run(_pinned_before, order.attempt, repo.key)
        commit = pin or repository.commit_of(repo.revision)
        if commit is not None and await asyncio.to_thread(repository.whole, commit, repo.weights):
            continue
        try:
            async with asyncio.timeout(WEIGH_S):
                known[repo.model] = await Fetching(services.writer, order, repo, pin or repo.revision).weigh()
        except (Unavailable, TimeoutError):  # the phase `model` has the last word on that
            unknown.append(repo.model)
    return known, unknown


async def _look(services: Services, order: Order, repo: Repo) -> None:
    try:
        await Fetching(services.writer, order, repo, repo.revision).run()
    except Unavailable as error:
        # What the host cannot ask (no client, no way to the hub), the measured processes may: they are judged by
        # their own end.
        if error.failure in {"gated_auth", "model_not_found"}:
            raise


async def _ensure(services: Services, order: Order, repo: Repo, cache: Path) -> str:
    """The commit of the repository that the measured processes will find in the cache."""
    repository = Repository(cache, repo.model)
    pin = await services.writer.run(_pinned_before, order.attempt, repo.key)
    if pin is None or not await asyncio.to_thread(repository.whole, pin, repo.weights):
        try:
            pin = await Fetching(services.writer, order, repo, pin or repo.revision).run()
        except Unavailable as error:
            known = repository.commit_of(repo.revision)
            if pin is not None or not error.unreachable or known is None:
                raise
            if not await asyncio.to_thread(repository.whole, known, repo.weights):
                raise
            pin = known
            text = f"{error}; going on with revision {known} of the cache, which may be old"
            await services.writer.run(events.add, "model", text, attempt=order.attempt)
    try:
        await asyncio.to_thread(repository.point, repo.revision, pin)
    except OSError as error:
        raise Unavailable(fetch_model.Failed("harness_misconfig", f"[model] cache: {error}")) from error
    return pin


class Fetching:
    """One run of `fetch_model`, its progress in the live row `model/<attempt>`."""

    def __init__(self, writer: Writer, order: Order, repo: Repo, revision: str) -> None:
        self._writer = writer
        self._order = order
        self._repo = repo
        self._revision = revision
        self._seen: dict[str, Any] = {}
        self._meter = Meter()
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._token: str | None = None
        self._weighs = False

    async def run(self) -> str:
        """Return the commit once all is in the cache. Raises Unavailable; cancelled, it leaves nothing running."""
        await self._child(weigh=False)
        return await self._result()

    async def weigh(self) -> int:
        """Bytes that `run` would fetch. Raises Unavailable."""
        await self._child(weigh=True)
        await self._result()
        return int(self._seen["pinned"]["need"])

    async def _child(self, *, weigh: bool) -> None:
        cache = self._order.settings.model_cache
        umask = 0o077
        try:
            if cache is not None:
                umask = await asyncio.to_thread(_prepare_folder, Path(cache))
        except OSError as error:
            raise Unavailable(fetch_model.Failed("harness_misconfig", f"[model] cache: {error}")) from error
        request = fetch_model.Order(
            self._repo.model, self._revision, cache or "", self._repo.weights, look=cache is None, weigh=weigh
        )
        self._weighs = weigh
        self._token, env = await asyncio.to_thread(_environment, self._order, cache)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", fetch_model.__name__, env=env, umask=umask, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with _Shown(self):
                await self._listen(child, request)
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()

    async def _listen(self, child: asyncio.subprocess.Process, request: fetch_model.Order) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with contextlib.suppress(ConnectionError):  # it died first; its stderr says why
            child.stdin.write(request.text().encode() + b"\n")
            await child.stdin.drain()
        complaints = asyncio.create_task(self._keep(child.stderr))
        try:
            async for line in child.stdout:
                await self._take(json.loads(line))
        finally:
            complaints.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await complaints

    async def _keep(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self._stderr.append(line.decode(errors="replace").rstrip())

    async def _take(self, event: dict[str, Any]) -> None:
        self._seen.update({event["event"]: event})
        if event["event"] == "progress":
            self._meter.saw(event["done"])
        elif event["event"] == "pinned" and event["missing"] and not self._weighs:
            await self._tell(f"fetching {self._repo.model} at {event['commit'][:12]}: {event['missing']} files")

    async def _tell(self, text: str) -> None:
        await self._writer.run(events.add, "model", text, attempt=self._order.attempt)

    async def _result(self) -> str:
        pinned, failed = self._seen.get("pinned"), self._seen.get("failed")
        if failed is not None:
            raise Unavailable(
                fetch_model.Failed(
                    failed["failure"], failed["reason"], unreachable=failed["unreachable"] and pinned is None
                )
            )
        if "done" not in self._seen:
            said = " | ".join(self._stderr)
            said = said.replace(self._token, "***") if self._token else said
            raise Unavailable(fetch_model.Failed("unknown", f"the download of {self._repo.model} died: {said}"))
        if pinned is None:
            return self._revision
        if pinned["missing"] and not self._weighs:
            await self._tell(f"fetched {self._repo.model}, {pinned['total'] / 1024**2:.0f} MiB in the cache")
        return str(pinned["commit"])

    async def show(self) -> None:
        """Write the live row."""
        pinned, progress = self._seen.get("pinned"), self._seen.get("progress")
        if pinned is None or progress is None:
            return
        pace = self._meter.pace(progress["done"], pinned["total"])
        row = live.LiveModel(
            model=self._repo.model,
            revision=pinned["commit"],
            files=progress["files"],
            files_total=pinned["files"],
            done=progress["done"],
            total=pinned["total"],
            rate=pace.rate,
            eta=pace.eta,
            stalled_since=pace.stalled_since,
        )
        await self._writer.run(live.put, f"model/{self._order.attempt}", row, self._order.attempt)


class _Shown:
    """Keeps the live row fresh inside its block."""

    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._repeat())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._fetching.show()


def _prepare_folder(cache: Path) -> int:
    """Make the cache; return the umask for files in it: whoever may use the folder shall be able to read them."""
    cache.mkdir(parents=True, exist_ok=True)
    return ~stat.S_IMODE(cache.stat().st_mode) & 0o077


def child_environment(cache: str | None, endpoint: str | None, token: str | None) -> dict[str, str]:
    """The environment of `fetch_model`: ours, with this token or none at all."""
    env = {name: value for name, value in os.environ.items() if name not in TOKENS}
    env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"HF_ENDPOINT": endpoint} if endpoint else {}
    env |= {"HF_HOME": cache} if cache is not None else {}
    return {**env, fetch_model.TOKEN: token} if token is not None else env


def _environment(order: Order, cache: str | None) -> tuple[str | None, dict[str, str]]:
    """The token that the campaign names, and the child's environment."""
    named = next((name for name in TOKENS if name in order.settings.secrets), None)
    token = None if named is None else secrets.path(named).read_text().strip()
    return token, child_environment(cache, order.spec.workload.env.get("HF_ENDPOINT"), token)


def _detail(connection: sqlite3.Connection, attempt: str, text: str) -> None:
    found = live.get(connection, f"phase/{attempt}")
    if found is not None:
        live.put(connection, f"phase/{attempt}", live.LivePhase(**{**found[1], "detail": text}), attempt)


def _pinned_before(connection: sqlite3.Connection, attempt: str, key: str) -> str | None:
    """The commit that an attempt of the campaign ran with, or one that another campaign runs with right now."""
    rows = connection.execute(
        "SELECT a.model_pins AS pins FROM attempts a JOIN jobs j ON j.id = a.job_id, "
        "(SELECT k.campaign_id AS id FROM attempts b JOIN jobs k ON k.id = b.job_id WHERE b.id = ?) mine "
        "WHERE a.model_pins IS NOT NULL AND (j.campaign_id = mine.id OR a.state = 'open') "
        "ORDER BY j.campaign_id = mine.id DESC, a.rowid DESC",
        (attempt,),
    )
    for row in rows:
        commit = json.loads(row["pins"]).get(key)
        if commit is not None:
            return str(commit)
    return None
