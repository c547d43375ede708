"""`audit` and `import`: the results of the runners that came before."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from isobench_tui.cli.archive import Archive, Patches, collect
from isobench_tui.report.audit import as_json, as_markdown, as_text
from isobench_tui.report.export import write_export
from isobench_tui.results.audit import Audited
from isobench_tui.results.audit import audit as judge
from isobench_tui.store.answer import FAILURES, OK


def audit(options: argparse.Namespace) -> int:
    archive, found = _audited(options)
    if options.format == "json":
        text = as_json(found)
    elif options.format == "md":
        text = as_markdown(found, options.title or "")
    else:
        text = as_text(found)
    if options.output is not None:
        write_export(Path(options.output), (text,))
        print(f"wrote {options.output}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    _leftovers(archive)
    return OK if all(one.agrees for one in found) else FAILURES


def _audited(options: argparse.Namespace) -> tuple[Archive, list[Audited]]:
    archive = collect(options.paths)
    patches = Patches(archive.folders, options.agent_runs)
    return archive, judge(archive.records, archive.troubles, patches.of)


def _leftovers(archive: Archive) -> None:
    if archive.others:
        some = ", ".join(Path(name).name for name in archive.others[:3]) + (" …" if len(archive.others) > 3 else "")
        print(f"isobench: {len(archive.others)} JSON files are no results: {some}", file=sys.stderr)


def import_(options: argparse.Namespace) -> int:
    """Put audited results into the store, in a campaign of their own."""
    from isobench_tui.store import commands, db
    from isobench_tui.store.answer import Rejected
    from isobench_tui.store.legacy import to_args
    from isobench_tui.store.workspace import find

    archive, found = _audited(options)
    first = Path(options.paths[0]).resolve()
    name = options.campaign or f"legacy-{_folder(first)}"
    args = to_args(name, str(first), found, archive.digests)
    workspace = find(options.workspace)
    answer = commands.call(workspace, db.create_store(workspace), "import", args)
    if answer.exit_code != OK:
        raise Rejected(answer.text, answer.exit_code)
    print(answer.text)
    for one in found:
        if one.record is None or not one.record.commit:
            why = one.remarks[0] if one.record is None and one.remarks else "it names no commit"
            print(f"isobench: not imported: {one.file}: {why}", file=sys.stderr)
    _leftovers(archive)
    return OK


def _folder(path: Path) -> str:
    """A folder's name; that of the one above where it is called `results`."""
    folder = path if path.is_dir() else path.parent
    return (folder.parent if folder.name == "results" and folder.parent.name else folder).name or "results"
