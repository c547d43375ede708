"""What measured code leaves behind: children that ignore signals, forked twice, daemons with and without our mark.

`PROGRAM` is a module for the trees of the tests; its `leave` runs in the server and the client where the task's
environment names a folder in STRAYS.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from isobench_tui.engine import procs

KINDS = ("child", "double", "daemon", "hidden")

PROGRAM = r'''"""SIMULATED: children left alone. Each writes a note in the folder when only SIGKILL ends it."""
import os, sys, time

CHILD = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""


def others(folder):
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as file:
                found += folder.encode() in file.read()
        except OSError:
            pass
    return found


def leave(folder, who):
    """A child, one that was forked twice, a daemon that holds no file of ours, and one without our environment."""
    if who == "server":
        with open(os.path.join(folder, "seen"), "a") as file:
            file.write("%d\n" % others(folder))
    for kind in ("child", "double", "daemon", "hidden"):
        note = os.path.join(folder, "%s-%s" % (who, kind))
        if os.path.exists(note):
            os.unlink(note)
        if os.fork() == 0:
            if kind in ("daemon", "hidden"):
                os.setsid()
                os.chdir("/")
            if kind == "child" or os.fork() == 0:
                for fd in range(3, 1024) if kind == "daemon" else ():
                    try:
                        os.close(fd)
                    except OSError:
                        pass
                env = {} if kind == "hidden" else dict(os.environ)
                os.execve(sys.executable, [sys.executable, "-c", CHILD, note], env)
            os._exit(0)
        while not os.path.exists(note):
            time.sleep(0.02)
'''


def left(folder: str) -> dict[int, str]:
    """Living strays of that folder on this host, in whatever container: pid -> `server-daemon` or the like."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            argv = procs.command(int(entry.name))
            if argv and argv[-1].startswith(f"{folder}/"):
                found[int(entry.name)] = argv[-1].rpartition("/")[2]
    return found
