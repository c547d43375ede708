"""The host around it: its clock, what a logout does, the clipboard of tmux, the workspace's file system."""

from __future__ import annotations

import configparser
import contextlib
import ctypes
import getpass
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from isobench_tui.doctor.check import Check, fail, ok, warn
from isobench_tui.doctor.docker import SYSTEMD
from isobench_tui.store.answer import USAGE
from isobench_tui.store.workspace import Workspace, WorkspaceError, file_system, refuse_remote

_UNSYNC: Final = 0x0040
"""STA_UNSYNC (linux/timex.h): nobody sets the kernel's clock right."""
_TIMEX_WORDS: Final = 64
"""Room for a struct timex, which has 208 bytes."""
LOGIND: Final = (
    "/usr/lib/systemd/logind.conf",
    "/etc/systemd/logind.conf",
    "/usr/lib/systemd/logind.conf.d",
    "/run/systemd/logind.conf.d",
    "/etc/systemd/logind.conf.d",
)
"""Where logind reads its settings, the later ones over the earlier (logind.conf(5))."""
_YES: Final = frozenset({"1", "yes", "y", "true", "t", "on"})
"""As systemd reads them (systemd.syntax(7))."""
_ELSEWHERE: Final = "--workspace DIR, or $ISOBENCH_WORKSPACE"
LINGER: Final = Path("/var/lib/systemd/linger")


def clock() -> Check:
    """Whether the kernel's clock is disciplined: adjtimex(2), which needs no service and no rights to read."""
    words = (ctypes.c_long * _TIMEX_WORDS)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(words) < 0:
        return warn("clock", f"adjtimex: {os.strerror(ctypes.get_errno())}")
    # struct timex: modes, offset, freq, maxerror, esterror, status (int) …; each of the first five takes a long
    status, worst_us = words[5] & 0xFFFFFFFF, words[3]
    if status & _UNSYNC:
        return warn(
            "clock",
            "not synchronised: times in the store may jump, and secrets and registries may refuse us",
            "timedatectl set-ntp true   # or start chrony; in a virtual machine the host may do it",
        )
    return ok("clock", f"synchronised, at most {worst_us / 1000:.0f} ms off")


def logout(settings: Mapping[str, str], user: str, *, systemd: bool, lingers: bool) -> Check:
    """Whether the runner outlives a logout. `settings`: of logind; its lists of users come before its yes or no
    (logind.conf(5))."""
    if not systemd:
        return ok("logout", "no systemd-logind here: nobody ends what a session leaves behind")
    setting = "yes" if settings.get("killuserprocesses", "no").lower() in _YES else "no"
    spared = (settings.get("killexcludeusers") or "root").split()
    only = settings.get("killonlyusers", "").split()
    if user in spared or (user not in only if only else setting == "no"):
        return ok("logout", f"KillUserProcesses={setting}, and {user}'s runner outlives the session")
    start = (
        "isobench service install   # the runner then belongs to no session",
        "or: systemd-run --user --scope isobench run …",
    )
    do = start if lingers else (f"loginctl enable-linger {shlex.quote(user)}", *start)
    why = f"KillOnlyUsers={' '.join(only)}" if only else "KillUserProcesses=yes"
    more = "" if lingers else ", and nothing of the user lingers"
    return warn("logout", f"{why}{more}: the end of the session ends the runner", *do)


def logout_here() -> Check:
    """`logout` of this host and user."""
    user = getpass.getuser()
    with contextlib.suppress(OSError):
        lingers = (LINGER / user).exists()
        return logout(logind(), user, systemd=SYSTEMD.is_dir(), lingers=lingers)
    return warn("logout", f"{LINGER} cannot be looked at")


def logind(places: tuple[str, ...] = LOGIND) -> dict[str, str]:
    """The settings of [Login], keys in lower case."""
    found: dict[str, str] = {}
    for place in map(Path, places):
        for file in sorted(place.glob("*.conf")) if place.is_dir() else [place]:
            parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
            with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
                parser.read_string(file.read_text())
                found.update({key: value or "" for key, value in parser["Login"].items()})
    return found


def tmux() -> Check | list[Check]:
    """Whether what the dashboard copies arrives; left out where no tmux runs for this user."""
    if shutil.which("tmux") is None:
        return []
    done = subprocess.run(
        ["tmux", "show-options", "-gsv", "set-clipboard"], capture_output=True, text=True, timeout=2, check=False
    )
    value = done.stdout.strip()
    if done.returncode != 0 or not value:
        return []
    if value == "on":
        return ok("tmux", "set-clipboard on: what the dashboard copies reaches your terminal")
    return warn(
        "tmux",
        f"set-clipboard {value}: what the dashboard copies is lost without a word",
        "tmux set-option -s set-clipboard on",
        "echo 'set-option -s set-clipboard on' >> ~/.tmux.conf",
    )


def workspace(place: Workspace) -> Check:
    """Whether the workspace can be one; nothing is made."""
    folder = next(path for path in (place.root, *place.root.parents) if path.exists())
    if not folder.is_dir():
        return fail("workspace", f"{folder} is no folder", _ELSEWHERE, code=USAGE)
    try:
        refuse_remote(folder)
    except WorkspaceError as error:
        return fail("workspace", str(error), _ELSEWHERE, code=USAGE)
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail("workspace", f"{folder} is not writable for {getpass.getuser()}", _ELSEWHERE, code=USAGE)
    state = "" if place.database.exists() else ", not made yet"
    state += ", a runner works there" if place.locked() else ""
    return ok("workspace", f"{place.root} ({file_system(folder)}{state})")
