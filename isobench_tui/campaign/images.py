"""Image references: templates, and what they become."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Literal

from isobench_tui.campaign.files import exists, local

_FIELDS = "{commit} and {parent}, shortened like {parent:.12}"
_SHORTENED = re.compile(r"(?:\.[1-9]\d?)?", re.ASCII)
_LONGEST = 1024
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?:[A-Za-z0-9.-]+(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}",
    re.ASCII,
)


class ImageError(Exception):
    """A template or reference that names no image."""

    def __init__(self, what: str, accepted: str) -> None:
        super().__init__(what)
        self.what = what
        self.accepted = accepted


def render(template: str, *, commit: str, parent: str) -> str:
    """Fill a template. Raises ImageError for any field but `{commit}` and `{parent}` and any format but `.N`."""
    values = {"commit": commit, "parent": parent}
    made = ""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ImageError(f"not a template: {error}", _FIELDS) from error
    for literal, name, format_, conversion in parts:
        made += literal
        if name is None:
            continue
        if name not in values or conversion or not _SHORTENED.fullmatch(format_ or ""):
            raise ImageError(f"{{{name}{':' + format_ if format_ else ''}}} is no field of an image", _FIELDS)
        made += format(values[name], format_ or "")
    return made


def located(ref: str, kind: Literal["docker", "process"], base: Path) -> str:
    """The reference as jobs carry it: as written, or the absolute folder. Raises ImageError."""
    if kind == "process":
        folder = local(base, ref)
        if not exists(folder, folder=True):
            raise ImageError(
                f"{folder}: no such folder", "a folder with the tree to run, relative to the campaign file"
            )
        return str(folder)
    if not _REFERENCE.fullmatch(ref):
        raise ImageError(
            f'"{ref}" is no image reference', "[HOST[:PORT]/]NAME[:TAG][@sha256:…], the name in lower case"
        )
    return ref
