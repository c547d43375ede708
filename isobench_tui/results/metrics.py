"""The metrics that vLLM's clients write: name, unit, direction. Names are vLLM's own JSON field names.

Source: the print templates and JSON keys of vLLM 0.2 - 0.33 (`vllm/benchmarks/serve.py`, `throughput.py`,
`latency.py` and the scripts before them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from isobench_tui.results.models import Better, Metric

if TYPE_CHECKING:
    from isobench_tui.campaign.models import Mode

_TABLE: Final[dict[str, tuple[str, Better]]] = {
    # serving
    "request_throughput": ("req/s", "higher"),
    "request_goodput": ("req/s", "higher"),
    "input_throughput": ("tok/s", "higher"),
    "output_throughput": ("tok/s", "higher"),
    "total_token_throughput": ("tok/s", "higher"),
    "max_output_tokens_per_s": ("tok/s", "higher"),
    "max_concurrent_requests": ("requests", "none"),
    "duration": ("s", "none"),
    "total_input_tokens": ("tokens", "none"),
    "total_output_tokens": ("tokens", "none"),
    # throughput; output_throughput has no JSON name there, it is only printed
    "requests_per_second": ("req/s", "higher"),
    "tokens_per_second": ("tok/s", "higher"),
    "elapsed_time": ("s", "none"),
    "total_num_tokens": ("tokens", "none"),
    # latency
    "avg_latency": ("s", "lower"),
    # prefix caching: printed only, with the input_throughput and output_throughput of the progress bar
    "cost_time": ("s", "lower"),
}
_SERVING_LATENCY = re.compile(r"(mean|median|std|p\d{1,3}(?:\.\d+)?)_(ttft|tpot|itl|e2el)_ms")
_OFFLINE_PERCENTILE = re.compile(r"p\d{1,3}(?:\.\d+)?_latency")

CORE: Final[dict[Mode, tuple[str, ...]]] = {
    "serving": ("request_throughput", "output_throughput"),
    "throughput": ("requests_per_second", "tokens_per_second"),
    "latency": ("avg_latency",),
    "prefix_caching": ("cost_time",),
}
"""What must be there, finite and positive, for a mode to have metrics at all."""

HEADLINE: Final[Mapping[str, str]] = {
    "serving": "output_throughput",
    "throughput": "tokens_per_second",
    "latency": "avg_latency",
    "prefix_caching": "cost_time",
}
"""Mode -> the one metric that stands for a result of it where there is room for one."""


def headline(mode: Mode) -> str:
    """The metric of `HEADLINE`."""
    return HEADLINE[mode]


def describe(name: str) -> tuple[str, Better] | None:
    """Unit and direction of a metric; None for names that are no metric of ours."""
    if name in _TABLE:
        return _TABLE[name]
    if found := _SERVING_LATENCY.fullmatch(name):
        return "ms", "none" if found[1] == "std" else "lower"
    return ("s", "lower") if _OFFLINE_PERCENTILE.fullmatch(name) else None


def metric(name: str, value: float) -> Metric:
    """Raises KeyError for a name that `describe` does not know."""
    known = describe(name)
    if known is None:
        raise KeyError(name)
    return Metric(name, value, *known)
