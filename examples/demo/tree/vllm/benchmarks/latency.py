"""`vllm bench latency` and `benchmarks/benchmark_latency.py`: one batch again and again, without a server."""

import json
import random
import time

from vllm.benchmarks.progress import Progress
from vllm.benchmarks.stats import mean, percentile
from vllm.engine.arg_utils import add_engine_args, engine_config
from vllm.entrypoints.llm import LLM

PERCENTAGES = (10, 25, 50, 75, 90, 99)


def add_cli_args(parser):
    """Add the benchmark's options and the engine's. Prefix caching is off by default, as in vLLM's."""
    parser.add_argument("--input-len", type=int, default=32)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--num-iters-warmup", type=int, default=10)
    parser.add_argument("--num-iters", type=int, default=30)
    parser.add_argument("--output-json")
    parser.add_argument("--use-beam-search", action="store_true")
    parser.add_argument("--disable-detokenize", action="store_true")
    add_engine_args(parser)
    parser.set_defaults(enable_prefix_caching=False)
    return parser


def main(args):
    """Run the benchmark. Raises ValueError for arguments that make no sense."""
    print(args)
    if min(args.input_len, args.output_len, args.batch_size, args.num_iters) < 1:
        raise ValueError("lengths, --batch-size and --num-iters must be at least 1")
    llm = LLM(engine_config(args))
    rng = random.Random(args.seed)
    prompts = [[rng.randrange(10000) for _ in range(args.input_len)] for _ in range(args.batch_size)]
    lengths = [args.output_len] * args.batch_size

    def once():
        begin = time.perf_counter()
        llm.generate(prompts, lengths)
        return time.perf_counter() - begin

    print("Warming up...", flush=True)
    _repeat(once, args.num_iters_warmup, "Warmup iterations")
    latencies = _repeat(once, args.num_iters, "Bench iterations")
    percentiles = {str(share): percentile(latencies, share) for share in PERCENTAGES}
    print(f"Avg latency: {mean(latencies)!r} seconds")
    for share, value in percentiles.items():
        print(f"{share}% percentile latency: {value!r} seconds", flush=True)
    if args.output_json:
        result = {
            "model_id": args.model,
            "avg_latency": mean(latencies),
            "latencies": latencies,
            "percentiles": percentiles,
            "simulated": True,
        }
        with open(args.output_json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=4)


def _repeat(once, count, label):
    bar = Progress(count, label)
    seconds = []
    for number in range(count):
        seconds.append(once())
        bar.update(number + 1)
    bar.close()
    return seconds
