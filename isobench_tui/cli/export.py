"""`export`: the result table, the leaderboard or the events as Markdown, CSV or JSON."""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

from isobench_tui.report.export import write_export
from isobench_tui.report.save import render
from isobench_tui.store import db
from isobench_tui.store.answer import OK
from isobench_tui.store.selectors import campaign_id
from isobench_tui.store.workspace import find


def export(options: argparse.Namespace) -> int:
    with _uncollected():
        return _export(options)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """All that is read lives to the end: the collector would walk it over and over and find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _export(options: argparse.Namespace) -> int:
    connection = db.open_store(find(options.workspace))
    if options.campaign is not None:
        campaign_id(connection, options.campaign)
    with db.snapshot(connection):
        text = render(connection, options.what, options.format, options.campaign)
    if options.output is None:
        sys.stdout.writelines(text)
        return OK
    path = Path(options.output)
    write_export(path, text)
    print(f"wrote {path}", file=sys.stderr)
    return OK
