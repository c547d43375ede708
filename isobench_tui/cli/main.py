"""`isobench`: read the command line, import what the command needs, turn known errors into one line and a code."""

from __future__ import annotations

import errno
import importlib
import io
import os
import stat
import sys

from isobench_tui.cli.parser import build

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code (0, 1, 2, 3, 4 or 130, as the README says)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # other people's text must not fail in a narrow locale
            stream.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    options = build(argv[0] if argv else None).parse_args(argv)
    module, _, function = options.call.partition(":")
    try:
        code: int = getattr(importlib.import_module(f"isobench_tui.cli.{module}"), function)(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _mute()
        return 0
    except Exception as error:
        if _terminal_is_gone(error):
            _mute()
            return INTERRUPTED
        known = _known(error, options.workspace)
        if known is None:
            raise
        text, code = known
        for line in text.splitlines():
            print(f"isobench: {line}", file=sys.stderr)
    return code


def _mute() -> None:
    """Whoever read us has gone: nothing is left to say, and nothing more may be written at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _terminal_is_gone(error: Exception) -> bool:
    """Writing to a terminal that was hung up gives EIO; SIGHUP may come a moment later."""
    if not isinstance(error, OSError) or error.errno != errno.EIO:
        return False
    return stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)


def _known(error: Exception, workspace: str | None) -> tuple[str, int] | None:
    """(text, exit code) of an error that is the user's to mend; None for a fault of ours."""
    import sqlite3

    from isobench_tui.store.answer import ENGINE, USAGE, Rejected
    from isobench_tui.store.workspace import WorkspaceError

    if isinstance(error, Rejected):
        return error.answer.text, error.answer.exit_code
    if isinstance(error, WorkspaceError):
        return str(error), USAGE
    if "isobench_tui.campaign.problems" in sys.modules:
        from isobench_tui.campaign.problems import SpecError

        if isinstance(error, SpecError):
            return str(error), USAGE
    if "isobench_tui.engine.base" in sys.modules:
        from isobench_tui.engine.base import EngineError

        if isinstance(error, EngineError):
            return str(error), ENGINE
    if isinstance(error, OSError):
        return str(error), USAGE
    if isinstance(error, sqlite3.Error):
        text = f"the workspace's database cannot be used: {error}"
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            from isobench_tui.store.backups import way_back
            from isobench_tui.store.workspace import find

            text += f"; {way_back(find(workspace))}"
        return text, USAGE
    return None


if __name__ == "__main__":
    sys.exit(main())
