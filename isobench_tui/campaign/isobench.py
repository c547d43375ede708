"""Reads an ISO-Bench checkout: `[isobench]` -> what each task is, with everything that was odd about it.

The mapping files say what a commit's parent and perf_command are (`isobench_mapping`), the state tree has the agents'
patches (`isobench_state`). They disagree, leave out and shorten; what can be settled is settled and said, and what
cannot is left out with the reason. Nothing here runs or writes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from isobench_tui.campaign import isobench_agents, isobench_command, isobench_mapping
from isobench_tui.campaign.argv import CommandError
from isobench_tui.campaign.files import exists, local
from isobench_tui.campaign.isobench_mapping import Record, Said
from isobench_tui.campaign.isobench_state import Item, shown
from isobench_tui.campaign.problems import Notes, plain
from isobench_tui.campaign.spec import InlineTask, IsobenchTable, OverrideTable

_FULL = 40
_SHORT = 8
_LISTED = 5
_TEXT = 300


class _Missing(Exception):
    """Something that a task needs and the checkout cannot say; the message says why."""


class Checkout:
    """One checkout as one campaign sees it."""

    def __init__(self, table: IsobenchTable, base: Path, overrides: Sequence[OverrideTable], notes: Notes) -> None:
        self.table = table
        self.root = local(base, table.root)
        self.overrides = overrides
        self.notes = notes
        self.records: dict[str, Record] = {}
        self.runs: dict[str, list[Item]] = {}
        self._everything: list[Item] | None = None
        if not exists(self.root, folder=True):
            notes.error("isobench.root", f"{self.root}: no such folder", "the folder of an ISO-Bench checkout")
            return
        self.records = isobench_mapping.read(self._mappings(), notes, named=table.mapping is not None)
        self.runs = isobench_agents.runs(self.root, table.agents, notes)

    def _mappings(self) -> list[Path]:
        folders = isobench_agents.folders(self.root)
        if self.table.mapping is None:
            found = isobench_mapping.files(folders, self.notes)
            if not found:
                what = f"{self.root}: no mapping in its {isobench_mapping.FOLDER}"
                self.notes.error("isobench.root", what, "a checkout with one, or isobench.mapping")
            return found
        tries = [local(folder, self.table.mapping) for folder in folders]
        for path in tries:
            if exists(path):
                return [path]
        self.notes.error("isobench.mapping", f"{tries[0]}: no such file", "the path of a mapping file")
        return []

    def chosen(self) -> list[str]:
        """The commits that the campaign wants, as it names them or in 8 digits, in order."""
        if self.table.commits is not None:
            return list(dict.fromkeys(self.table.commits))
        if not self.runs:
            return list(self.records)
        ran = {item.human[:_SHORT] for items in self.runs.values() for item in items}
        without = [short for short in self.records if short not in ran]
        if without:
            text = f"commits of the mapping that no run of these agents has: {_counted(without)}, not in the campaign"
            self.notes.info("isobench.commits", text)
        unknown = sorted(ran - self.records.keys())
        if unknown:
            text = f"commits of these agents' runs that no mapping has: {_counted(unknown)}, not in the campaign"
            self.notes.warn("isobench.commits", text)
        return [short for short in self.records if short in ran]

    def knows(self, commit: str) -> bool:
        """Whether the checkout has anything about a commit."""
        return commit[:_SHORT] in self.records or any(
            isobench_agents.newest(items, commit)[0] for items in self.runs.values()
        )

    def fields(self, commit: str, own: InlineTask | None = None) -> tuple[dict[str, Any], list[str]]:
        """What the task of a commit says, as TaskTable has it, and why something of it is missing.

        The keys that `own` has win, and are not looked for.
        """
        short = commit[:_SHORT]
        record = self.records.get(short) or Record(short)
        given = {name: getattr(own, name) for name in own.model_fields_set} if own else {}
        for remark in record.remarks:
            self.notes.warn(short, remark)
        if not record.sources and not own:
            return {}, ["no mapping has it"]
        found: dict[str, Any] = {}
        reasons = []
        steps: dict[str, Callable[[], dict[str, Any]]] = {
            "commit": lambda: {"commit": self._full(record, commit)},
            "parent": lambda: {"parent": self._parent(record, given.get("commit") or found.get("commit", commit))},
            "perf_command": lambda: self._command(record),
        }
        for name, step in steps.items():
            try:
                found |= {} if name in given else step()
            except _Missing as error:
                reasons.append(str(error))
        found |= given
        if "commit" in found and (own or not reasons):
            patches = self._patches(found["commit"], found.get("parent", ""), given.get("patches", {}))
            found["patches"] = {**patches, **given.get("patches", {})}
        return found, reasons

    def finish(self, made: Iterable[str]) -> None:
        """Say what can only be seen over all tasks, `made` being their commits."""
        commits = list(made)
        for agent, items in self.runs.items():
            used = {item.run for commit in commits if (item := isobench_agents.newest(items, commit)[0])}
            if len(used) > 1:
                text = (
                    f"its patches come from {len(used)} runs: {', '.join(run or 'undated' for run in sorted(used))}"
                )
                self.notes.info(f"isobench.agents.{agent}", text)

    def _weigh(self, record: Record, what: Said, name: str) -> None:
        """Say where a value comes from if it is not from the first file, and which others there are."""
        mine = record.source(what)
        if mine and mine != record.sources[0]:
            self.notes.info(record.short, f"its {name} is from {mine}: {record.sources[0]} has none")
        for value, source in record.rest(what):
            where = f"another {name} than {mine}, which counts" if source != mine else f"a second {name}"
            self.notes.warn(record.short, f"{source} has {where}: {plain(value, _TEXT)}")

    def _full(self, record: Record, asked: str) -> str:
        """The commit in 40 digits: as asked for or mapped, else as a journal has it."""
        said = record.first("commit")
        if record.rest("commit"):
            others = ", ".join(value for value, _ in record.said["commit"])
            raise _Missing(f"the mappings mean different commits by it: {others}")
        if not (said.startswith(asked) or asked.startswith(said)):
            raise _Missing(f"no mapping has {asked}; {record.source('commit')} has {said}")
        said = max(said, asked, key=len)
        if len(said) == _FULL:
            if record.sources and record.first("commit") == said and record.source("commit") != record.sources[0]:
                text = f"its full hash is from {record.source('commit')}: {record.sources[0]} has 8 digits or none"
                self.notes.info(record.short, text)
            return said
        known = self._known("human", said, [item for items in self.runs.values() for item in items])
        known = known or self._known("human", said, self._all())
        if len(known) != 1:
            why = "different journals complete it differently" if known else "no journal or other record has it all"
            raise _Missing(f"{record.source('commit')} has only {len(said)} digits of its hash, and {why}")
        [(full, item)] = known.items()
        text = f"{record.source('commit')} has {len(said)} digits of its hash; the rest is from {self._shown(item)}"
        self.notes.info(record.short, text)
        return full

    def _parent(self, record: Record, commit: str) -> str:
        """The parent in 40 digits: as mapped, else as a journal of the commit has it."""
        self._weigh(record, "parent", "parent")
        said = record.first("parent")
        if len(said) == _FULL:
            return said
        mine = [item for items in self.runs.values() for item in items if commit.startswith(item.human)]
        known = self._known("parent", said, mine)
        known = known or self._known("parent", said, [item for item in self._all() if commit.startswith(item.human)])
        lacks = f"the mapping has only {len(said)} digits of its parent" if said else "no mapping has its parent"
        if len(known) != 1:
            why = "journals name different ones" if known else "no journal has it"
            raise _Missing(f"{lacks}, and {why}")
        [(full, item)] = known.items()
        self.notes.warn(record.short, f"{lacks}: {full[:12]} is where the agent of {self._shown(item)} started")
        return full

    def _known(self, what: str, begins: str, items: list[Item]) -> dict[str, Item]:
        """Whole hashes that begin so, with an item that has them."""
        found = {getattr(item, what): item for item in reversed(items)}
        return {full: item for full, item in found.items() if len(full) == _FULL and full.startswith(begins)}

    def _all(self) -> list[Item]:
        if self._everything is None:
            self._everything = isobench_agents.every_item(self.root)
        return self._everything

    def _command(self, record: Record) -> dict[str, Any]:
        self._weigh(record, "perf_command", "perf_command")
        self._weigh(record, "model", "model")
        try:
            found = isobench_command.described(record, self.overrides, self.notes)
        except CommandError as error:
            raise _Missing(f"perf_command: {error.what} ({plain(record.first('perf_command'), _TEXT)})") from error
        if not found:
            raise _Missing("no mapping has a perf_command for it")
        return found

    def _patches(self, commit: str, parent: str, given: dict[str, str]) -> dict[str, str]:
        """agent -> path of the patch of its newest run."""
        found: dict[str, str] = {}
        for agent, items in self.runs.items():
            if agent in given:
                continue
            where = f"{commit[:_SHORT]}:{agent}"
            item, older = isobench_agents.newest(items, commit)
            if item is None:
                self.notes.warn(where, "no run of this agent has this commit: no agent job for it")
                continue
            if older:
                text = (
                    f"the newest of {len(older) + 1} is used: {item.run or 'undated'}; the others: {', '.join(older)}"
                )
                self.notes.info(where, text)
            for remark in item.remarks:
                self.notes.warn(where, remark)
            if item.parent and parent and not (parent.startswith(item.parent) or item.parent.startswith(parent)):
                text = f"the agent started from {item.parent[:12]}, but the parent is {parent[:12]}"
                self.notes.warn(where, f"{text}: its patch may not apply")
            if item.patch:
                found[agent] = str(item.patch)
        return found

    def _shown(self, item: Item) -> str:
        return shown(item.folder, self.root)


def _counted(names: list[str]) -> str:
    listed = ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
    return f"{len(names)} ({listed})"
