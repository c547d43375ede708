"""What is wrong with a campaign file, said so that it can be mended: file, key path, what would be accepted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from isobench_tui.campaign.models import Finding

_SHOWN = 160


def plain(text: str, limit: int | None = None) -> str:
    """`text` on one line: every character that a terminal might obey is written as its escape."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return safe if limit is None or len(safe) <= limit else safe[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a campaign from running."""

    file: str
    key: str
    """Key path such as `tasks[2].perf_command`; empty where the whole file is meant."""
    what: str
    accepted: str = ""
    """What would be accepted instead."""

    def __str__(self) -> str:
        parts = [self.file, *([self.key] if self.key else []), self.what]
        line = ": ".join(plain(part, 600) for part in parts)
        return f"{line}; accepted: {plain(self.accepted, 600)}" if self.accepted else line


class SpecError(Exception):
    """A campaign file that cannot be run. `str()` is one line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Notes:
    """Collects problems and findings while a file is read, so that the operator sees all of them at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._findings: dict[Finding, None] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Each finding once, in order."""
        return tuple(self._findings)

    def error(self, key: str, what: str, accepted: str = "") -> None:
        """Something that keeps the campaign from running."""
        self.problems.append(Problem(self.file, key, what, accepted))

    def warn(self, where: str, text: str) -> None:
        """Something that probably is a mistake."""
        self._find("warning", where, text)

    def info(self, where: str, text: str) -> None:
        """Something worth knowing."""
        self._find("info", where, text)

    def _find(self, level: Any, where: str, text: str) -> None:
        self._findings[Finding(level=level, where=where, text=text)] = None

    def check(self) -> None:
        """Raise SpecError if there is any problem."""
        if self.problems:
            raise SpecError(self.problems)


def rejected(what: str, accepted: str) -> PydanticCustomError:
    """The error that our own validators raise: what is wrong, and what would be accepted."""
    return PydanticCustomError("spec", "{what}", {"what": what, "accepted": accepted})


def key_path(loc: Sequence[int | str]) -> str:
    """`("tasks", 2, "model")` -> `tasks[2].model`."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else str(part)
    return path


def from_validation(file: str, error: ValidationError, root: type[BaseModel]) -> SpecError:
    """Translate pydantic's errors, one Problem each."""
    return SpecError(_problem(file, detail, root) for detail in error.errors(include_url=False))


def _problem(file: str, detail: ErrorDetails, root: type[BaseModel]) -> Problem:
    # Where a key of a table itself is wrong, pydantic ends the path with a marker of its own.
    loc = [part for part in detail["loc"] if part != "[key]"]
    context = detail.get("ctx", {})
    kind = detail["type"]
    key = key_path(loc)
    if kind == "spec":
        return Problem(file, key, str(context["what"]), str(context["accepted"]))
    if kind == "extra_forbidden":
        return _unknown_key(file, key, loc, root)
    described = _described(root, loc)
    if kind == "missing":
        return Problem(file, key, "is missing", described)
    message = detail["msg"]
    if not isinstance(detail["input"], dict | list):
        message += f", not {_shown(detail['input'])}"
    return Problem(file, key, message, described)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return plain(f'"{value}"' if isinstance(value, str) else str(value), _SHOWN)


def _unknown_key(file: str, key: str, loc: Sequence[int | str], root: type[BaseModel]) -> Problem:
    model = _model_at(root, loc[:-1])
    names = sorted(model.model_fields) if model else []
    close = difflib.get_close_matches(str(loc[-1]), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return Problem(file, key, f"unknown key{hint}", ", ".join(names))


def _model_at(root: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    for part in loc:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = _model_in(field.annotation) if field else None
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found:
            return found
    return None


def _described(root: type[BaseModel], loc: Sequence[int | str]) -> str:
    names = [i for i, part in enumerate(loc) if isinstance(part, str)]
    for last in reversed(names):
        model = _model_at(root, loc[:last])
        field = model.model_fields.get(str(loc[last])) if model else None
        if field and field.description:
            return " ".join(field.description.split())
    return ""
