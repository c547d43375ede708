"""How long `isobench status` takes from its start to its end, in a workspace with a long campaign behind it.

    python benchmarks/status.py [--quick]

A bare interpreter (`python -c pass`) and `isobench --version` run in turn with it: the part that is not ours to mend,
and the part that every command pays. The bar holds for the median of the whole, interpreter and all.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bars import Bar, print_table, settle, spread
from history import fill

from isobench_tui.store.workspace import Workspace

ATTEMPTS = 2000
LIMIT_MS = 150


def milliseconds(argv: list[str]) -> float:
    """Wall time of a command that must succeed and print into the void."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description="How long `isobench status` takes.")
    parser.add_argument("--quick", action="store_true", help="7 runs instead of 21")
    runs = 7 if parser.parse_args().quick else 21
    isobench = str(Path(sys.executable).with_name("isobench"))
    with tempfile.TemporaryDirectory(prefix="isobench-status-") as folder:
        fill(Workspace(Path(folder)), ATTEMPTS).close()
        sides = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "isobench --version": [isobench, "--version"],
            "isobench status": [isobench, "status", "--workspace", folder],
        }
        for argv in sides.values():
            milliseconds(argv)  # once before it counts: files into the page cache, bytecode written
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(runs):
            for name, argv in sides.items():
                took[name].append(milliseconds(argv))
    print(f"{ATTEMPTS} attempts in the store, Python {sys.version.split()[0]}; milliseconds")
    print_table(("command", "runs", "median", "least", "most"), [(name, *spread(took[name])) for name in sides])
    return settle(Bar("status_ms", statistics.median(took["isobench status"]), "<=", LIMIT_MS))


if __name__ == "__main__":
    sys.exit(main())
