"""The running attempts: the track of phases, what moves, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from isobench_tui.report.text import bytes_text, clock, safe, span
from isobench_tui.store.clock import seconds
from isobench_tui.store.live import LiveModel, LivePull
from isobench_tui.tui.snapshot import Job, Running, Snapshot
from isobench_tui.tui.views.eta import PHASES
from isobench_tui.tui.views.line import Room
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, LIVE, WARN, bar, spark

_SHORT = {"preflight": "pre", "cleanup": "clean", "collect": "coll"}
_CONSOLE = Console(width=200)
"""Wrapping text needs one; it writes nowhere."""
LAYERS = 8
"""Layers of a pull that are listed; the others are counted."""


def now_lines(snapshot: Snapshot, room: Room, rates: Mapping[str, Sequence[float]]) -> tuple[Text, ...]:
    """Lines for every running attempt; `rates`: attempt -> its tokens/s so far, as the server's log told them."""
    if not snapshot.running:
        return tuple(_idle(snapshot).wrap(_CONSOLE, room.width))
    lines: list[Text] = []
    if not snapshot.runner.alive:
        lines.append(Text("no runner is alive; when it was last seen:", WARN))
    each = Room(room.now, room.width, max(2, room.height // len(snapshot.running)))
    for one in snapshot.running:
        lines += attempt_lines(one, snapshot.job(one.job), each, rates.get(one.attempt, ()))[: each.height]
    return tuple(lines)


def _idle(snapshot: Snapshot) -> Text:
    if not snapshot.campaigns:
        return Text("no campaign yet: `isobench run FILE` submits one", DIM)
    if not snapshot.runner.alive:
        left = any(campaign.tally.left for campaign in snapshot.campaigns)
        return Text("nothing runs: no runner is alive" if left else "nothing is left to run", DIM)
    if snapshot.pause is not None:
        reason = f": {safe(snapshot.pause.reason)}" if snapshot.pause.reason else ""
        return Text(f"nothing runs: the queue is paused{reason}", WARN)
    return Text("nothing runs", DIM)


def attempt_lines(one: Running, job: Job | None, room: Room, rates: Sequence[float]) -> list[Text]:
    """The most telling line first: with two lines there is still the phase and what moves in it."""
    now = room.now
    what = _moving(one, room.width, rates)
    lines = [_title(one, job, now)]
    if room.height <= 2:
        lines[0].append("  ").append_text(_phase(one, now))
        return [*lines, *what[:1]] if what else [*lines, _track(one, now)]
    lines += [_phase(one, now), *what, *_track(one, now).wrap(_CONSOLE, room.width)]
    if one.pull is not None and room.height > 6:
        lines += _layers(one.pull)
    return lines


def _title(one: Running, job: Job | None, now: float) -> Text:
    name = safe(job.name) if job else one.attempt
    text = Text(name, HEAD, no_wrap=True)
    text.append(f"  {span(now - seconds(one.started_at))}", DIM)
    if one.stop:
        text.append("  stopping", f"{WARN} bold")
    return text


def _track(one: Running, now: float) -> Text:
    """Every phase with its seconds: done, going on, still to come."""
    text = Text()
    done = {row.phase: row for row in one.phases}
    for phase in PHASES:
        row = done.get(phase)
        word = _SHORT.get(phase, phase)
        if row is None:
            text.append(f"{word} ", DIM)
        elif row.seconds is None:
            text.append(f"{word} {span(max(0.0, now - seconds(row.started_at)))} ", f"{LIVE} bold")
        else:
            style = GOOD if row.outcome == "ok" else BAD
            text.append(f"{word} {span(row.seconds)} " if row.seconds >= 1 else f"{word} ", style)
    return text


def _phase(one: Running, now: float) -> Text:
    """The phase with its elapsed time against its deadline."""
    if one.live is None:
        return Text("starting", DIM)
    spent = max(0.0, now - seconds(one.live.since))
    share = spent / one.live.deadline_s if one.live.deadline_s else 0.0
    text = Text(f"{one.live.phase} ", LIVE, no_wrap=True)
    text.append(f"{span(spent)} of {span(one.live.deadline_s)} ", WARN if share > 0.8 else "")
    text.append(bar(share, 10), WARN if share > 0.8 else DIM)
    if one.live.detail:
        text.append(f" {safe(one.live.detail)}", DIM)
    return text


def _moving(one: Running, width: int, rates: Sequence[float]) -> list[Text]:
    if one.pull is not None and (one.live is None or one.live.phase == "image"):
        return [_fetch("pull", one.pull, width)]
    if one.model is not None and (one.live is None or one.live.phase == "model"):
        return [_fetch("model", one.model, width)]
    if one.live is None or one.live.tokens_per_s is None:
        return []
    text = Text(f"{one.live.tokens_per_s:,.0f} tok/s ", LIVE, no_wrap=True)
    if one.live.running is not None:
        text.append(f"running {one.live.running} waiting {one.live.waiting or 0} ", DIM)
    text.append(spark(rates, max(8, width - text.cell_len - 1)), LIVE)
    return [text]


def _fetch(word: str, pull: LivePull | LiveModel, width: int) -> Text:
    """`pull ████░░ 1.2 of 9.8 GiB 45 MiB/s 3m left`."""
    text = Text(f"{word} ", LIVE, no_wrap=True)
    if pull.total:
        text.append(bar(pull.done / pull.total, 12 if width < 60 else 20), LIVE)
        text.append(f" {bytes_text(pull.done)} of {bytes_text(pull.total)}")
    else:
        text.append(f"{bytes_text(pull.done)}, size unknown")
    if pull.rate:
        text.append(f" {bytes_text(pull.rate)}/s")
    if pull.eta is not None:
        text.append(f" {span(pull.eta)} left", DIM)
    if pull.stalled_since:
        text.append(f" no byte since {clock(pull.stalled_since)}", f"{WARN} bold")
    return text


def _layers(pull: LivePull) -> list[Text]:
    """The layers that move, then how many are done or wait."""
    moving = [layer for layer in pull.layers if layer.state in {"downloading", "extracting"}]
    lines = []
    for layer in moving[:LAYERS]:
        text = Text(f"  {safe(layer.id)[:12]:<12} {layer.state:<11} ", DIM, no_wrap=True)
        if layer.total:
            text.append(f"{bar(layer.done / layer.total, 10)} {bytes_text(layer.done)} of {bytes_text(layer.total)}")
        lines.append(text)
    counts = [
        f"{number} {word}"
        for word, states in (("done", {"done"}), ("here already", {"exists"}), ("waiting", {"waiting"}))
        if (number := sum(layer.state in states for layer in pull.layers))
    ]
    if pull.layers:
        lines.append(Text(f"  {len(pull.layers)} layers: {', '.join(counts)}", DIM, no_wrap=True))
    return lines
