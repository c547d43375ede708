"""The two lines on top: which campaign, how the runner is, how far it is, when it will be done, where."""

from __future__ import annotations

from rich.text import Text

from isobench_tui.report.text import clock, safe, span
from isobench_tui.store.clock import seconds
from isobench_tui.store.query import Tally
from isobench_tui.tui.snapshot import Snapshot
from isobench_tui.tui.views.eta import eta
from isobench_tui.tui.views.line import Room
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, LIVE, WARN


def header(snapshot: Snapshot, room: Room, *, readonly: bool, trouble: str = "") -> tuple[Text, Text]:
    """Both lines, each cut to the room there is."""
    now, width = room.now, room.width
    first = _fit([_name(snapshot), _runner(snapshot, now)], width)
    parts = [*_tally(total(snapshot)), *_times(snapshot, now), *_places(snapshot)]
    if readonly:
        parts.append(Text("read-only", WARN))
    if trouble:
        parts.insert(0, Text(safe(trouble), BAD))
    return first, _fit(parts, width)


def total(snapshot: Snapshot) -> Tally:
    """All campaigns that are shown, together."""
    tallies = [campaign.tally for campaign in snapshot.campaigns]
    names = ("total", "valid", "invalid", "failed", "skipped", "held", "queued", "running")
    return Tally(*(sum(getattr(tally, name) for tally in tallies) for name in names))


def _name(snapshot: Snapshot) -> Text:
    text = Text("isobench", HEAD)
    names = [campaign.name for campaign in snapshot.campaigns]
    if not names:
        return text.append("  no campaign yet", DIM)
    current = _current(snapshot)
    text.append(f"  {safe(current)}", HEAD)
    if len(names) > 1:
        text.append(f" +{len(names) - 1}", DIM)
    if any(campaign.simulated for campaign in snapshot.campaigns):
        text.append(" SIMULATED", f"{WARN} bold")
    return text


def _current(snapshot: Snapshot) -> str:
    """The campaign that is worked on, else the newest."""
    running = [job for one in snapshot.running if (job := snapshot.job(one.job))]
    if running:
        return running[0].campaign
    left = [campaign.name for campaign in snapshot.campaigns if campaign.tally.left]
    return left[0] if left else snapshot.campaigns[-1].name


def _runner(snapshot: Snapshot, now: float) -> Text:
    runner, pause = snapshot.runner, snapshot.pause
    left = total(snapshot).left
    if runner.word == "dead" and left:
        return Text(f"runner not alive since {clock(runner.beat_at or '')}", f"{BAD} bold")
    if not runner.alive:
        return Text("finished" if total(snapshot).total and not left else "no runner", GOOD if not left else WARN)
    if runner.word == "silent":
        return Text(f"runner silent since {clock(runner.beat_at or '')}", f"{BAD} bold")
    if pause is not None and pause.by_itself:
        word = {"disk_full": "waiting for disk", "engine_error": "waiting for engine"}.get(
            pause.failure, "paused itself"
        )
        probe = ""
        if pause.probe_at is not None:
            probe = f", looks again in {span(max(0.0, pause.probe_at - now))}"
        return Text(f"{word}: {safe(pause.failure)}{probe}", f"{BAD} bold")
    if pause is not None:
        return Text(f"{'pausing' if snapshot.running else 'paused'} by {safe(pause.by)}", f"{WARN} bold")
    paused = [campaign.name for campaign in snapshot.campaigns if campaign.paused and campaign.tally.left]
    if paused:
        return Text(f"{runner.word}, campaign {safe(paused[0])} paused", WARN)
    return Text(runner.word, LIVE if runner.word == "running" else DIM)


def _tally(found: Tally) -> list[Text]:
    return [
        Text(f"{found.ended}/{found.total - found.skipped} done"),
        Text(f"{found.valid} valid", GOOD if found.valid else DIM),
        Text(f"{found.failed} failed", BAD if found.failed else DIM),
        Text(f"{found.invalid} invalid", WARN if found.invalid else DIM),
        Text(f"{found.left} left"),
        *([Text(f"{found.held} held", WARN)] if found.held else []),
        *([Text(f"{found.skipped} skipped", DIM)] if found.skipped else []),
    ]


def _times(snapshot: Snapshot, now: float) -> list[Text]:
    starts = [job.started_at for job in snapshot.jobs if job.started_at]
    if not starts:
        return []
    left = total(snapshot).left
    if not left:
        ends = [job.ended_at for job in snapshot.jobs if job.ended_at]
        return [Text(f"took {span(seconds(max(ends)) - seconds(min(starts)))}")] if ends else []
    parts = [Text(f"elapsed {span(now - seconds(min(starts)))}")]
    rest = eta(snapshot, now)
    if rest is not None and snapshot.runner.alive and snapshot.pause is None:
        parts.append(Text(f"ETA {span(rest)}", HEAD))
    return parts


def _places(snapshot: Snapshot) -> list[Text]:
    hosts = sorted({one.host for one in snapshot.running if one.host})
    parts = [Text(safe(host), DIM) for host in hosts]
    if snapshot.running:
        parts.append(Text(f"lane {', '.join(str(one.lane) for one in snapshot.running)}", DIM))
    return parts


def _fit(parts: list[Text], width: int) -> Text:
    """Parts with two spaces between them, as many as there is room for."""
    text = Text(no_wrap=True)
    for part in parts:
        if text and text.cell_len + 2 + part.cell_len > width:
            break
        if text:
            text.append("  ")
        text.append_text(part)
    text.truncate(width, overflow="ellipsis")
    return text
