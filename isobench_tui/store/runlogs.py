"""The logs of a run directory: their names, their order, and the form of the time index beside each."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

INDEX = struct.Struct("<dQ")
"""One entry of `*.idx`: unix seconds, bytes of the log at that time."""

_NAME = re.compile(r"(setup|server|client-\d+|driver)\.log")
_ORDER = {"driver": 0, "setup": 1, "server": 2, "client": 3}


def log_names(names: Iterable[str]) -> list[str]:
    """Those of the names that are logs, in the order of the phases that write them."""
    found = (name for name in names if _NAME.fullmatch(name))
    return sorted(found, key=lambda name: (_ORDER[re.split(r"[-.]", name)[0]], name))
