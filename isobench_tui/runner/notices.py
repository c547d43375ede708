"""Which events an operator is told of, and the telling: beside the scheduler, never in its way.

What was told is kept in `meta`, so that a new runner tells what an old one could not, and nothing twice. Only events
count that were written since the workspace first had a `[notify]` table.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field

from isobench_tui.campaign.models import Notify, Settings
from isobench_tui.report import notify
from isobench_tui.report.notify import Notice
from isobench_tui.runner.writer import Writer
from isobench_tui.store import db, events, query, secrets
from isobench_tui.store.clock import now
from isobench_tui.store.words import count_jobs
from isobench_tui.store.workspace import Workspace

LOOK_S = 1.0
AGAIN_S = (2.0, 10.0)
"""Rests before a delivery is tried again; after the last try its failure is an event."""
MOST_LINES = 20
"""Failures that one notice lists."""
BATCH = 1000
_KEY = "notified"


@dataclass(frozen=True, slots=True)
class _State:
    """What was told already."""

    last: int
    """Id of the last event that was looked at."""
    ended: dict[str, int]
    """Campaign -> its attempts when its end was told."""


@dataclass(slots=True)
class Notices:
    """`run` tells until it is cancelled; `busy` while something is still to be told."""

    workspace: Workspace
    writer: Writer
    _behind: bool = True
    _telling: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def busy(self) -> bool:
        """Whether the runner shall not end yet."""
        wanted = await self.writer.plain(_wanted)
        return bool(self._telling) or (bool(wanted) and (self._behind or await self.writer.plain(_has_news)))

    async def _look(self) -> None:
        campaigns = await self.writer.plain(_wanted)
        if not campaigns:
            return
        state = await self.writer.run(_state)
        notices, state = await self.writer.plain(lambda connection: _news(connection, state, set(campaigns)))
        lines: dict[Notify, list[Notice]] = {}
        for one in notices:
            for how in _ways(campaigns, one.campaign):
                notice = Notice(**asdict(one), workspace=str(self.workspace.root), host=socket.gethostname())
                lines.setdefault(how, []).append(notice)
        for way, line in lines.items():
            task = asyncio.create_task(self._deliver_in_order(way, line))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        if self._telling:
            await asyncio.wait(self._telling)
        await self.writer.run(db.set_meta, _KEY, json.dumps(asdict(state)))
        self._behind = False

    async def _deliver_in_order(self, how: Notify, line: list[Notice]) -> None:
        """A failure comes before the end that it belongs to; another operator's deaf hook holds up neither."""
        for notice in line:
            await self._deliver(how, notice)

    async def _deliver(self, how: Notify, notice: Notice) -> None:
        if how.command:
            await self._try(lambda: notify.by_command(how.command, notice), notice)
        if how.urls:
            stored = [secrets.path(name) for name in how.urls]
            await self._try(lambda: notify.by_apprise([path.read_text().strip() for path in stored], notice), notice)

    async def _try(self, send: Callable[[], Awaitable[None]], notice: Notice) -> None:
        wrong = ""
        for rest in (*AGAIN_S, None):
            try:
                return await send()
            except (notify.NotDelivered, OSError, UnicodeDecodeError) as error:
                wrong = str(error)
            if rest is not None:
                await asyncio.sleep(rest)
        text = f"nobody was told that {notice.title!r}: {wrong}"
        return await self.writer.run(events.add, "notify", text, campaign=notice.campaign)


@dataclass(frozen=True, slots=True)
class _Fact:
    """A notice without where it comes from."""

    kind: notify.Kind
    campaign: str | None
    at: str
    title: str
    text: str
    data: Mapping[str, object]


def _wanted(connection: sqlite3.Connection) -> dict[str, Notify]:
    """Campaign -> how its operator wants to be told."""
    rows = connection.execute(
        "SELECT name, settings FROM campaigns WHERE json_array_length(settings, '$.notify.command') > 0 "
        "OR json_array_length(settings, '$.notify.urls') > 0 ORDER BY id"
    )
    return {row["name"]: Settings.model_validate_json(row["settings"]).notify for row in rows}


def _ways(campaigns: dict[str, Notify], campaign: str | None) -> list[Notify]:
    """Who is told: the campaign's operator, or, of what concerns the whole queue, everybody once."""
    if campaign is not None:
        return [campaigns[campaign]] if campaign in campaigns else []
    return list(dict.fromkeys(campaigns.values()))


def _state(connection: sqlite3.Connection) -> _State:
    """What was told; the first time all that is there already counts as told, but for what has not ended."""
    value = db.meta(connection, _KEY)
    with contextlib.suppress(ValueError, TypeError):
        return _State(**json.loads(str(value)))
    over = {name: count for name, count, left in _campaigns(connection) if not left}
    state = _State(events.last_id(connection), over)
    db.set_meta(connection, _KEY, json.dumps(asdict(state)))
    return state


def _campaigns(connection: sqlite3.Connection) -> list[tuple[str, int, bool]]:
    """(name, attempts that have ended, whether jobs are left) of every campaign."""
    rows = connection.execute(
        "SELECT c.name, (SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.campaign_id = c.id "
        "AND a.state != 'open') AS n, EXISTS (SELECT 1 FROM jobs j WHERE j.campaign_id = c.id "
        "AND j.state IN ('queued', 'running')) AS waits FROM campaigns c ORDER BY c.id"
    )
    return [(row["name"], row["n"], bool(row["waits"])) for row in rows]


def _has_news(connection: sqlite3.Connection) -> bool:
    value = db.meta(connection, _KEY)
    return value is None or json.loads(str(value))["last"] < events.last_id(connection)


def _news(connection: sqlite3.Connection, state: _State, wanted: set[str]) -> tuple[list[_Fact], _State]:
    """What is to be told of the events since, and the state once that is done."""
    fresh = events.since(connection, state.last, BATCH)
    facts = [
        _Fact("paused", None, row["at"], "the queue paused itself", row["text"], {})
        for row in fresh
        if row["kind"] == "paused" and row["actor"] == events.RUNNER
    ]
    for name in sorted(wanted):
        lost = [row for row in fresh if row["campaign"] == name and row["kind"] == "ended" and _lost(row)]
        if lost:
            facts.append(_failures(name, lost))
    ended = dict(state.ended)
    for name, count, waits in _campaigns(connection):
        if name not in wanted or waits:
            ended.pop(name, None)
        elif ended.get(name) != count:
            ended[name] = count
            facts.append(_end(connection, name))
    return facts, _State(fresh[-1]["id"] if fresh else state.last, ended)


def _lost(event: sqlite3.Row) -> bool:
    """An attempt that came to its end without a valid result, and not because somebody wished so."""
    data = json.loads(event["data"])
    outcome = data.get("outcome")
    return outcome in {"failed", "timed_out"} or (outcome == "success" and not data.get("valid"))


def _failures(campaign: str, lost: list[sqlite3.Row]) -> _Fact:
    count = f"{len(lost)} attempts" if len(lost) > 1 else "1 attempt"
    lines = [row["text"] for row in lost[:MOST_LINES]]
    if len(lost) > MOST_LINES:
        lines.append(f"and {len(lost) - MOST_LINES} more")
    attempts = [row["attempt_id"] for row in lost]
    title = f"{campaign}: {count} without a valid result"
    return _Fact("failed", campaign, lost[-1]["at"], title, "\n".join(lines), {"attempts": attempts})


def _end(connection: sqlite3.Connection, campaign: str) -> _Fact:
    found = query.tally(connection, campaign)
    words = (("valid", found.valid), ("invalid", found.invalid), ("failed", found.failed))
    parts = [f"{n} {word}" for word, n in (*words, ("skipped", found.skipped), ("held", found.held)) if n]
    text = f"{count_jobs(found.total)}: {', '.join(parts) or 'none ended'}"
    return _Fact("ended", campaign, now(), f"{campaign} has ended", text, query.tally_json(found))
