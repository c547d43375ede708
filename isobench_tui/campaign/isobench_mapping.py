"""The mapping files of an ISO-Bench checkout: which commit has which parent, model and perf_command.

Two shapes, both found in data/mappings/: an object of records by short commit (`benchmark_mode_mapping.json`:
commit_full, parent_commit, model, perf_command, benchmark_mode), and a list of records
(`complete_benchmark_mapping.json` and others: human_commit_full, human_commit_short, parent_commit, parent_short,
model, perf_command, gpu_config). Values are missing, shortened, or differ from file to file: all that was said is
kept, with the file that said it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from isobench_tui.campaign.files import Unreadable, exists
from isobench_tui.campaign.isobench_files import Odd, commit, document, encodable, entries, text
from isobench_tui.campaign.problems import Notes, plain

Said = Literal["commit", "parent", "model", "perf_command", "mode", "gpus"]

FOLDER = "data/mappings"
_FIRST = ("benchmark_mode_mapping.json", "complete_benchmark_mapping.json")
_KEYS: dict[Said, tuple[str, ...]] = {
    "commit": ("commit_full", "human_commit_full", "commit_hash"),
    "parent": ("parent_commit", "parent_short"),
    "model": ("model",),
    "perf_command": ("perf_command",),
    "mode": ("benchmark_mode",),
    "gpus": ("gpu_config",),
}
_OWN = "(its key)"
_SHORT = ("human_commit_short", "commit_short", _OWN)
_HASHES = {*_KEYS["commit"], *_KEYS["parent"], *_SHORT}
_NAMED = 3


@dataclass(slots=True)
class Record:
    """All that the mapping files say about one commit."""

    short: str
    """The commit's first 8 hex digits."""
    said: dict[Said, list[tuple[str, str]]] = field(default_factory=dict)
    """Values with the file that has them, in the order in which the files count; no value twice."""
    sources: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def first(self, what: Said) -> str:
        """The value that counts, empty if no file has one."""
        return self.said[what][0][0] if self.said.get(what) else ""

    def source(self, what: Said) -> str:
        """The file that has the value that counts."""
        return self.said[what][0][1] if self.said.get(what) else ""

    def rest(self, what: Said) -> list[tuple[str, str]]:
        """Other values than that one, with their files."""
        return self.said.get(what, [])[1:]


def files(folders: list[Path], notes: Notes) -> list[Path]:
    """The mapping files of a checkout, in the order in which they count."""
    found: list[Path] = []
    for folder in folders:
        if not exists(folder / FOLDER, folder=True):
            continue
        try:
            names = [entry.name for entry in entries(folder / FOLDER) if entry.name.endswith(".json")]
        except Unreadable as error:
            notes.warn(FOLDER, f"cannot be listed: {error}")
            continue
        names = [name for name in names if encodable(name)]
        names.sort(key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
        found += [folder / FOLDER / name for name in names]
    return found


def read(paths: list[Path], notes: Notes, *, named: bool = False) -> dict[str, Record]:
    """Records by the first 8 digits of their commit. Records without a commit are noted.

    So is a file that is no mapping; it is an error if the campaign has `named` it.
    """
    records: dict[str, Record] = {}
    for path in paths:
        try:
            rows = list(_rows(document(path)))
        except Unreadable as error:
            if named:
                notes.error("isobench.mapping", f"{path}: {error}", "a mapping file, in one of its two shapes")
            notes.warn(path.name, f"not used: {error}")
            continue
        lost = [key for key, row in rows if not _take(records, path.name, key, row)]
        if lost:
            shown = ", ".join(plain(key, 40) for key in lost[:_NAMED]) + (" …" if len(lost) > _NAMED else "")
            notes.warn(path.name, f"{len(lost)} of its {len(rows)} records name no commit: {shown}")
    return records


def _rows(found: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name for people, record) of either shape. Raises Unreadable for any other."""
    if isinstance(found, dict) and all(isinstance(row, dict) for row in found.values()):
        yield from found.items()
    elif isinstance(found, list) and all(isinstance(row, dict) for row in found):
        for number, row in enumerate(found, 1):
            yield f"record {number}", row
    else:
        raise Unreadable("neither an object of records nor a list of them")


def _take(records: dict[str, Record], source: str, key: str, row: dict[str, Any]) -> bool:
    """Add what one record says; False if it says of no commit."""
    remarks: list[str] = []
    full = _value(row, _KEYS["commit"], source, remarks)
    named = {} if key.startswith("record ") else {_OWN: key}
    short = (_value(row | named, _SHORT, source, remarks) or full)[:8]
    if not short:
        return False
    record = records.setdefault(short, Record(short))
    record.sources += [source] if source not in record.sources else []
    if full and not full.startswith(short):
        remarks.append(f"{source} files it under {short}, but says that its commit is {full}")
        full = ""
    record.remarks += remarks
    _say(record, "commit", full or short, source)
    for what, keys in _KEYS.items():
        if what != "commit":
            _say(record, what, _value(row, keys, source, record.remarks), source)
    return True


def _value(row: dict[str, Any], keys: tuple[str, ...], source: str, remarks: list[str]) -> str:
    for key in keys:
        try:
            found = (commit if key in _HASHES else text)(row.get(key))
        except Odd as error:
            remarks.append(f"{key} in {source} {error}")
            continue
        if found:
            return found
    return ""


def _say(record: Record, what: Said, value: str, source: str) -> None:
    """Keep a value; a shorter form of a known commit is no other value, and a longer one takes its place."""
    if not value:
        return
    known = record.said.setdefault(what, [])
    hashes = what in {"commit", "parent"}
    for i, (other, _) in enumerate(known):
        if other == value or (hashes and other.startswith(value)):
            return
        if hashes and value.startswith(other):
            known[i] = (value, source)
            return
    known.append((value, source))
