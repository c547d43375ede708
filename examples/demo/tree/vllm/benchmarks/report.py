"""The serving benchmark's numbers, its table and its JSON, key by key and column by column as vLLM has them."""

from vllm.benchmarks.stats import mean, percentile, std

NAMES = {
    "ttft": ("Time to First Token", "TTFT"),
    "tpot": ("Time per Output Token (excl. 1st token)", "TPOT"),
    "itl": ("Inter-token Latency", "ITL"),
    "e2el": ("End-to-end Latency", "E2EL"),
}


def measure(outputs, duration):
    """Counts and throughputs of a run of `duration` seconds, and the samples (seconds) behind its latencies."""
    good = [output for output in outputs if output.success]
    lengths = [_output_len(output) for output in outputs]
    given = sum(output.prompt_len for output in good)
    made = sum(lengths)
    pairs = [(output, _output_len(output)) for output in good]
    samples = {
        "ttft": [output.ttft for output in good],
        "tpot": [(output.latency - output.ttft) / (length - 1) for output, length in pairs if length > 1],
        "itl": [gap for output in good for gap in output.itl],
        "e2el": [output.latency for output in good],
    }
    result = {
        "duration": duration,
        "completed": len(good),
        "failed": len(outputs) - len(good),
        "total_input_tokens": given,
        "total_output_tokens": made,
        "request_throughput": len(good) / duration,
        "request_goodput": None,
        "output_throughput": made / duration,
        "total_token_throughput": (given + made) / duration,
        "input_lens": [output.prompt_len for output in outputs],
        "output_lens": lengths,
        "ttfts": [output.ttft for output in outputs],
        "itls": [output.itl for output in outputs],
        "latencies": [output.latency for output in outputs],
        "start_times": [output.start for output in outputs],
        "queue_times": [0.0 for _ in outputs],
        "generated_texts": [output.text for output in outputs],
        "errors": [output.error for output in outputs],
    }
    result.update(_peaks(good))
    result["rtfx"] = 0.0
    return result, samples


DETAILS = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "generated_texts", "errors")
"""Keys that only `--save-detailed` keeps in the file."""


def latencies(samples, chosen, percentiles):
    """`mean_ttft_ms` and so on, in milliseconds, for the chosen metrics."""
    result = {}
    for name in chosen:
        values = samples[name]
        result[f"mean_{name}_ms"] = mean(values) * 1000
        result[f"median_{name}_ms"] = percentile(values, 50) * 1000
        result[f"std_{name}_ms"] = std(values) * 1000
        for share in percentiles:
            result[f"p{_short(share)}_{name}_ms"] = percentile(values, share) * 1000
    return result


def table(result, chosen, percentiles, max_concurrency, request_rate):
    """The lines of vLLM's result block."""
    lines = ["{s:{c}^{n}}".format(s=" Serving Benchmark Result ", n=50, c="=")]
    lines.append(_row("Successful requests:", result["completed"]))
    lines.append(_row("Failed requests:", result["failed"]))
    if max_concurrency is not None:
        lines.append(_row("Maximum request concurrency:", max_concurrency))
    if request_rate != float("inf"):
        lines.append(_row("Request rate configured (RPS):", request_rate))
    lines.append(_row("Benchmark duration (s):", float(result["duration"])))
    lines.append(_row("Total input tokens:", result["total_input_tokens"]))
    lines.append(_row("Total generated tokens:", result["total_output_tokens"]))
    lines.append(_row("Request throughput (req/s):", result["request_throughput"]))
    lines.append(_row("Output token throughput (tok/s):", result["output_throughput"]))
    lines.append(_row("Peak output token throughput (tok/s):", result["max_output_tokens_per_s"]))
    lines.append(_row("Peak concurrent requests:", float(result["max_concurrent_requests"])))
    lines.append(_row("Total token throughput (tok/s):", result["total_token_throughput"]))
    for name in chosen:
        title, label = NAMES[name]
        lines.append("{s:{c}^{n}}".format(s=title, n=50, c="-"))
        lines.append(_row(f"Mean {label} (ms):", result[f"mean_{name}_ms"]))
        lines.append(_row(f"Median {label} (ms):", result[f"median_{name}_ms"]))
        for share in percentiles:
            key = f"p{_short(share)}_{name}_ms"
            lines.append(_row(f"P{_short(share)} {label} (ms):", result[key]))
    lines.append("=" * 50)
    return lines


def _output_len(output):
    if not output.success:
        return 0
    return sum(output.tokens) if output.output_tokens is None else output.output_tokens


def _peaks(good):
    """Most tokens in one second of the run, and most requests at work in one."""
    if not good:
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    begin = min(output.start for output in good)
    tokens, requests = {}, {}
    for output in good:
        at = output.start + output.ttft
        for index, count in enumerate(output.tokens):
            at += output.itl[index - 1] if index else 0.0
            second = int(at - begin)
            tokens[second] = tokens.get(second, 0) + count
        for second in range(int(output.start - begin), int(output.start + output.latency - begin) + 1):
            requests[second] = requests.get(second, 0) + 1
    return {"max_output_tokens_per_s": float(max(tokens.values())), "max_concurrent_requests": max(requests.values())}


def _short(share):
    return int(share) if share == int(share) else share


def _row(label, value):
    return ("{:<40} {:<10.2f}" if isinstance(value, float) else "{:<40} {:<10}").format(label, value)
