"""The state tree of an ISO-Bench checkout: what agents did, and the patches that they left.

    state/runs/<repo>/<agent>/<model>/<YYYY-MM-DD_HH-MM-SS>/<item>/
        journal.json        task_id, commits {pre, human}, status, run_metadata {repo, agent, model, run_timestamp}
        run_summary.json    meta {agent, model, timestamp}, commits {human, pre}, agent {status, patch_generated}
        model_patch.diff    the patch
        prediction.jsonl    {"instance_id", "model_patch", "model_name_or_path"}

An item's name says nothing about its commit: it is found by `commits.human` in 8 or 40 digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isobench_tui.campaign import prediction
from isobench_tui.campaign.files import Unreadable, read
from isobench_tui.campaign.isobench_files import (
    JSON_CAP,
    Odd,
    commit,
    document,
    encodable,
    entries,
    is_folder,
    text,
)
from isobench_tui.campaign.problems import Notes, plain

FOLDER = "state/runs"
_JOURNAL, _SUMMARY, _PATCH, _PREDICTION = "journal.json", "run_summary.json", "model_patch.diff", "prediction.jsonl"
NO_PATCH = "no patch, so no agent job"
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", re.ASCII)
_PATCH_CAP = 64 * 1024**2
_DEEPEST = 8
_MOST = 200_000
"""Entries of a tree that are looked at; a campaign of 100 tasks and 10 agents has some 20,000."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one run of an agent left for one commit."""

    folder: Path
    run: str
    """The run's timestamp, empty where neither a folder nor the journal has one. Sorts by time."""
    human: str
    """The human commit in 8 to 40 hex digits, empty where nothing says it."""
    parent: str
    """The commit that the agent started from, empty where nothing says it."""
    patch: Path | None
    """model_patch.diff, or a prediction.jsonl with the patch in it."""
    remarks: tuple[str, ...]
    """What is odd about it, in sentences."""
    agent: str = ""
    model: str = ""
    """As journal.json or run_summary.json name them."""


def items(top: Path, notes: Notes, root: Path) -> list[Item]:
    """Every item in or below a folder, by path. What cannot be looked at is noted by its path below `root`."""
    found: list[Item] = []
    left = [(top, 0)]
    seen = 0
    while left:
        folder, depth = left.pop()
        try:
            inside = entries(folder)
        except Unreadable as error:
            notes.warn(shown(folder, root), f"not searched: {error}")
            continue
        seen += len(inside)
        if seen > _MOST:
            notes.warn(shown(top, root), f"holds more than {_MOST} files and folders: the rest was not searched")
            break
        if {entry.name for entry in inside} & {_JOURNAL, _SUMMARY, _PATCH, _PREDICTION}:
            found.append(_item(folder))
            continue
        for entry in inside:
            path = folder / entry.name
            if not encodable(entry.name):
                notes.warn(shown(path, root), "not searched: its name is not UTF-8")
            elif entry.is_symlink():
                notes.info(shown(path, root), "not searched: a link, which is not followed")
            elif is_folder(entry) and depth >= _DEEPEST:
                notes.warn(shown(path, root), f"not searched: more than {_DEEPEST} folders down")
            elif is_folder(entry):
                left.append((path, depth + 1))
    found.sort(key=lambda item: str(item.folder))
    return found


def shown(path: Path, root: Path) -> str:
    """A path as findings name it: short, and on one line."""
    try:
        return plain(str(path.relative_to(root)))
    except ValueError:
        return plain(str(path))


def _item(folder: Path) -> Item:
    remarks: list[str] = []
    journal, summary = _table(folder / _JOURNAL, remarks), _table(folder / _SUMMARY, remarks)
    commits, also = _under(journal, "commits"), _under(summary, "commits")
    human = _hash(commits, "human", _JOURNAL, remarks)
    again = _hash(also, "human", _SUMMARY, remarks)
    if human and again and not (human.startswith(again) or again.startswith(human)):
        remarks.append(f"{_SUMMARY} says that the commit is {again}, {_JOURNAL} {human}: the journal counts")
    elif len(again) > len(human):
        human = again
    parent = _hash(commits, "pre", _JOURNAL, remarks) or _hash(also, "pre", _SUMMARY, remarks)
    patch = _patch(folder, _under(summary, "agent"), remarks)
    _check_status(journal, summary, remarks)
    meta = _under(journal, "run_metadata") or _under(summary, "meta")
    run = _run(folder, journal, summary, remarks)
    said = (*remarks, *_who(folder, meta))
    return Item(folder, run, human, parent, patch, said, _text(meta, "agent"), _text(meta, "model"))


def _table(path: Path, remarks: list[str]) -> dict[str, Any]:
    try:
        found = document(path)
        if isinstance(found, dict):
            return found
        remarks.append(f"{path.name} is not an object")
    except Unreadable as error:
        remarks.append(f"{path.name}: {error}")
    return {}


def _under(table: dict[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _hash(table: dict[str, Any], key: str, source: str, remarks: list[str]) -> str:
    try:
        return commit(table.get(key))
    except Odd as error:
        remarks.append(f"commits.{key} in {source} {error}")
        return ""


def _text(table: dict[str, Any], key: str) -> str:
    try:
        return text(table.get(key))
    except Odd:
        return ""


def _run(folder: Path, journal: dict[str, Any], summary: dict[str, Any], remarks: list[str]) -> str:
    for name in reversed(folder.parts[-_DEEPEST - 1 :]):
        if _STAMP.fullmatch(name):
            return name
    for stamp in (
        _text(_under(journal, "run_metadata"), "run_timestamp"),
        _text(_under(summary, "meta"), "timestamp"),
    ):
        if _STAMP.fullmatch(stamp):
            return stamp
    remarks.append("nothing says when this run was: it counts as the oldest")
    return ""


def _who(folder: Path, meta: dict[str, Any]) -> list[str]:
    """Where the folder's place in the tree and the item's own files name different agents or models."""
    stamps = [i for i, name in enumerate(folder.parts) if _STAMP.fullmatch(name)]
    if not stamps or stamps[-1] < 2:
        return []
    odd = []
    for key, place in (("agent", folder.parts[stamps[-1] - 2]), ("model", folder.parts[stamps[-1] - 1])):
        said = _text(meta, key)
        if said and squash(said) != squash(place) and place != "default":
            odd.append(f'says that its {key} is "{plain(said, 60)}", but lies in the folder of {plain(place, 60)}')
    return odd


def squash(name: str) -> str:
    """Names as they are compared: `gpt-5`, `GPT_5` and `gpt5` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _patch(folder: Path, agent: dict[str, Any], remarks: list[str]) -> Path | None:
    """The item's patch; model_patch.diff wins over prediction.jsonl."""
    own = _read(folder / _PATCH)
    other = _read(folder / _PREDICTION)
    if isinstance(other, bytes):
        try:
            other = prediction.patch(other)
        except Unreadable as error:
            other = str(error)
    if isinstance(own, bytes):
        if isinstance(other, bytes) and own.strip() != other.strip():
            remarks.append(f"{_PREDICTION} has another patch ({len(other)} bytes) than {_PATCH} ({len(own)}), "
                           f"which is used")  # fmt: skip
        return folder / _PATCH
    if isinstance(other, bytes) and other.strip():
        remarks.append(f"{_PATCH}: {own}; the patch in {_PREDICTION} is used")
        return folder / _PREDICTION
    claims = f"; {_SUMMARY} says that one was generated" if agent.get("patch_generated") is True else ""
    why = other if isinstance(other, str) else "an empty patch"
    remarks.append(f"{NO_PATCH}: {_PATCH}: {own}; {_PREDICTION}: {why}{claims}")
    return None


def _read(path: Path) -> bytes | str:
    """The file's bytes, or why there are none."""
    if path.is_symlink():
        return "a link, which is not followed"
    try:
        return read(path, _PATCH_CAP if path.name == _PATCH else JSON_CAP)
    except Unreadable as error:
        return str(error)


def _check_status(journal: dict[str, Any], summary: dict[str, Any], remarks: list[str]) -> None:
    status = _text(journal, "status") or _text(_under(summary, "agent"), "status")
    if status and status != "success":
        remarks.append(f'the agent\'s run ended as "{plain(status, 60)}"')
