"""Reads what lies in an ISO-Bench checkout. Agents wrote parts of it, so it may hold anything.

Links are not followed, files have a cap, and text is taken only if a campaign file could hold it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from isobench_tui.campaign.files import Unreadable, read
from isobench_tui.campaign.problems import plain

JSON_CAP = 16 * 1024**2
"""Bytes of a JSON file; the largest published mapping has some 200 kB."""
_TEXT_CAP = 16_384
_HASH = re.compile(r"[0-9a-f]{8,40}", re.ASCII)
_NOTHING = {"", "null", "none", "unknown", "n/a"}


class Odd(Exception):
    """A value that is there but cannot be used; the message says why in a few words."""


def document(path: Path) -> Any:
    """The file's JSON. Raises Unreadable."""
    if path.is_symlink():
        raise Unreadable("a link, which is not followed")
    try:
        return json.loads(read(path, JSON_CAP).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from error


def text(value: object) -> str:
    """A JSON value as text, empty where it says nothing (null, "", "unknown"). Raises Odd."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Odd(f"is {_kind(value)}, not text")
    if value.strip().lower() in _NOTHING:
        return ""
    if "\0" in value:
        raise Odd("holds a NUL character")
    if "{isobench:" in value:
        raise Odd("holds {isobench:…}, which is ours")
    if len(value) > _TEXT_CAP:
        raise Odd(f"is longer than {_TEXT_CAP} characters")
    if not encodable(value):
        raise Odd("is not Unicode text")
    return value.strip()


def commit(value: object) -> str:
    """A JSON value as 8 to 40 lower-case hex digits, empty where it says nothing. Raises Odd."""
    found = text(value)
    if found and not _HASH.fullmatch(found.lower()):
        raise Odd(f'is "{plain(found, 60)}", not a commit')
    return found.lower()


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "something")


def encodable(value: str) -> bool:
    """Whether the text (or file name) is Unicode: names of other encodings reach Python as lone surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name. Raises Unreadable."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise Unreadable((error.strerror or str(error)).lower()) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether the entry is a folder itself, not a link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
