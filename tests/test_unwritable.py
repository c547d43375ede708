"""A workspace that its reader may not write: it can be read, but not steered, and nothing in it changes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from member import Member

from isobench_tui.store import db, events
from isobench_tui.store.workspace import Workspace


@pytest.fixture
def theirs() -> Iterator[Workspace]:
    """Somebody else's workspace, readable for all; its newest event lies in the write-ahead log only."""
    with tempfile.TemporaryDirectory(prefix="isb-theirs-") as folder:
        workspace = Workspace(Path(folder))
        connection = db.create_store(workspace)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        events.add(connection, "test", "only in the log")
        for path in (workspace.root, *workspace.root.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield workspace
        connection.close()


def _copies() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("isobench-read-*"))


def _files(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in workspace.root.iterdir() if path.is_file()}


def test_it_is_read_from_a_private_copy_that_goes_again(theirs: Workspace, member: Member) -> None:
    before, copies = _files(theirs), _copies()
    script = (
        "import sys, tempfile, pathlib; from isobench_tui.store import db; "
        "from isobench_tui.store.workspace import Workspace; from isobench_tui.cli.main import main; "
        "c = db.open_store(Workspace(pathlib.Path(sys.argv[1]))); "
        "print(c.execute('SELECT text FROM events').fetchone()[0]); "
        "sys.exit(main(['status', '--json', '--workspace', sys.argv[1]]))"
    )
    done = member.script(script, str(theirs.root))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("only in the log\n")
    assert _files(theirs) == before
    assert _copies() == copies


def test_a_copy_goes_when_its_reader_is_done(theirs: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "writable", lambda workspace: False)
    copies = _copies()
    with contextlib.closing(db.open_store(theirs)) as connection:
        assert connection.execute("SELECT text FROM events").fetchone()["text"] == "only in the log"
        assert len(_copies() - copies) == 1
    assert _copies() == copies


def test_it_cannot_be_steered(theirs: Workspace, member: Member) -> None:
    script = "import sys; from isobench_tui.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = member.script(script, "pause", "--workspace", str(theirs.root))
    assert done.returncode == 2
    assert done.stderr == f"isobench: {theirs.root} is not writable for you: it can be read, but not steered\n"
