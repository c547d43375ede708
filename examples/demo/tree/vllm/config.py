"""What the simulated engine was asked to be."""


class EngineConfig:
    """The engine arguments that change what the simulation does. All the others are accepted and only shown."""

    def __init__(
        self,
        model,
        served_model_name=None,
        max_model_len=None,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        block_size=16,
        num_blocks=40960,
        enable_prefix_caching=True,
        stream_interval=8,
        seed=0,
        shown=None,
    ):
        self.model = model
        self.served_model_name = list(served_model_name or [model])
        self.max_model_len = max_model_len or 131072
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.block_size = block_size
        self.num_blocks = num_blocks
        self.enable_prefix_caching = enable_prefix_caching
        self.stream_interval = stream_interval
        """Tokens of one sequence that are sent to its client together."""
        self.seed = seed
        self.shown = dict(shown or {})
        """Arguments that were given but change nothing here."""

    def describe(self):
        """The `with config:` part of vLLM's start line."""
        parts = [
            f"model={self.model!r}",
            f"served_model_name={self.served_model_name[0]}",
            f"max_seq_len={self.max_model_len}",
            f"seed={self.seed}",
            f"enable_prefix_caching={self.enable_prefix_caching}",
            "device_config=simulated",
        ]
        parts.extend(f"{name}={value}" for name, value in sorted(self.shown.items()))
        return ", ".join(parts)
