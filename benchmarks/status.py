"""How long `isobench status` takes from its start to its end, in a workspace with a long campaign behind it.

    python benchmarks/status.py [--quick]

In turn with it run a bare interpreter (`python -c pass`: not ours to mend), `isobench --version` (what every command
pays) and the same command in a short campaign (what does not grow). The bar holds for the median of the whole.
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

ATTEMPTS, FEW = 2000, 30
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
        sides = {"python -c pass": [sys.executable, "-c", "pass"], "isobench --version": [isobench, "--version"]}
        for count in (FEW, ATTEMPTS):
            workspace = Workspace(Path(folder) / str(count))
            fill(workspace, count).close()
            sides[f"isobench status, {count} attempts"] = [isobench, "status", "--workspace", str(workspace.root)]
        for argv in sides.values():
            milliseconds(argv)  # once before it counts: files into the page cache, bytecode written
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(runs):
            for name, argv in sides.items():
                took[name].append(milliseconds(argv))
    print(f"Python {sys.version.split()[0]}; milliseconds")
    print_table(("command", "runs", "median", "least", "most"), [(name, *spread(took[name])) for name in sides])
    return settle(Bar("status_ms", statistics.median(took[list(sides)[-1]]), "<=", LIMIT_MS))


if __name__ == "__main__":
    sys.exit(main())
