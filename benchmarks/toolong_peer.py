"""The other side of `dashboard_log.py`: toolong's own app, without a terminal, opens a log and searches it.

    PYTHON_OF_A_VENV_WITH_TOOLONG benchmarks/toolong_peer.py LOG NEEDLE LINES

Prints one JSON object: seconds until all lines were found, seconds until the needle was, and the memory that took.
Imports nothing of isobench: toolong needs another version of Textual, hence an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any


def resident_mb() -> float:
    """Memory of this process by proc(5), MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


async def measure(log: str, needle: str, count: int) -> dict[str, float]:
    from toolong.log_lines import LogLines  # type: ignore[import-not-found]
    from toolong.ui import UI  # type: ignore[import-not-found]

    before = resident_mb()
    started = time.perf_counter()
    app: Any = UI([log])
    async with app.run_test(size=(160, 48)) as pilot:
        while not app.screen.query(LogLines):
            await pilot.pause(0.005)
        lines = app.screen.query_one(LogLines)
        while lines.loading or lines.line_count < count:
            await pilot.pause(0.005)
        opened = time.perf_counter() - started
        lines.show_find, lines.find, lines.case_sensitive, lines.regex = True, needle, True, False
        await pilot.pause()
        lines.pointer_line = 0  # it stood at the end of the file; the needle is to be looked for from the start
        started = time.perf_counter()
        lines.advance_search(1)
        found = time.perf_counter() - started
        assert needle in lines.get_line_from_index_blocking(lines.pointer_line)
        return {"open_s": opened, "search_s": found, "memory_mb": resident_mb() - before, "lines": lines.line_count}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
