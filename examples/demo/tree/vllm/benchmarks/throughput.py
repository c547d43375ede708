"""`vllm bench throughput` and `benchmarks/benchmark_throughput.py`: all prompts at once, without a server."""

import json
import time

from vllm.benchmarks.datasets import add_dataset_args, get_samples
from vllm.benchmarks.progress import Progress
from vllm.engine.arg_utils import add_engine_args, engine_config
from vllm.entrypoints.llm import LLM


def add_cli_args(parser):
    """Add the benchmark's options and the engine's."""
    parser.add_argument("--backend", default="vllm", choices=["vllm"])
    parser.add_argument("--input-len", type=int)
    parser.add_argument("--output-len", type=int)
    parser.add_argument("--dataset", dest="dataset_path_old")
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--output-json")
    parser.add_argument("--async-engine", action="store_true")
    parser.add_argument("--disable-detokenize", action="store_true")
    add_dataset_args(parser)
    add_engine_args(parser)
    return parser


def main(args):
    """Run the benchmark. Raises ValueError for arguments that make no sense."""
    if args.dataset_path_old:
        args.dataset_path, args.dataset_name = args.dataset_path_old, "sharegpt"
    if args.dataset_path is None:
        print("When dataset path is not set, it will default to random dataset")
    samples = get_samples(args, args.input_len, args.output_len)
    longest = max(sample.prompt_len + sample.expected_output_len for sample in samples)
    config = engine_config(args)
    if longest > config.max_model_len:
        raise ValueError(f"a request of {longest} tokens is longer than max_model_len {config.max_model_len}")
    llm = LLM(config)
    prompts = [sample.prompt.split() for sample in samples]
    bar = Progress(len(samples), "Processed prompts")
    begin = time.perf_counter()
    given, made = llm.generate(prompts, [sample.expected_output_len for sample in samples], bar.update)
    elapsed = time.perf_counter() - begin
    bar.done = len(samples)
    bar.close()
    rates = (len(samples) / elapsed, (given + made) / elapsed, made / elapsed)
    print("Throughput: {:.2f} requests/s, {:.2f} total tokens/s, {:.2f} output tokens/s".format(*rates))
    print(f"Total num prompt tokens:  {given}")
    print(f"Total num output tokens:  {made}", flush=True)
    if args.output_json:
        result = {
            "model_id": args.model,
            "elapsed_time": elapsed,
            "num_requests": len(samples),
            "total_num_tokens": given + made,
            "requests_per_second": len(samples) / elapsed,
            "tokens_per_second": (given + made) / elapsed,
            "simulated": True,
        }
        with open(args.output_json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=4)
