"""What a command answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK = 0
FAILURES = 1
USAGE = 2
ENGINE = 3
NOT_FOUND = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """One line for a person, the same for a program, and an exit code of the command line."""

    text: str
    exit_code: int = OK
    data: dict[str, Any] = field(default_factory=dict)


class Rejected(Exception):
    """A command that changes nothing: the transaction is undone, the reason is the answer."""

    def __init__(self, text: str, exit_code: int = USAGE) -> None:
        super().__init__(text)
        self.answer = Answer(text, exit_code)
