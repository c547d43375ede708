"""A mapping's perf_command, model and mode -> what a task says. Where they contradict, the command counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from isobench_tui.campaign.argv import CommandError, Option
from isobench_tui.campaign.command import Command, model_of, read
from isobench_tui.campaign.isobench_mapping import Record
from isobench_tui.campaign.models import Mode, Workload
from isobench_tui.campaign.problems import Notes, plain
from isobench_tui.campaign.spec import OverrideTable
from isobench_tui.campaign.workload import Request, build, gpus_needed

_MODES: dict[str, set[str]] = {
    "serving": {"serving"},
    "standalone": {"throughput", "latency"},
    "throughput": {"throughput"},
    "latency": {"latency"},
    "prefix_caching": {"prefix_caching"},
}
"""What a mapping's benchmark_mode means."""
_PLACEHOLDER = r"(?P<quote>[\"']?)(?:<[^<>\s]*>|\{\w*\}|(?:YOUR_|MY_|THE_)?MODEL(?:_NAME|_PATH|_ID)?)(?P=quote)"
_NO_MODEL = re.compile(rf"(?P<option>--model(?:\s+|=)){_PLACEHOLDER}(?=\s|$)")
_NAMED_SIZE = re.compile(r"(?<![\dx.])(\d{2,4})[bB](?![a-zA-Z])", re.ASCII)
_FOUR_BITS = re.compile(r"awq|gptq|int4|w4a|4bit|nf4|fp4", re.IGNORECASE)
_EIGHT_BITS = re.compile(r"fp8|int8|w8a|8bit", re.IGNORECASE)
_GPU_GB = 80
_GPUS = re.compile(r"[A-Za-z0-9_-]+:(\d{1,3})", re.ASCII)
_DATASETS = {"--dataset", "--dataset-path"}
_NOT_PATHS = {"--endpoint", "--model", "--base-url"}

_UNKNOWN_MODELS = {"Qwen/Qwen3-7B-Instruct": "Qwen3 has no model of 7 billion parameters"}
"""Models that mappings name and the hub has never had."""


def described(record: Record, overrides: Sequence[OverrideTable], notes: Notes) -> dict[str, Any]:
    """`perf_command` with `model` and `mode` where the task needs them; {} if the mapping has no command.

    What is odd goes to `notes`. Raises CommandError for a command that cannot be run as it stands.
    """
    written = record.first("perf_command")
    if not written:
        return {}
    said = record.first("model")
    text = _filled(written, said, record.short, notes)
    command, mode = _read(text, record)
    _check_mode(command.mode, record, notes)
    fields: dict[str, Any] = {"perf_command": text} | ({"mode": mode} if mode else {})
    model = _model(command, said, overrides, record.short, notes)
    if model:
        fields["model"] = model
    request = Request(where=record.short, model=model or None, mode=mode, overrides=overrides)
    workload = build(text, request, Notes(""))
    _check_paths(command.options, record.short, notes)
    _check_size(workload, record, notes)
    return fields


def _filled(written: str, model: str, where: str, notes: Notes) -> str:
    """The command with the mapping's model in place of `--model MODEL`: the one placeholder whose value is known."""
    match = _NO_MODEL.search(written)
    if not match or not model or re.search(r"[\s\"'\\$`]", model):
        return written
    notes.warn(where, f"perf_command says {match[0]}: the mapping's model {model} takes its place")
    return written[: match.start()] + match["option"] + model + written[match.end() :]


def _read(text: str, record: Record) -> tuple[Command, Mode | None]:
    """The command, and the mapping's mode where the client's name does not tell."""
    try:
        return read(text), None
    except CommandError as first:
        for mode in get_args(Mode):
            if mode != record.first("mode"):
                continue
            try:
                return read(text, mode), mode
            except CommandError:  # the first reason is the better one: it does not speak of the mode
                raise first from None
        raise


def _check_mode(mode: Mode, record: Record, notes: Notes) -> None:
    said = record.first("mode")
    if not said:
        notes.info(record.short, f"the mapping names no mode; the command is a {mode} benchmark")
    elif said not in _MODES:
        notes.warn(
            record.short, f'the mapping\'s mode "{plain(said, 60)}" is unknown; the command is a {mode} benchmark'
        )
    elif mode not in _MODES[said]:
        text = f"the mapping's mode is {said}, but the command is a {mode} benchmark: the command counts"
        notes.warn(record.short, text)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "~", "."))


def _model(command: Command, said: str, overrides: Sequence[OverrideTable], where: str, notes: Notes) -> str | None:
    """The task's `model`, None where the command alone tells."""
    named = model_of(command.options)
    if said in (named, ""):
        if named and _is_path(named):
            notes.warn(where, f"--model {named} is a path of another machine, and the mapping names no model")
        return None
    if named is None:
        return said
    if not _is_path(named) or _is_path(said):
        notes.warn(where, f"the mapping's model is {said}, but the command's is {named}: the command counts")
        return None
    replaced = {row.model: row.use for row in overrides}
    if named in replaced:
        return None
    use = replaced.get(said, said)
    via = f" (replaced by {use})" if use != said else ""
    notes.warn(
        where, f"--model {named} is a path of another machine: the mapping's model {said}{via} takes its place"
    )
    return use


def _check_paths(options: Sequence[Option], where: str, notes: Notes) -> None:
    for option in options:
        for value in option.values:
            if not value.startswith(("/", "~/")) or option.name in _NOT_PATHS:
                continue
            mend = 'dataset = "PATH" in the task' if option.name in _DATASETS else "[container] volumes"
            text = f"{option.name} {value} is a path of another machine: it must be there where it runs ({mend})"
            notes.warn(where, text)


def _check_size(workload: Workload, record: Record, notes: Notes) -> None:
    """Models that cannot be had, and commands that ask for fewer GPUs than the model or the mapping does."""
    unconditional = workload.override if workload.override and not workload.override.before_vllm else None
    model = unconditional.use if unconditional else workload.model
    if model in _UNKNOWN_MODELS:
        notes.warn(record.short, f"the Hugging Face hub has no model {model}: {_UNKNOWN_MODELS[model]}")
    gpus = gpus_needed(workload)
    count = f"{gpus} GPU" + ("s" if gpus > 1 else "")
    size = _NAMED_SIZE.search(model.rsplit("/", 1)[-1])
    bits = 4 if _FOUR_BITS.search(model) else 8 if _EIGHT_BITS.search(model) else 16
    if size and int(size[1]) * bits / 8 > gpus * _GPU_GB:
        text = (
            f"{model}: about {int(size[1]) * bits // 8} GB of weights, and the command asks for {count} of perhaps "
        )
        notes.warn(record.short, f"{text}{_GPU_GB} GB")
    wanted = _GPUS.fullmatch(record.first("gpus").strip("| "))
    if wanted and int(wanted[1]) != gpus:
        notes.warn(record.short, f"the mapping's gpu_config is {wanted[0]}, but the command asks for {count}")
