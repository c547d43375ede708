"""Which runs of an ISO-Bench checkout are an agent's, and which of them has a commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isobench_tui.campaign import isobench_state
from isobench_tui.campaign.files import Unreadable, exists, local
from isobench_tui.campaign.isobench_files import encodable, entries, is_folder
from isobench_tui.campaign.isobench_state import Item, shown, squash
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.spec import NEWEST

INNER = "ISO-Bench"
"""The folder in which some checkouts hold `state` and `data`."""

PUBLISHED = {
    "trae_sonnet45": "trae/claude-sonnet-45",
    "trae_gpt5_0123": "trae/gpt-5/2026-01-23_21-19-19",
    "trae_sonnet45_0123": "trae/us-anthropic-claude-sonnet-4-5-20250929-v1-0/2026-01-23_16-40-44",
}
"""Names under which results were published, where they do not follow from the folders' names."""
_LISTED = 8


@dataclass(frozen=True, slots=True)
class _Line:
    """All runs of one agent with one model."""

    agent: str
    model: str
    folder: Path

    def called(self, name: str) -> bool:
        """Whether people mean these runs by `name`: trae/gpt-5 is called `trae`, `trae_gpt5`, `trae-gpt-5`."""
        return squash(name) in {squash(self.agent), squash(self.agent + self.model)}


def runs(root: Path, agents: dict[str, str], notes: Notes) -> dict[str, list[Item]]:
    """Every item of each agent's runs. An agent whose runs are not found, or are several agents', is an error."""
    found: dict[str, list[Item]] = {}
    for agent, written in agents.items():
        tops = _named(root, agent, written, notes) if written != NEWEST else _looked_up(root, agent, notes)
        items = [item for top in tops for item in isobench_state.items(top, notes, root)]
        if tops and not items:
            notes.error(f"isobench.agents.{agent}", f"{shown(tops[0], root)}: no run in it", _accepted(root, notes))
        for item in items:
            if not item.human:
                why = "; ".join(remark for remark in item.remarks if not remark.startswith(isobench_state.NO_PATCH))
                notes.warn(shown(item.folder, root), f"not used, because nothing says which commit it is: {why}")
        found[agent] = [item for item in items if item.human]
    return found


def every_item(root: Path) -> list[Item]:
    """All items of all agents."""
    silent = Notes("")
    tops = [folder / isobench_state.FOLDER for folder in folders(root)]
    return [item for top in tops if exists(top, folder=True) for item in isobench_state.items(top, silent, root)]


def folders(root: Path) -> list[Path]:
    """Where `state` and `data` may lie: the root, and the folder of that name in it."""
    return [root, root / INNER] if exists(root / INNER, folder=True) else [root]


def newest(items: list[Item], commit: str) -> tuple[Item | None, list[str]]:
    """The newest item of a commit (with a patch, if two of one run have it), and the runs of the others."""
    known = [item for item in items if commit.startswith(item.human)]
    known.sort(key=lambda item: (item.run, item.patch is not None, str(item.folder)))
    return (known[-1], [item.run or "an undated run" for item in known[-2::-1]]) if known else (None, [])


def _named(root: Path, agent: str, written: str, notes: Notes) -> list[Path]:
    tries = [local(root, written), local(root / INNER, written)]
    if written.startswith(INNER + "/"):
        tries.append(local(root, written.removeprefix(INNER + "/")))
    for folder in tries:
        if exists(folder, folder=True):
            return [folder]
    notes.error(f"isobench.agents.{agent}", f"{tries[0]}: no such folder", _accepted(root, notes))
    return []


def _looked_up(root: Path, agent: str, notes: Notes) -> list[Path]:
    lines = _lines(root, notes)
    if agent in PUBLISHED:
        name, model, *stamp = PUBLISHED[agent].split("/")
        tops = [line.folder.joinpath(*stamp) for line in lines if (line.agent, line.model) == (name, model)]
        tops = [top for top in tops if exists(top, folder=True)]
        if tops:
            return tops
    lines = [line for line in lines if line.called(agent)]
    kinds = {(line.agent, line.model) for line in lines}
    if len(kinds) > 1:
        names = ", ".join(f"{name}/{model}" for name, model in sorted(kinds))
        notes.error(f"isobench.agents.{agent}", f"may be any of {names}", _accepted(root, notes))
        return []
    if not lines:
        notes.error(f"isobench.agents.{agent}", "no run of an agent of that name", _accepted(root, notes))
    return [line.folder for line in lines]


def _lines(root: Path, notes: Notes) -> list[_Line]:
    """Every <agent>/<model> of the state tree; the same one may lie in several repositories' folders."""
    tops = [folder / isobench_state.FOLDER for folder in folders(root)]
    level = [top for top in tops if exists(top, folder=True)]
    for _ in range(3):  # repository, agent, model
        level = [below for folder in level for below in _below(folder, root, notes)]
    return [_Line(folder.parent.name, folder.name, folder) for folder in level]


def _below(folder: Path, root: Path, notes: Notes) -> list[Path]:
    try:
        inside = entries(folder)
    except Unreadable as error:
        notes.warn(shown(folder, root), f"not searched: {error}")
        return []
    for entry in inside:
        if entry.is_symlink():
            notes.info(shown(folder / entry.name, root), "not searched: a link, which is not followed")
    return [folder / entry.name for entry in inside if is_folder(entry) and encodable(entry.name)]


def _accepted(root: Path, notes: Notes) -> str:
    known = [shown(line.folder, root) for line in _lines(root, notes)]
    listed = ", ".join(known[:_LISTED]) + (" …" if len(known) > _LISTED else "")
    return "a run directory relative to root" + (f", in or below one of {listed}" if known else "")
