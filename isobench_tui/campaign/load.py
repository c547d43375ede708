"""Campaign file -> Submission, or one clear line for everything that is wrong with it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from isobench_tui.campaign.expand import expand
from isobench_tui.campaign.files import Unreadable, read
from isobench_tui.campaign.models import Submission
from isobench_tui.campaign.problems import Notes, Problem, SpecError, from_validation, key_path
from isobench_tui.campaign.spec import CampaignFile
from isobench_tui.campaign.tasks import complete

__all__ = ["Problem", "SpecError", "load", "parse"]

_CAP = 4 * 1024**2
_DEEPEST = 32
_OURS = "{isobench:"


def load(path: str | os.PathLike[str]) -> Submission:
    """Read a campaign file and everything that it names.

    Raises SpecError, and nothing else, whatever the file holds.
    """
    shown = os.fspath(path)
    target = _absolute(shown)
    try:
        data = read(target, _CAP)
    except Unreadable as error:
        raise SpecError([Problem(shown, "", str(error), "a TOML file of at most 4 MiB")]) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8 (byte {data[error.start]:#04x} in line {line})"
        raise SpecError([Problem(shown, "", what, "a TOML file, which is UTF-8")]) from error
    return parse(text, target, shown)


def _absolute(shown: str) -> Path:
    try:
        target = Path(os.path.normpath(Path.cwd() / shown))
    except OSError as error:
        raise SpecError([Problem(shown, "", "the working directory is gone", "an absolute path")]) from error
    try:
        str(target).encode("utf-8")
    except UnicodeEncodeError as error:
        raise SpecError([Problem(shown, "", "a path that is not UTF-8", "another name for it")]) from error
    return target


def parse(text: str, path: Path, shown: str | None = None) -> Submission:
    """Like `load`, for a text already read; `path` is where relative paths start from. Raises SpecError."""
    shown = shown or str(path)
    document = _document(text, shown)
    notes = Notes(shown)
    _check_strings(document, notes)
    notes.check()
    try:
        spec = CampaignFile.model_validate(document)
    except ValidationError as error:
        raise from_validation(shown, error, CampaignFile) from error
    tasks = complete(spec, path.parent, notes)
    return expand(spec, tasks, path, text, notes)


def _document(text: str, shown: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError([Problem(shown, "", f"not TOML: {error}")]) from error
    except RecursionError as error:
        raise SpecError([Problem(shown, "", "nested too deeply", f"at most {_DEEPEST} levels")]) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise SpecError([Problem(shown, "", f"not TOML: {error}")]) from error


def _check_strings(document: dict[str, Any], notes: Notes) -> None:
    """Refuse what no argv, path or environment can hold, wherever it stands. Walks without recursion."""
    left: list[tuple[tuple[int | str, ...], Any]] = [((), document)]
    while left:
        loc, value = left.pop()
        if len(loc) > _DEEPEST:
            notes.error(key_path(loc[:3]) + "…", "nested too deeply", f"at most {_DEEPEST} levels")
            return
        if isinstance(value, dict):
            left += [((*loc, key), inner) for key, inner in value.items()]
            for key in value:
                _check_string((*loc, key), key, notes)
        elif isinstance(value, list):
            left += [((*loc, index), inner) for index, inner in enumerate(value)]
        elif isinstance(value, str):
            _check_string(loc, value, notes)


def _check_string(loc: tuple[int | str, ...], value: str, notes: Notes) -> None:
    if "\0" in value:
        notes.error(key_path(loc), "holds a NUL character", "text without it")
    if _OURS in value:
        notes.error(key_path(loc), f"{_OURS}…}} is ours", "text without it")
