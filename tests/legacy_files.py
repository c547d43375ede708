"""Result files of the old runners, made as those wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMMIT = "0123abcd" + "9" * 32
PARENT = "4567cdef" + "8" * 32
BLOCK = """============ Serving Benchmark Result ============
Successful requests:                     {n}
Benchmark duration (s):                  {duration}
Total input tokens:                      {tokens}
Total generated tokens:                  6400
Request throughput (req/s):              {rate}
Output token throughput (tok/s):         {output}
Total Token throughput (tok/s):          {total}
---------------Time to First Token----------------
Mean TTFT (ms):                          100.50
Median TTFT (ms):                        99.25
P99 TTFT (ms):                           150.75
==================================================
"""
SHORT = """============ Serving Benchmark Result ============
Request throughput (req/s):              {rate}
Output token throughput (tok/s):         {output}
Total Token throughput (tok/s):          {total}
Mean TTFT (ms):                          100.50
Median TTFT (ms):                        99.25
P99 TTFT (ms):                           150.75
==================================================
BENCHMARK_DONE
"""
LATENCY = """Profiling iterations: 100%|##########| 30/30 [02:04<00:00,  4.15s/it]
Avg latency: 4.15 seconds
50% percentile latency: 4.17 seconds
99% percentile latency: 4.45 seconds
"""
PULL = """Unable to find image 'somebody/vllm:baseline-4567cdef8888' locally
baseline-4567cdef8888: Pulling from somebody/vllm
9cb31e2e37ea: Pulling fs layer
9cb31e2e37ea: Pull complete
Digest: sha256:1234
Status: Downloaded newer image for somebody/vllm:baseline-4567cdef8888
"""
REJECTED = """checking file vllm/envs.py
Hunk #1 FAILED at 38.
1 out of 1 hunk FAILED
Patch dry-run failed, trying with --force...
AGENT_PATCH_APPLIED_FALLBACK
"""
CRASH = """=== Starting vLLM server for AGENT benchmark ===
Traceback (most recent call last):
  File "/opt/vllm_baseline/vllm/config.py", line 33, in <module>
    from vllm.compilation import nothing
ImportError: cannot import name 'nothing' from 'vllm.compilation' (/opt/vllm_baseline/vllm/compilation/__init__.py)
SERVER_CRASHED
"""
RECORDED = {
    "ttft_mean_ms": 100.5,
    "ttft_median_ms": 99.25,
    "ttft_p99_ms": 150.75,
    "request_throughput_req_s": 40.0,
    "output_token_throughput_tok_s": 2560.0,
    "total_token_throughput_tok_s": 12800.0,
}


def serving(n: int = 100, tokens: int = 25600, *, both: bool = True) -> str:
    """What a serving run printed: vLLM's block, and the harness's shortened copy of it."""
    rates = {"rate": "40.00", "output": "2560.00", "total": "12800.00"}
    full = BLOCK.format(n=n, duration="2.50", tokens=tokens, **rates)
    return full + SHORT.format(**rates) if both else full


def threeway(**changes: Any) -> dict[str, Any]:
    """A success of run_3way_benchmarks.py."""
    row: dict[str, Any] = {
        "human_commit": COMMIT[:8],
        "human_commit_full": COMMIT,
        "parent_commit": PARENT,
        "model": "facebook/opt-125m",
        "status": "success",
        "error": None,
        "duration_s": 203.9,
        "metrics": dict(RECORDED),
        "raw_output": serving() + PULL,
        "timestamp": "2026-01-14 21:01:19",
    }
    return {**row, **changes}


def failed(error: str, raw: str, **changes: Any) -> dict[str, Any]:
    """A failure of it."""
    return threeway(status="error", error=error, metrics={}, raw_output=raw, **changes)


def write(folder: Path, name: str, content: Any) -> Path:
    """A file of a result, as the runners name it; text is written as it is."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return path
