"""SIMULATED: `benchmarks/benchmark_prefix_caching.py`, the same prompts twice: a warm-up, and the run that counts."""

import random
import time

from vllm.benchmarks.progress import Progress
from vllm.engine.arg_utils import FlexibleArgumentParser, add_engine_args, engine_config
from vllm.entrypoints.llm import LLM


def timed(llm, prompts, output_len):
    """Answer all prompts and say how long it took."""
    bar = Progress(len(prompts), "Processed prompts")
    begin = time.time()
    given, made = llm.generate(prompts, [output_len] * len(prompts), bar.update)
    seconds = time.time() - begin
    bar.done = len(prompts)
    bar.note = f"est. speed input: {given / seconds:.2f} toks/s, output: {made / seconds:.2f} toks/s"
    bar.close()
    print(f"cost time {seconds}", flush=True)


def main(args):
    """Run the benchmark. Raises ValueError for arguments that make no sense."""
    low, _, high = args.input_length_range.partition(":")
    if not 0 <= args.prefix_len <= int(low) <= int(high) or min(args.num_prompts, args.repeat_count) < 1:
        raise ValueError("--input-length-range MIN:MAX with --prefix-len <= MIN, and at least one prompt")
    rng = random.Random(args.seed)
    prefix = [rng.randrange(10000) for _ in range(args.prefix_len)]
    lengths = [rng.randint(int(low), int(high)) - args.prefix_len for _ in range(args.num_prompts)]
    prompts = [prefix + [rng.randrange(10000) for _ in range(length)] for length in lengths] * args.repeat_count
    rng.shuffle(prompts)
    llm = LLM(engine_config(args))
    print("Testing filtered requests", flush=True)
    print("------warm up------", flush=True)
    timed(llm, prompts, args.output_len)
    print("------start generating------", flush=True)
    timed(llm, prompts, args.output_len)


if __name__ == "__main__":
    parser = FlexibleArgumentParser(description="SIMULATED vLLM benchmark")
    parser.add_argument("--output-len", type=int, default=10)
    parser.add_argument("--num-prompts", type=int, default=1)
    parser.add_argument("--repeat-count", type=int, default=100)
    parser.add_argument("--input-length-range", default="128:256")
    parser.add_argument("--prefix-len", type=int, default=0)
    add_engine_args(parser)
    main(parser.parse_args())
