"""The story of a job in plain words: what ran, what happened, what proves it, what was done, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from isobench_tui.report.text import clock, span
from isobench_tui.report.why import Finding, Proof, Story, Try
from isobench_tui.store.clock import seconds

_LAST: Final = 12
"""Events of a job that are told; the older ones are in `why --json`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the story. Its lines may hold other people's text, as it was stored."""

    title: str
    lines: tuple[str, ...]
    marked: int | None = None
    """Index of the line that proves it, where it stands among others."""


def tell(story: Story) -> list[Part]:
    """The parts of the story in their order; those that nothing is known of are left out."""
    last = story.last
    parts = [Part("what ran", (_what_ran(story),))]
    if last is None:
        return [*parts, Part("what happened", (_waits(story),))]
    found = last.diagnosis
    parts.append(Part("what happened", (*_happened(story, last), *_waits_again(story))))
    if found is not None:
        parts += [_proof(found.evidence), Part("whose fault", (_fault(found),))]
    elif last.flags:
        flags = tuple(f"{flag.name} ({flag.effect}): {flag.text}" for flag in last.flags)
        parts.append(Part("what proves it", flags))
    parts.append(Part("what was done", tuple(_done(story, found))))
    if found is not None:
        parts.append(Part("what to do", (found.remedy, f"all of it: {last.run_dir}")))
    return [part for part in parts if part.lines]


def _what_ran(story: Story) -> str:
    whose = {
        "baseline": "the unpatched baseline",
        "human": "the human's commit",
        "agent": f"the baseline with the patch of {story.agent}",
    }[story.arm]
    last = story.attempts[-1] if story.attempts else None
    version = f", vLLM {last.vllm_version}" if last and last.vllm_version else ""
    model = last.model_used if last and last.model_used else story.model
    count = len(story.attempts)
    how_often = f"; {count} attempt{'s' * (count != 1)}" if count else ""
    return f"{whose}, {story.mode} of {model} in {story.image}{version}{how_often}"


def _waits(story: Story) -> str:
    if story.attempts:
        last = story.attempts[-1]
        return f"attempt {last.number} is running, in its phase {last.phase}"
    return f"it has not run yet, it is {story.state}" + (f": {story.reason}" if story.reason else "")


def _waits_again(story: Story) -> list[str]:
    if story.state == "done":
        return []
    if story.attempts[-1].outcome is None:
        return [f"attempt {story.attempts[-1].number} is running now"]
    return [f"the job is {story.state}" + (f": {story.reason}" if story.reason else "")]


def _happened(story: Story, last: Try) -> list[str]:
    took = span(max(0.0, seconds(last.ended_at or last.started_at) - seconds(last.started_at)))
    which = f"attempt {last.number}" if len(story.attempts) > 1 else "it"
    if last.outcome == "success":
        metric = last.metric
        number = f": {metric.name} {metric.value:.6g} {metric.unit}" if metric else ""
        invalid = "" if last.valid else ", but the result does not count"
        return [f"{which} succeeded after {took}{number}{invalid}"]
    found = last.diagnosis
    word = "timed out" if last.outcome == "timed_out" else last.outcome
    failed = next((phase.phase for phase in last.phases if phase.outcome in {"failed", "timed_out"}), None)
    where = f" in its phase {failed}" if failed else ""
    name = f": {found.failure}" if found else ""
    how = [f"exit code {last.exit_code}"] if last.exit_code else []
    how += [f"signal {last.signal}"] if last.signal else []
    how += ["killed for memory"] if last.oom_killed else []
    detail = f" ({', '.join(how)})" if how else ""
    return [f"{which} {word} after {took}{where}{name}{detail}", *([found.reason] if found else [])]


def _proof(evidence: Proof | None) -> Part:
    title = "what proves it"
    if evidence is None:
        return Part(title, ("no log line; that it ended so is all there is",))
    if not evidence.line:
        return Part(title, (f"{evidence.file}: {evidence.text}",))
    numbers = [one.line for one in evidence.context]
    if evidence.line not in numbers:
        return Part(title, (f"{evidence.file}:{evidence.line}: {evidence.text}",))
    lines = [f"{'>' if one.line == evidence.line else ' '} {one.line:6} | {one.text}" for one in evidence.context]
    return Part(title, (f"{evidence.file}:{evidence.line}", *lines), 1 + numbers.index(evidence.line))


def _fault(found: Finding) -> str:
    says = f": {found.siblings}" if found.siblings else ""
    leads = f"; the traceback leads to {found.frame} of the patch" if found.frame and not says else ""
    return f"{found.blame}{says}{leads}"


def _done(story: Story, found: Finding | None) -> Sequence[str]:
    events = [event for event in story.events if event.kind != "started"]
    out = [f"{len(events) - _LAST} older events are in `isobench why --json`"] if len(events) > _LAST else []
    out += [f"{clock(event.at)} {event.text}" for event in events[-_LAST:]]
    if found is not None and found.retry:
        out.append(f"the policy for {found.failure}: {found.retry}{_spent(story, found)}")
    return out


def _spent(story: Story, found: Finding) -> str:
    """How many attempts the job has left for a class that is tried again."""
    if found.most is None or found.most == 1 or story.max_attempts is None:
        return ""
    most = min(found.most, story.max_attempts)
    left = f", {most - story.counted} left" if story.state != "done" and story.counted < most else ""
    return f"; {story.counted} of {most} spent{left}"
