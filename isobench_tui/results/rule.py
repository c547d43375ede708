"""What a rule of the table in `rules` is made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from isobench_tui.results.clues import Clue
from isobench_tui.results.models import Blame

FileKind = Literal["setup", "server", "client", "engine", "other"]
"""Of which program a log is; `engine` is what the container engine said, `other` is not known."""


@dataclass(frozen=True, slots=True)
class Retry:
    """What a failure class does to its job and to the queue."""

    attempts: int = 1
    """Counted attempts that a job may spend on it, the campaign's max_attempts permitting."""
    pauses: bool = False
    """A fault of the machine, not of the job: the queue pauses, the job burns nothing and is tried again."""
    repeats: bool = True
    """Counts towards `same_failure`: seen over different tasks it points at the harness, not at a patch."""

    def __str__(self) -> str:
        if self.pauses:
            return "the queue pauses and looks again; the job burns no attempt"
        return "no retry" if self.attempts == 1 else f"at most {self.attempts} attempts"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Words of one line that show a class."""

    words: re.Pattern[str]
    where: frozenset[FileKind] | None = None
    """Only in logs of these programs (and in those of unknown origin); None: in any."""
    scope: Literal["log", "chain", "line"] = "chain"
    """`log`: the first error line of the whole log that fits; `chain`: the line nearest to the cause and those of the
    same failure; `line`: the nearest line only."""
    check: Callable[[re.Match[str], Clue], bool] | None = None
    """What must hold beside the words."""

    def fits(self, kind: FileKind, clue: Clue) -> bool:
        """Whether this line of a log of this kind shows it."""
        if self.where is not None and kind != "other" and kind not in self.where:
            return False
        found = self.words.search(clue.text)
        return found is not None and (self.check is None or self.check(found, clue))


@dataclass(frozen=True, slots=True)
class Rule:
    """One failure class."""

    failure: str
    blame: Blame
    """While nothing is known of the job's siblings."""
    remedy: str
    """One sentence: what the operator can do."""
    retry: Retry = Retry()
    patterns: tuple[Pattern, ...] = ()
    symptom: bool = False
    """Says what ended, not why: never replaces what is known already."""


ONCE = Retry()
TWICE = Retry(attempts=2)
THRICE = Retry(attempts=3)
MACHINE = Retry(pauses=True, repeats=False)
PATCH = Retry(repeats=False)


def anywhere(*words: str, check: Callable[[re.Match[str], Clue], bool] | None = None) -> Pattern:
    """Anywhere in a log: words that nothing but their cause would print."""
    return Pattern(re.compile("|".join(words)), scope="log", check=check)


def cause(
    *words: str, where: tuple[FileKind, ...] = (), check: Callable[[re.Match[str], Clue], bool] | None = None
) -> Pattern:
    """In the line nearest to the cause, or one that follows of it."""
    return Pattern(re.compile("|".join(words)), frozenset(where) or None, check=check)


def nearest(*words: str, check: Callable[[re.Match[str], Clue], bool] | None = None) -> Pattern:
    """In the line nearest to the cause alone: words that are also printed where nothing is wrong."""
    return Pattern(re.compile("|".join(words)), scope="line", check=check)
