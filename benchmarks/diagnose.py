"""How long 100 MB of log take to diagnose, from the start of `isobench diagnose` to its answer.

    python benchmarks/diagnose.py [--quick]

The log is what a vLLM server writes under load: a line a request, the periodic line, at times an error that is
not the cause. The cause stands in the middle, so that neither head nor tail would show it; the answer must name it.
Beside it stand a log without any error (all of it is skipped), and one in which every tenth line tells an error. The
bar holds for the first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bars import Bar, print_table, settle, spread

SIZE, SMALL = 100_000_000, 20_000_000
LIMIT_S = 3.0

REQUEST = '(APIServer pid=7) INFO:     127.0.0.1:43242 - "POST /v1/completions HTTP/1.1" 200 OK\n'
PERIODIC = (
    "(APIServer pid=7) INFO 11-22 09:04:01 [loggers.py:257] Engine 000: Avg prompt throughput: 12793.9 tokens/s, "
    "Avg generation throughput: 3423.1 tokens/s, Running: 100 reqs, Waiting: 3 reqs, GPU KV cache usage: 12.1%\n"
)
HARMLESS = "(APIServer pid=7) ERROR 11-22 09:04:02 [serving.py:99] one request was cancelled\n"
CAUSE = (
    "(Worker pid=9) ERROR 11-22 09:05:00 [multiproc_executor.py:953] torch.OutOfMemoryError: CUDA out of memory. "
    "Tried to allocate 2.00 GiB.\n"
    "(EngineCore pid=8) ERROR 11-22 09:05:01 [core.py:1510] EngineCore encountered a fatal error.\n"
)


def write(path: Path, size: int, block: str, cause: str) -> None:
    """A log of about `size` bytes with `cause` in its middle."""
    half = block.encode() * (size // 2 // len(block))
    path.write_bytes(half + cause.encode() + half)


def seconds(path: Path, failure: str) -> float:
    """Wall time of one diagnosis by the command line; its answer must be `failure`."""
    start = time.perf_counter()
    argv = [str(Path(sys.executable).with_name("isobench")), "diagnose", str(path), "--exit", "1", "--json"]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    took = time.perf_counter() - start
    found = json.loads(answer)["class"]
    if found != failure:
        raise SystemExit(f"{path.name}: {found}, not {failure}")
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description="How long 100 MB of log take to diagnose.")
    parser.add_argument("--quick", action="store_true", help="3 runs instead of 9, the other sides on 20 MB")
    quick = parser.parse_args().quick
    usual = PERIODIC + REQUEST * 40
    sides = {
        "a cause in the middle": (SIZE, usual * 200 + HARMLESS, CAUSE, "gpu_oom_capacity"),
        "no error": (SMALL if quick else SIZE, usual, "", "server_crash"),
        "errors everywhere": (SMALL if quick else SIZE, REQUEST * 9 + HARMLESS, CAUSE, "gpu_oom_capacity"),
    }
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="isobench-diagnose-") as folder:
        for number, (size, block, cause, _) in enumerate(sides.values()):
            write(Path(folder) / f"server-{number}.log", size, block, cause)
        for _ in range(3 if quick else 9):
            for number, (name, (_size, _block, _cause, failure)) in enumerate(sides.items()):
                took.setdefault(name, []).append(1000 * seconds(Path(folder) / f"server-{number}.log", failure))
    rows = [(f"{sides[name][0] // 10**6} MB, {name}", *spread(values)) for name, values in took.items()]
    print(f"Python {sys.version.split()[0]}; milliseconds")
    print_table(("log", "runs", "median", "least", "most"), rows)
    return settle(Bar("diagnose_100MB_s", statistics.median(took["a cause in the middle"]) / 1000, "<=", LIMIT_S))


if __name__ == "__main__":
    sys.exit(main())
