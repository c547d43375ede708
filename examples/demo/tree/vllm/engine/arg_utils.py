"""vLLM's command line as far as the published commands use it."""

import argparse
import sys

from vllm.config import EngineConfig
from vllm.transformers_utils.config import max_model_len

_VALUES = [
    "--tokenizer",
    "--tokenizer-mode",
    "--dtype",
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--data-parallel-size",
    "--gpu-memory-utilization",
    "--quantization",
    "--kv-cache-dtype",
    "--load-format",
    "--download-dir",
    "--revision",
    "--tokenizer-revision",
    "--guided-decoding-backend",
    "--swap-space",
    "--cpu-offload-gb",
    "--device",
    "--distributed-executor-backend",
    "--speculative-config",
    "--speculative-model",
    "--num-speculative-tokens",
    "--compilation-config",
    "--max-seq-len-to-capture",
    "--rope-scaling",
    "--limit-mm-per-prompt",
    "--num-scheduler-steps",
    "--scheduling-policy",
    "--hf-overrides",
    "--max-loras",
    "--max-lora-rank",
    "--attention-backend",
]
_SWITCHES = [
    "--enforce-eager",
    "--trust-remote-code",
    "--disable-log-stats",
    "--use-v2-block-manager",
    "--enable-lora",
    "--disable-custom-all-reduce",
    "--disable-sliding-window",
    "--enable-expert-parallel",
    "--async-scheduling",
]
_PAIRS = ["--enable-chunked-prefill", "--disable-frontend-multiprocessing"]
_SHORT = {"--tensor-parallel-size": "-tp", "--pipeline-parallel-size": "-pp", "--quantization": "-q"}


class FlexibleArgumentParser(argparse.ArgumentParser):
    """As vLLM's: `--input_len` is `--input-len`, options are never abbreviated, what is unknown exits 2."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """Parse with underscores in option names read as dashes."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args([_dashed(arg) for arg in given], namespace)


def _dashed(arg):
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value


def add_engine_args(parser, model_option=True):
    """Add the engine's options, those without an effect in the simulation too."""
    group = parser.add_argument_group("engine (most are accepted and change nothing: SIMULATED)")
    if model_option:
        group.add_argument("--model", default="facebook/opt-125m")
    group.add_argument("--max-model-len", type=int)
    group.add_argument("--max-num-seqs", type=int, default=256)
    group.add_argument("--max-num-batched-tokens", type=int, default=8192)
    group.add_argument("--block-size", type=int, default=16)
    group.add_argument("--num-gpu-blocks-override", type=int)
    group.add_argument("--stream-interval", type=int, default=8)
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--enable-prefix-caching", dest="enable_prefix_caching", action="store_true", default=True)
    group.add_argument("--no-enable-prefix-caching", dest="enable_prefix_caching", action="store_false")
    for option in _VALUES:
        group.add_argument(*([_SHORT[option]] if option in _SHORT else []), option)
    for option in _SWITCHES:
        group.add_argument(option, action="store_true")
    for option in _PAIRS:
        group.add_argument(option, nargs="?", const="True")
        group.add_argument(
            "--no-" + option[2:], dest=option[2:].replace("-", "_"), action="store_const", const="False"
        )


def engine_config(args):
    """The engine that parsed arguments ask for. Raises ValueError for what the model cannot do."""
    shown = {}
    for option in _VALUES + _SWITCHES + _PAIRS:
        value = getattr(args, option[2:].replace("-", "_"))
        if value not in (None, False):
            shown[option[2:].replace("-", "_")] = value
    for name in ("max_num_seqs", "max_num_batched_tokens", "block_size", "stream_interval"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(args, name)}")
    return EngineConfig(
        args.model,
        served_model_name=getattr(args, "served_model_name", None),
        max_model_len=max_model_len(args.model, args.max_model_len),
        max_num_seqs=args.max_num_seqs,
        max_num_batched_tokens=args.max_num_batched_tokens,
        block_size=args.block_size,
        num_blocks=args.num_gpu_blocks_override or 655360 // args.block_size,
        enable_prefix_caching=args.enable_prefix_caching,
        stream_interval=args.stream_interval,
        seed=args.seed,
        shown=shown,
    )
