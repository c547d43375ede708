"""Finds old result files, and the patches that they were about."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isobench_tui.campaign import isobench_state, patchlint, prediction
from isobench_tui.campaign.files import Unreadable, exists
from isobench_tui.campaign.files import read as read_file
from isobench_tui.campaign.isobench_agents import PUBLISHED, every_item
from isobench_tui.campaign.isobench_files import encodable, entries
from isobench_tui.campaign.isobench_state import Item, squash
from isobench_tui.campaign.problems import Notes
from isobench_tui.results.audit import PatchNote
from isobench_tui.results.legacy import Record, Trouble, read
from isobench_tui.store.answer import USAGE, Rejected

CAP = 64 * 1024**2
"""Bytes of one result file or patch; the largest published one has some 70 kB."""
_ENDINGS = (".json", ".jsonl")


@dataclass(slots=True)
class Archive:
    """What the given paths hold."""

    records: list[Record] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    """File -> sha256 of its bytes."""
    others: list[str] = field(default_factory=list)
    """Sound JSON in a folder that is no result of any known form."""
    folders: list[Path] = field(default_factory=list)
    """Where the files lie, each once."""


def collect(paths: Sequence[str]) -> Archive:
    """Read files, and every JSON and JSONL file below folders. Raises Rejected for a path that does not exist."""
    archive = Archive()
    for given in paths:
        path = Path(given)
        if not exists(path):
            raise Rejected(f"{given}: no such file or folder", USAGE)
        if exists(path, folder=True):
            for file in _below(path):
                _add(archive, file, named=False)
        else:
            _add(archive, path, named=True)
    if not (archive.records or archive.troubles):
        raise Rejected(f"no result file in {', '.join(paths)}", USAGE)
    return archive


def _below(folder: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(files) if name.endswith(_ENDINGS) and encodable(name))


def _add(archive: Archive, path: Path, *, named: bool) -> None:
    name = str(path)
    if name in archive.digests:
        return
    try:
        data = read_file(path, CAP)
    except Unreadable as error:
        archive.troubles.append(Trouble(name, f"cannot be read: {error}"))
        return
    archive.digests[name] = hashlib.sha256(data).hexdigest()
    found = read(name, data)
    archive.records += found.records
    archive.troubles += found.troubles
    if not found.known:
        if named:
            archive.troubles.append(Trouble(name, "no result of any known form"))
        else:
            archive.others.append(name)
    elif path.parent not in archive.folders:
        archive.folders.append(path.parent)


_LOOSE = re.compile(r"(?:model_patch[._-])?([0-9a-f]{8,40})(?:[._-]+([A-Za-z][\w-]*))?\.(?:diff|patch)")
_DAY = re.compile(r"(.+)_(\d{4})")


class Patches:
    """The patches that can be found: a state tree's, and loose ones beside the results.

    A loose one is called `model_patch.COMMIT.AGENT.diff` or `COMMIT.diff`, and lies in a folder of results, in the
    one above it, or in the folder given as `--agent-runs`.
    """

    def __init__(self, folders: Iterable[Path], runs: str | None) -> None:
        self._loose: list[tuple[str, str, Path]] = []
        tops = [top for folder in folders for top in (folder, folder.resolve().parent)]
        self._items: list[Item] = []
        if runs is not None:
            top = Path(runs)
            if not exists(top, folder=True):
                raise Rejected(f"{runs}: no such folder", USAGE)
            self._items = every_item(top) or isobench_state.items(top, Notes(runs), top)
            tops.append(top)
        for top in dict.fromkeys(tops):
            self._loose += _loose(top)
        self._read: dict[Path, PatchNote | None] = {}

    def of(self, record: Record) -> PatchNote | None:
        """What is known of an agent's patch; None where none was found."""
        if record.arm != "agent" or not record.commit:
            return None
        mine = [
            item
            for item in self._items
            if item.human and _same(item.human, record.commit) and _is_of(item, record.agent)
        ]
        for item in sorted(mine, key=lambda item: (item.run, str(item.folder)), reverse=True):
            if item.patch is not None and (note := self._note(item.patch)) is not None:
                return note
        for commit, agent, path in self._loose:
            if _same(commit, record.commit) and (not agent or _called(agent, record.agent)):
                return self._note(path)
        return None

    def _note(self, path: Path) -> PatchNote | None:
        if path not in self._read:
            self._read[path] = _note(path)
        return self._read[path]


def _loose(top: Path) -> Iterable[tuple[str, str, Path]]:
    try:
        inside = entries(top)
    except Unreadable:
        return
    for entry in inside:
        found = _LOOSE.fullmatch(entry.name)
        if found and entry.is_file(follow_symlinks=False):
            yield found[1], found[2] or "", top / entry.name


def _same(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _called(name: str, agent: str) -> bool:
    """Whether a patch's name means the agent: `trae_gpt5` is also that of `trae_gpt5_0123`, a run of January 23."""
    day = _DAY.fullmatch(agent)
    return squash(name) in {squash(agent), squash(day[1]) if day else squash(agent)}


def _is_of(item: Item, agent: str) -> bool:
    """Whether an item of a state tree is what the results call `agent`. An item of nobody is everybody's."""
    parts = item.folder.resolve().parts
    stamped = item.run in parts and parts.index(item.run) >= 2
    who, model = (parts[parts.index(item.run) - 2 : parts.index(item.run)]) if stamped else (item.agent, item.model)
    if not who or not agent:
        return True
    if agent in PUBLISHED:
        name, published, *run = PUBLISHED[agent].split("/")
        if (squash(who), squash(model)) == (squash(name), squash(published)):
            return not run or item.run in {"", run[0]}
    day = _DAY.fullmatch(agent)
    if day and item.run and item.run[5:10].replace("-", "") != day[2]:
        return False
    return squash(day[1] if day else agent) in {squash(who), squash(who + model)}


def _note(path: Path) -> PatchNote | None:
    try:
        data = read_file(path, CAP)
        if path.name.endswith(".jsonl"):
            data = prediction.patch(data)
    except Unreadable:
        return None
    empty, remarks = "", []
    compiled: tuple[str, ...] = ()
    for finding in patchlint.lint(data):
        if finding.kind in {"empty", "only_nested_patch", "not_a_diff"}:
            empty = finding.text
        elif finding.kind == "compiled_sources":
            compiled = finding.paths
        else:
            remarks.append(f"{path.name}: {finding.text}")
    paths = patchlint.read(data).paths
    return PatchNote(path.name, empty, compiled, tuple(remarks), paths, hashlib.sha256(data).hexdigest())
