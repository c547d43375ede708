"""`vllm bench serve` and `benchmarks/benchmark_serving.py`: a real client for the simulated server.

Like vLLM's, it exits 0 and writes its result even where every request failed.
"""

import asyncio
import datetime
import json
import os
import random
import sys
import time
import warnings

from vllm.benchmarks import report
from vllm.benchmarks.datasets import add_dataset_args, get_samples
from vllm.benchmarks.endpoint import Endpoint
from vllm.benchmarks.progress import Progress
from vllm.logger import SIMULATED

READY_POLL_S = 0.2


def add_cli_args(parser):
    """Add the client's options: those of vLLM that the published commands use. Engine options are unknown here."""
    parser.add_argument("--backend", default="vllm", choices=["vllm", "openai"])
    parser.add_argument("--endpoint-type")
    parser.add_argument("--base-url")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--endpoint", default="/v1/completions")
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--tokenizer")
    parser.add_argument("--tokenizer-mode", default="auto")
    parser.add_argument("--label")
    parser.add_argument("--max-concurrency", type=int)
    parser.add_argument("--request-rate", type=float, default=float("inf"))
    parser.add_argument("--burstiness", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--logprobs", type=int)
    parser.add_argument("--percentile-metrics", default="ttft,tpot,itl")
    parser.add_argument("--metric-percentiles", default="99")
    parser.add_argument("--ready-check-timeout-sec", type=int, default=0)
    parser.add_argument("--save-result", action="store_true")
    parser.add_argument("--save-detailed", action="store_true")
    parser.add_argument("--result-dir")
    parser.add_argument("--result-filename")
    parser.add_argument("--metadata", nargs="*", metavar="KEY=VALUE")
    for switch in ("--ignore-eos", "--disable-tqdm", "--trust-remote-code", "--use-beam-search"):
        parser.add_argument(switch, action="store_true")
    add_dataset_args(parser)
    return parser


def _address(args):
    if not args.base_url:
        return args.host, args.port
    rest = args.base_url.partition("://")[2] or args.base_url
    host, _, port = rest.strip("/").partition(":")
    return host, int(port or 80)


def _arrivals(count, rate, burstiness, seed):
    """Seconds after the start at which each request leaves: gaps from a gamma distribution with mean 1 / rate."""
    if rate == float("inf"):
        return [0.0] * count
    if rate <= 0 or burstiness <= 0:
        raise ValueError("--request-rate and --burstiness must be above 0")
    rng = random.Random(seed)
    times, at = [], 0.0
    for _ in range(count):
        at += rng.gammavariate(burstiness, 1.0 / (rate * burstiness))
        times.append(at)
    scale = count / rate / at
    return [moment * scale for moment in times]


async def _ready(endpoint, sample, patience):
    """One request until it succeeds. Raises ValueError after `patience` seconds of failures."""
    print("Starting initial single prompt test run...")
    if patience <= 0:
        print("Skipping endpoint ready check.")
        return
    print(f"Waiting for endpoint to become up in {patience} seconds")
    deadline = time.monotonic() + patience
    while True:
        output = await endpoint.request(sample)
        if output.success:
            print("Initial test run completed.")
            return
        if time.monotonic() >= deadline:
            raise ValueError(
                "Initial test run failed - Please make sure benchmark arguments are correctly specified. "
                f"Error: {output.error}"
            )
        await asyncio.sleep(READY_POLL_S)


async def _run(endpoint, samples, args):
    """All requests, each at its time. Returns their outputs in order, and the seconds from first to last."""
    limit = asyncio.Semaphore(args.max_concurrency) if args.max_concurrency else None
    bar = Progress(len(samples), enabled=not args.disable_tqdm)
    begin = time.perf_counter()

    async def one(sample):
        if limit is None:
            output = await endpoint.request(sample)
        else:
            async with limit:
                output = await endpoint.request(sample)
        bar.update(bar.done + 1)
        return output

    tasks = []
    for sample, at in zip(samples, _arrivals(len(samples), args.request_rate, args.burstiness, args.seed)):  # noqa: B905 - Python 3.8 has no strict=
        delay = begin + at - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.ensure_future(one(sample)))
    outputs = await asyncio.gather(*tasks)
    duration = time.perf_counter() - begin
    bar.close()
    return outputs, duration


def _header(args):
    return {
        "date": datetime.datetime.now().strftime("%Y%m%d-%H%M%S"),  # noqa: DTZ005 - as vLLM writes it
        "endpoint_type": args.endpoint_type or args.backend,
        "backend": args.backend,
        "label": args.label,
        "model_id": args.served_model_name or args.model,
        "tokenizer_id": args.tokenizer or args.model,
        "num_prompts": args.num_prompts,
        "request_rate": "inf" if args.request_rate == float("inf") else args.request_rate,
        "burstiness": args.burstiness,
        "max_concurrency": args.max_concurrency,
    }


def _metadata(pairs):
    split = [pair.partition("=") for pair in pairs or ()]
    bad = [key for key, equals, _ in split if not equals]
    if bad:
        raise ValueError(f"--metadata takes KEY=VALUE, got {bad[0]}")
    return {key: value for key, _, value in split}


def _path(args, header):
    name = args.result_filename
    if not name:
        limit = f"-concurrency{args.max_concurrency}" if args.max_concurrency else ""
        model = header["model_id"].split("/")[-1]
        label = args.label or args.backend
        name = "{}-{}qps{}-{}-{}.json".format(label, args.request_rate, limit, model, header["date"])
    if args.result_dir:
        os.makedirs(args.result_dir, exist_ok=True)
        name = os.path.join(args.result_dir, name)
    return name


def _save(args, result):
    kept = {key: value for key, value in result.items() if args.save_detailed or key not in report.DETAILS}
    with open(_path(args, result), "w", encoding="utf-8") as file:
        json.dump(kept, file)


def _complain(outputs):
    failed = [output for output in outputs if not output.success]
    if len(failed) == len(outputs):
        warnings.warn(
            "All requests failed. This is likely due to a misconfiguration on the benchmark arguments.", stacklevel=2
        )
    if failed:
        print("Failed requests during benchmark run detected (capping to 10):")
        for number, output in enumerate(failed[:10]):
            print(f"Error {number}: {output.error}")


def main(args):
    """Run the benchmark. Raises ValueError for arguments that make no sense, and when the ready check fails."""
    print(SIMULATED)
    print(args)
    chosen = [name for name in args.percentile_metrics.split(",") if name]
    unknown = [name for name in chosen if name not in report.NAMES]
    if unknown:
        raise ValueError("--percentile-metrics knows {}, not {}".format(", ".join(report.NAMES), unknown[0]))
    percentiles = [float(share) for share in args.metric_percentiles.split(",") if share]
    extra = _metadata(args.metadata)
    samples = get_samples(args)
    host, port = _address(args)
    model = args.served_model_name or args.model
    endpoint = Endpoint(host, port, args.endpoint, model, args.ignore_eos, args.temperature, args.logprobs)
    outputs, duration = asyncio.run(_main(endpoint, samples, args))
    _complain(outputs)
    result = _header(args)
    numbers, values = report.measure(outputs, duration)
    result.update(numbers)
    result.update(report.latencies(values, chosen, percentiles))
    print("\n".join(report.table(result, chosen, percentiles, args.max_concurrency, args.request_rate)))
    sys.stdout.flush()
    if args.save_result:
        result.update(extra, simulated=True)
        _save(args, result)


async def _main(endpoint, samples, args):
    await _ready(endpoint, samples[0], args.ready_check_timeout_sec)
    print("Starting main benchmark run...")
    print(f"Traffic request rate: {args.request_rate}")
    process = "Poisson process" if args.burstiness == 1.0 else "Gamma distribution"
    print(f"Burstiness factor: {args.burstiness} ({process})")
    print(f"Maximum request concurrency: {args.max_concurrency}")
    sys.stdout.flush()
    return await _run(endpoint, samples, args)
