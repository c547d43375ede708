"""The logs of one attempt, and which of them is looked at through which filter and search."""

from __future__ import annotations

from pathlib import Path

from isobench_tui.store.rundir import RunDir
from isobench_tui.store.runlogs import log_names
from isobench_tui.tui.log.document import Document
from isobench_tui.tui.log.files import LogFile
from isobench_tui.tui.log.index import LineIndex
from isobench_tui.tui.log.match import Matcher
from isobench_tui.tui.log.page import Key, Lens
from isobench_tui.tui.log.scan import Scan
from isobench_tui.tui.log.state import ALL


def lens_on(document: Document, filtering: Matcher | None = None, searching: Matcher | None = None) -> Lens:
    """A document as nobody has counted it yet."""
    return Lens(
        document,
        LineIndex(document),
        None if filtering is None else Scan(document, filtering),
        None if searching is None else Scan(document, searching),
    )


class Attempt:
    """Open files of a run directory; `close` closes them. Without a directory: no logs."""

    def __init__(self, run_dir: Path | None = None, wanted: tuple[str, ...] | None = None) -> None:
        self._run = None if run_dir is None else RunDir(run_dir)
        self._wanted = wanted
        """None: whatever logs there are, also those still to come."""
        self.names: tuple[str, ...] = ()
        self.name = ALL
        self.lens = lens_on(Document(()))

    def list_names(self) -> bool:
        """Look for new logs. True if that changes what is looked at."""
        if self._run is None:
            return False
        names = tuple(self._wanted if self._wanted is not None else log_names(self._run.names()))
        if names == self.names:
            return False
        self.names = names
        return self.name == ALL

    def has(self, name: str) -> bool:
        return name == ALL or name in self.names

    def choose(self, name: str) -> None:
        """Look at one log, or at all of them; search and filter stay."""
        self.close()
        self.name = name
        names = self.names if name == ALL else (name,)
        files = [] if self._run is None else [LogFile(self._run, file) for file in names]
        old, document = self.lens, Document(files)
        self.lens = lens_on(
            document, old.filter.matcher if old.filter else None, old.search.matcher if old.search else None
        )
        document.refresh()

    def key(self, at: int | None) -> Key | None:
        """The line that begins at an offset of the document, whatever becomes of its offset."""
        document = self.lens.document
        piece = None if at is None else document.piece(at)
        if at is None or piece is None:
            return None
        return document.files[piece.file].name, piece.start + at - piece.at

    def offset(self, key: Key | None) -> int | None:
        """Where the document has this line now; None if it is not in it."""
        files = [file.name for file in self.lens.document.files]
        return self.lens.document.offset(files.index(key[0]), key[1]) if key and key[0] in files else None

    @property
    def trouble(self) -> str:
        """Why there is nothing to read."""
        files = self.lens.document.files
        if self._run is not None and not files:
            return "no log has been written yet"
        return "; ".join(f"{file.name} {file.problem}" for file in files if file.problem)

    def close(self) -> None:
        for file in self.lens.document.files:
            file.close()
