"""What a check says, and how many of them run side by side without one of them holding up the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from isobench_tui.engine.threads import in_thread
from isobench_tui.store.answer import ENGINE, OK

LIMIT_S = 4.0
"""Seconds that a check may take, if it does not ask for more."""

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor."""

    name: str
    level: Level
    seen: str
    do: tuple[str, ...] = ()
    """Commands, or a sentence; nothing where all is well."""
    code: int = ENGINE
    """Exit code of a command that this would stop, where `level` is fail."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that has not run yet."""

    name: str
    work: Callable[[], Check | list[Check]]
    limit: float = LIMIT_S
    """Seconds."""


def ok(name: str, seen: str) -> Check:
    return Check(name, "ok", seen)


def warn(name: str, seen: str, *do: str) -> Check:
    return Check(name, "warn", seen, do)


def fail(name: str, seen: str, *do: str, code: int = ENGINE) -> Check:
    return Check(name, "fail", seen, do, code)


async def run_all(probes: Sequence[Probe]) -> list[Check]:
    """What they say, in their own order. One that is late or breaks is a warning, and its thread is left behind."""
    said = await asyncio.gather(*(_run(probe) for probe in probes))
    return [check for checks in said for check in checks]


def exit_code(checks: Sequence[Check]) -> int:
    """0: a run could start; else how it would end: the campaign's fault (2) before the machine's (3)."""
    return min((check.code for check in checks if check.level == "fail"), default=OK)


async def _run(probe: Probe) -> list[Check]:
    try:
        said = await in_thread(f"doctor: {probe.name}", probe.work, probe.limit)
    except TimeoutError:
        return [warn(probe.name, f"no answer in {probe.limit:g} s: something on this host hangs", "dmesg | tail -50")]
    except Exception as error:  # a check that cannot be made must not take the others with it
        return [warn(probe.name, f"could not be checked: {type(error).__name__}: {error}")]
    return said if isinstance(said, list) else [said]
