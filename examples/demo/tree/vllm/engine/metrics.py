"""The part of vLLM's `/metrics` that a watcher of throughput reads, in Prometheus' text format."""

_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Histogram:
    def __init__(self, name, text):
        self.name = name
        self.text = text
        self.counts = [0] * len(_BUCKETS)
        self.total = 0
        self.sum = 0.0

    def observe(self, value):
        self.total += 1
        self.sum += value
        for index, bound in enumerate(_BUCKETS):
            if value <= bound:
                self.counts[index] += 1

    def lines(self, labels):
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} histogram"
        for bound, count in zip(_BUCKETS, self.counts):  # noqa: B905 - Python 3.8 has no strict=
            yield f'{self.name}_bucket{{{labels},le="{bound}"}} {float(count)}'
        yield f'{self.name}_bucket{{{labels},le="+Inf"}} {float(self.total)}'
        yield f"{self.name}_count{{{labels}}} {float(self.total)}"
        yield f"{self.name}_sum{{{labels}}} {self.sum}"


class Metrics:
    """Counters of one engine."""

    def __init__(self, engine):
        self._engine = engine
        self._ttft = _Histogram("vllm:time_to_first_token_seconds", "SIMULATED: time to first token in seconds.")
        self._e2e = _Histogram("vllm:e2e_request_latency_seconds", "SIMULATED: end to end latency in seconds.")

    def first_token(self, seconds):
        """A request got its first token this long after it came."""
        self._ttft.observe(seconds)

    def finished(self, seconds):
        """A request ended this long after it came."""
        self._e2e.observe(seconds)

    def render(self):
        """The whole page."""
        engine, scheduler = self._engine, self._engine.scheduler
        name = engine.config.served_model_name[0].replace("\\", "\\\\").replace('"', '\\"')
        labels = f'engine="0",model_name="{name}"'
        plain = (
            ("gauge", "vllm:num_requests_running", "Requests in the batch.", len(scheduler.running)),
            ("gauge", "vllm:num_requests_waiting", "Requests that wait.", len(scheduler.waiting)),
            ("gauge", "vllm:kv_cache_usage_perc", "KV cache usage, 1 is full.", scheduler.blocks.usage()),
            ("counter", "vllm:prefix_cache_queries_total", "Prompt tokens looked up.", scheduler.blocks.queries),
            ("counter", "vllm:prefix_cache_hits_total", "Prompt tokens found.", scheduler.blocks.hits),
            ("counter", "vllm:num_preemptions_total", "Preemptions.", 0),
            ("counter", "vllm:prompt_tokens_total", "Prompt tokens processed.", engine.prompt_tokens),
            ("counter", "vllm:generation_tokens_total", "Tokens generated.", engine.generation_tokens),
        )
        lines = []
        for kind, metric, text, value in plain:
            lines.append(f"# HELP {metric} SIMULATED: {text}")
            lines.append(f"# TYPE {metric} {kind}")
            lines.append(f"{metric}{{{labels}}} {float(value)}")
        lines.append("# HELP vllm:request_success_total SIMULATED: Requests that ended well.")
        lines.append("# TYPE vllm:request_success_total counter")
        success = 'vllm:request_success_total{%s,finished_reason="length"} %s'
        lines.append(success % (labels, float(engine.requests_finished)))
        lines.extend(self._ttft.lines(labels))
        lines.extend(self._e2e.lines(labels))
        return "\n".join(lines) + "\n"
