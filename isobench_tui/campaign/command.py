"""perf_command, read: which client it starts, in which mode, with which environment and options."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import get_args

from isobench_tui.campaign import flags
from isobench_tui.campaign.argv import CommandError, Option, assignments, last, options, split
from isobench_tui.campaign.models import Mode
from isobench_tui.campaign.spec import looks_secret

SUPPORTED = (
    "`vllm bench serve|throughput|latency …`, `python -m vllm.entrypoints.cli.main bench serve|throughput|latency …` "
    "or `python [FOLDER/]benchmark_serving.py|benchmark_throughput.py|benchmark_latency.py|"
    "benchmark_prefix_caching.py …`, after NAME=value assignments"
)
"""The forms of perf_command that can be run."""

_CLI: dict[str, Mode] = {"serve": "serving", "throughput": "throughput", "latency": "latency"}
_SCRIPTS: dict[str, Mode] = {name: name for name in get_args(Mode)}
_PYTHON = re.compile(r"(?:.*/)?python(?:[23](?:\.\d+)?)?")
_VLLM = re.compile(r"(?:.*/)?vllm")
_SCRIPT = re.compile(r"(?:.*/)?benchmark_(serving|throughput|latency|prefix_caching)\.py")
_MODULE = "vllm.entrypoints.cli.main"
_PLACEHOLDER = re.compile(r"<.*>|\{.*\}|\$?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_COUNTED = re.compile(r"--(?:.*-len|num-prompts|repeat-count|num-iters(?:-warmup)?|batch-size|tensor-parallel-size)")
_STRAY_QUOTES = re.compile(r"(?<![\s='\"])''|''(?![\s'\"]|$)")


@dataclass(frozen=True, slots=True)
class Command:
    """A perf_command taken apart."""

    env: dict[str, str]
    head: tuple[str, ...]
    """What comes before the options; `head[0]` is `python` or `vllm`."""
    mode: Mode
    cli: bool
    """`vllm bench`, not one of the older scripts."""
    options: tuple[Option, ...]
    remarks: tuple[str, ...]
    """What looks odd, in sentences."""


def read(command: str, mode: Mode | None = None) -> Command:
    """Take a perf_command apart; `mode` is the task's own, needed only for a script of an unknown name.

    Raises CommandError.
    """
    env, words = assignments(split(command))
    for name in env:
        if looks_secret(name):
            raise CommandError(f"{name} looks like a secret", f'[model] secrets = ["{name}"]')
    if not words:
        raise CommandError("no command", SUPPORTED)
    head, rest, found, cli = _recognise(words, mode)
    if mode and mode != found:
        raise CommandError(f'starts a {found} benchmark, but the task says mode = "{mode}"', f'mode = "{found}"')
    loose, given = options(rest)
    if loose:
        raise CommandError(f"{loose[0]} stands where an option should", "options like --model NAME after the client")
    for option in given:
        _check_option(option)
    return Command(env, head, found, cli, tuple(given), tuple(_remarks(command, given)))


def _recognise(words: list[str], mode: Mode | None) -> tuple[tuple[str, ...], list[str], Mode, bool]:
    first = words[0]
    if _VLLM.fullmatch(first):
        return _bench(("vllm",), words[1:])
    if first.endswith(".py"):
        return _script(words, mode)
    if not _PYTHON.fullmatch(first):
        raise CommandError(f"starts with {first}, which is no client that can be measured", SUPPORTED)
    rest = words[1:]
    while rest and rest[0] == "-u":  # every child is unbuffered anyway
        rest = rest[1:]
    if rest[:2] == ["-m", _MODULE]:
        return _bench(("python", "-m", _MODULE), rest[2:])
    if rest and rest[0].endswith(".py"):
        return _script(rest, mode)
    raise CommandError(f"python runs {rest[0] if rest else 'nothing'}", SUPPORTED)


def _bench(start: tuple[str, ...], rest: list[str]) -> tuple[tuple[str, ...], list[str], Mode, bool]:
    if rest[:1] != ["bench"] or len(rest) < 2 or rest[1] not in _CLI:
        raise CommandError(f"`{' '.join(['vllm', *rest[:2]])}` is no benchmark of a supported mode", SUPPORTED)
    return (*start, "bench", rest[1]), rest[2:], _CLI[rest[1]], True


def _script(words: list[str], mode: Mode | None) -> tuple[tuple[str, ...], list[str], Mode, bool]:
    match = _SCRIPT.fullmatch(words[0])
    if match:
        found = _SCRIPTS[match[1]]
    elif mode:
        found = mode
    else:
        raise CommandError(
            f"{words[0]} is a script of unknown mode",
            f'{SUPPORTED}; or mode = "serving", "throughput", "latency" or "prefix_caching" in the task, '
            "for a script alike",
        )
    return ("python", words[0]), words[1:], found, False


def _check_option(option: Option) -> None:
    if option.name in flags.SECRET:
        raise CommandError(f"{option.name} would be stored and shown", '[model] secrets = ["NAME"] for secrets')
    if option.tokens[0] == "--":
        raise CommandError("-- ends the options", "options like --model NAME after the client")
    for value in option.values:
        if _COUNTED.fullmatch(option.name) and _PLACEHOLDER.fullmatch(value):
            raise CommandError(f"{option.name} {value}: a placeholder was left in", "a whole number")


def _remarks(command: str, given: list[Option]) -> list[str]:
    remarks = []
    if _STRAY_QUOTES.search(command):
        remarks.append("'' beside other text means nothing in a shell: quotes were probably lost on the way")
    for option in given:
        for value in option.values[:1]:
            if value.startswith("{") and not _is_json(" ".join(option.values)):
                remarks.append(f"{option.name} {value} is not JSON: quotes were probably lost on the way")
    return remarks


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def text_of(given: tuple[Option, ...] | list[Option], name: str) -> str | None:
    """The one value of an option, None if it is absent. Raises CommandError if it has none or several."""
    option = last(given, name)
    if option is None:
        return None
    if len(option.values) != 1 or not option.values[0]:
        raise CommandError(f"{name} has {len(option.values) or 'no'} values", f"{name} VALUE")
    return option.values[0]


def count_of(given: tuple[Option, ...] | list[Option], name: str, least: int = 1) -> int | None:
    """The whole number that an option has, None if it is absent. Raises CommandError if it is none."""
    text = text_of(given, name)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least:
        raise CommandError(f"{name} {text} is not a whole number from {least}", f"{name} NUMBER")
    return int(text)


def model_of(given: tuple[Option, ...]) -> str | None:
    """The model that the command names. Raises CommandError for a placeholder."""
    model = text_of(given, "--model")
    if model is not None and _PLACEHOLDER.fullmatch(model):
        raise CommandError(f"--model {model}: a placeholder was left in", "--model with a model's name or path")
    return model
