"""Which releases of vLLM have a client and its options, as far as a release that lacks them is known.

Source: the parsers of `benchmarks/benchmark_*.py` and `vllm/benchmarks/*.py` in every source distribution from 0.6.2
to 0.33.0, and the argument namespaces that older releases print. What a campaign runs on is known only in the image:
the driver asks the client's own source there. This table is for the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from packaging.version import Version

from isobench_tui.campaign.argv import Option

Releases = dict[str, str]
"""Option (or "": the client itself) -> release."""


def _table(text: str) -> Releases:
    """Lines of a release and the options that it brought, or took away."""
    rows = (line.split() for line in text.strip().splitlines())
    return {"--" + name if name != "itself" else "": release for release, *names in rows for name in names}


SINCE: dict[str, Releases] = {
    "benchmark_serving.py": _table("""
        0.3.3 save-result result-dir
        0.5.1 result-filename
        0.5.2 random-input-len random-output-len random-range-ratio
        0.6.0 percentile-metrics metric-percentiles
        0.6.3 ignore-eos
        0.6.4 burstiness goodput max-concurrency
        0.6.5 tokenizer-mode
        0.7.0 served-model-name
        0.7.3 lora-modules
        0.8.0 save-detailed
        0.8.4 min-p temperature top-k top-p
        0.8.5 append-result
        0.9.1 custom-output-len custom-skip-chat-template
        0.9.2 ramp-up-end-rps ramp-up-start-rps ramp-up-strategy
        0.10.0 no-stream
    """),
    "benchmark_throughput.py": _table("""
        0.4.3 output-json
        0.6.6 lora-path
        0.8.0 dataset-name dataset-path disable-detokenize hf-split hf-subset prefix-len random-range-ratio
        0.10.0 no-stream
    """),
    "benchmark_latency.py": _table("""
        0.4.3 output-json
        0.8.0 disable-detokenize
    """),
    "benchmark_prefix_caching.py": _table("""
        0.6.3 seed
        0.6.5 prefix-len
        0.8.0 disable-detokenize
    """),
    "vllm bench serve": _table("""
        0.8.0 itself
        0.9.1 append-result dataset-path hf-output-len hf-split hf-subset min-p save-detailed sharegpt-output-len
        0.9.1 sonnet-input-len sonnet-output-len sonnet-prefix-len temperature top-k top-p
        0.9.2 backend custom-output-len custom-skip-chat-template ramp-up-end-rps ramp-up-start-rps ramp-up-strategy
        0.10.0 no-stream
        0.10.1 prefix-repetition-num-prefixes prefix-repetition-output-len prefix-repetition-prefix-len
        0.10.1 prefix-repetition-suffix-len ready-check-timeout-sec
        0.10.2 blazedit-max-distance blazedit-min-distance hf-name no-oversample random-batch-size request-id-prefix
        0.10.2 random-mm-base-items-per-request random-mm-bucket-config random-mm-limit-mm-per-prompt
        0.10.2 random-mm-num-mm-items-range-ratio spec-bench-category spec-bench-output-len
        0.11.0 header
        0.11.1 disable-shuffle extra-body frequency-penalty no-reranker num-warmups presence-penalty
        0.11.1 repetition-penalty skip-chat-template
        0.13.0 common-prefix-len
        0.14.0 input-len output-len
        0.16.0 enable-multimodal-chat
        0.17.0 asr-max-audio-len-sec asr-min-audio-len-sec insecure plot-dataset-stats plot-timeline
        0.17.0 skip-tokenizer-init timeline-itl-thresholds
        0.19.0 lora-assignment
        0.20.0 speed-bench-category speed-bench-dataset-subset speed-bench-output-len
        0.23.0 chat-template-kwargs custom-ensure-client-side-data self-timed timed-trace-chunk-hash-size
        0.23.0 timed-trace-label-hash-ids timed-trace-label-input-length timed-trace-label-output-length
        0.23.0 timed-trace-label-timestamp timed-trace-sec-multiplier
        0.24.0 bfcl-categories
        0.27.0 probe-request-rate
    """),
    "vllm bench throughput": _table("""
        0.8.5 itself
        0.10.1 prefix-repetition-num-prefixes prefix-repetition-output-len prefix-repetition-prefix-len
        0.10.1 prefix-repetition-suffix-len
        0.10.2 profile
        0.18.0 hf-enable-torch-compile
        0.19.0 lora-assignment
        0.21.0 hf-name
        0.22.0 num-warmups prequeue-requests
        0.24.0 custom-output-len enable-multimodal-chat no-oversample
    """),
    "vllm bench latency": _table("0.8.5 itself"),
}
"""Client -> what it has from which release on."""

UNTIL: dict[str, Releases] = {
    "benchmark_serving.py": _table("""
        0.8.0 best-of dataset
        0.10.2 itself
    """),
    "benchmark_throughput.py": _table("""
        0.6.3 use-beam-search use-new-beam-search-impl
        0.10.2 itself
    """),
    "benchmark_latency.py": _table("""
        0.9.1 profile-result-dir
        0.10.2 itself
    """),
    "benchmark_prefix_caching.py": {},
    "vllm bench serve": _table("""
        0.9.1 best-of
        0.11.1 custom-skip-chat-template endpoint-type
        0.14.0 common-prefix-len
        0.32.0 sonnet-input-len sonnet-output-len sonnet-prefix-len
    """),
    "vllm bench throughput": _table("0.32.0 dataset"),
    "vllm bench latency": _table("0.9.1 profile-result-dir"),
}
"""Client -> what it has no more from which release on; three of the scripts only say then that they moved."""


@dataclass(frozen=True, slots=True)
class Span:
    """The releases that have a client with all of some options. Empty strings: no bound known."""

    since: str = ""
    since_why: str = ""
    """What is as new as that."""
    before: str = ""
    before_why: str = ""
    """What that release has no more."""

    @property
    def empty(self) -> bool:
        return bool(self.since and self.before) and Version(self.since) >= Version(self.before)

    def __str__(self) -> str:
        parts = [f"vLLM {self.since} or newer ({self.since_why})"] if self.since else []
        if self.before:
            parts.append(f"{'' if parts else 'vLLM '}older than {self.before} ({self.before_why})")
        return ", ".join(parts)


def client_of(argv: Sequence[str]) -> str:
    """The client that an argv starts, as the tables name it: `benchmark_serving.py`, `vllm bench serve` and so on."""
    for at, word in enumerate(argv[:5]):
        if word == "bench":
            return "vllm bench " + "".join(argv[at + 1 : at + 2])
    return PurePosixPath(argv[1]).name if len(argv) > 1 else ""


def span(argv: Sequence[str], given: Iterable[Option]) -> Span:
    """The releases that can run a client with these options; no bound for what the tables do not have."""
    client = client_of(argv)
    names = ["", *(option.name for option in given)]

    def bounds(table: dict[str, Releases]) -> list[tuple[Version, str, str]]:
        known = table.get(client, {})
        return [(Version(known[name]), known[name], name or client) for name in names if name in known]

    since = max(bounds(SINCE), key=lambda row: row[0], default=(None, "", ""))
    before = min(bounds(UNTIL), key=lambda row: row[0], default=(None, "", ""))
    return Span(since[1], since[2], before[1], before[2])
