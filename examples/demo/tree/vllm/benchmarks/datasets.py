"""Prompts: random words, or the conversations of a ShareGPT file."""

import json
import random

_WORDS = [f"w{number}" for number in range(10000)]


class SampleRequest:
    """One prompt. Lengths are tokens; a word is one token in this simulation."""

    __slots__ = ("expected_output_len", "prompt", "prompt_len")

    def __init__(self, prompt, prompt_len, expected_output_len):
        self.prompt = prompt
        self.prompt_len = prompt_len
        self.expected_output_len = expected_output_len


def random_requests(seed, count, input_len, output_len, prefix_len=0, range_ratio=0.0):
    """`count` prompts that depend on the seed alone. Lengths vary by `range_ratio` each way."""
    rng = random.Random(seed)
    prefix = rng.choices(_WORDS, k=prefix_len)
    requests = []
    for _ in range(count):
        length = _around(rng, input_len, range_ratio)
        words = prefix + rng.choices(_WORDS, k=length)
        requests.append(SampleRequest(" ".join(words), len(words), _around(rng, output_len, range_ratio)))
    return requests


def sharegpt_requests(path, seed, count, output_len=None):
    """First two turns of `count` conversations. Raises OSError or ValueError for a file that is none."""
    with open(path, encoding="utf-8") as file:
        entries = json.load(file)
    turns = [entry["conversations"] for entry in entries if len(entry.get("conversations", ())) >= 2]
    random.Random(seed).shuffle(turns)
    requests = []
    for first, second in (turn[:2] for turn in turns):
        if len(requests) == count:
            break
        words = first["value"].split()
        answer = output_len or len(second["value"].split())
        if len(words) >= 4 and answer >= 4 and len(words) + answer <= 2048:
            requests.append(SampleRequest(" ".join(words), len(words), answer))
    if not requests:
        raise ValueError(f"no usable conversation in {path}")
    while len(requests) < count:
        requests.append(requests[len(requests) % max(1, len(turns))])
    return requests


def add_dataset_args(parser):
    """Add the options that choose the prompts of a serving or throughput run."""
    parser.add_argument("--dataset-name", choices=["random", "sharegpt"], default="random")
    parser.add_argument("--dataset-path")
    parser.add_argument("--random-input-len", type=int, default=1024)
    parser.add_argument("--random-output-len", type=int, default=128)
    parser.add_argument("--random-prefix-len", type=int, default=0)
    parser.add_argument("--random-range-ratio", type=float, default=0.0)
    parser.add_argument("--sharegpt-output-len", type=int)
    parser.add_argument("--num-prompts", type=int, default=1000)


def get_samples(args, input_len=None, output_len=None):
    """The prompts that parsed arguments ask for. Raises ValueError where they make no sense."""
    if args.dataset_name == "sharegpt":
        if not args.dataset_path:
            raise ValueError("--dataset-path is required for the dataset sharegpt")
        return sharegpt_requests(args.dataset_path, args.seed, args.num_prompts, args.sharegpt_output_len)
    lengths = (input_len or args.random_input_len, output_len or args.random_output_len)
    if min(lengths) < 1 or args.num_prompts < 1:
        raise ValueError("lengths and --num-prompts must be at least 1")
    return random_requests(
        args.seed, args.num_prompts, lengths[0], lengths[1], args.random_prefix_len, args.random_range_ratio
    )


def _around(rng, length, ratio):
    if not ratio:
        return length
    return max(1, rng.randint(int(length * (1 - ratio)), int(length * (1 + ratio))))
