"""perf_command -> Workload: what is measured, with every change that we make to the command and nothing else.

The changes, on argv tokens and the same in every arm: model (for overrides), port, host where it is not this machine,
path of the task's data set, result file, seed series, `--ready-check-timeout-sec`; and engine options of a serving
command go to the server. What we add and the image's client does not know is left out again (`Workload.optional`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from isobench_tui.campaign import flags
from isobench_tui.campaign.argv import CommandError, Option, flag, last, options, put, tokens
from isobench_tui.campaign.command import Command, count_of, model_of, read, text_of
from isobench_tui.campaign.models import DATASET, MODEL, PORT, RESULT, RUN, SEED, Mode, Override, Workload
from isobench_tui.campaign.options import span
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.spec import OverrideTable

READY_CHECK_S = 600
"""vLLM's own default up to 0.13; from 0.14 on the check is off unless asked for."""

_DEFAULT_PROMPTS = 1000
"""`--num-prompts` of every client since 0.2.0."""
_RESULT = ("--save-result", "--result-dir", "--result-filename", "--output-json")
_ADDED = ("--seed", *_RESULT, "--ready-check-timeout-sec")
"""What may be ours in a client's argv; which releases have it: `options.py`."""
_DATASET_PATHS = ("--dataset-path", "--dataset")
"""Where a data set lies; `--dataset` up to 0.7.3 in benchmark_serving.py, the only one up to 0.7.3 in throughput."""
_LOOPBACK = {"127.0.0.1", "localhost"}
_LARGEST_SEED = 2**32 - 1
"""What numpy takes."""


class ServerArgsError(CommandError):
    """Like CommandError, but the fault is in server args, not in perf_command."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a campaign says about one task beside its perf_command."""

    where: str
    """What findings are filed under."""
    model: str | None = None
    """The task's `model`."""
    mode: Mode | None = None
    env: dict[str, str] = field(default_factory=dict)
    """`[env]` and the task's `env`; assignments in the command win over both."""
    server_args: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    overrides: Sequence[OverrideTable] = ()
    decided: bool | None = None
    """The task's `override`."""
    trials: int = 1
    warmups: int = 0
    dataset: bool = False
    """The task names a data set file: the client is told where it is mounted."""


def build(perf_command: str, request: Request, notes: Notes) -> Workload:
    """The workload of a task; what is odd goes to `notes`. Raises CommandError."""
    command = read(perf_command, request.mode)
    for remark in command.remarks:
        notes.warn(request.where, remark)
    model, override = _model(command, request, notes)
    client = _with_model(list(command.options), model)
    server: tuple[str, ...] = ()
    model_ids: tuple[str, ...] = ()
    client = _with_dataset(client, request, notes)
    if command.mode == "serving":
        client, engine = _divide(client, request, notes)
        server, model_ids = _server(client, engine, model, override, request)
        _check_name(client, server, model_ids, request, notes)
        client = _local(client, request, notes)
        _check_dataset(command, request, notes)
    else:
        _name_unknown(client, request, notes)
        _check_lengths(command, request, notes)
    client, seeds = _seeded(client, command.mode, request)
    client = _with_ready_check(_with_result(client, command.mode), command)
    _check_releases(command, request, notes)
    env = {**request.env, **command.env}
    if "CUDA_VISIBLE_DEVICES" in env:
        notes.warn(request.where, "CUDA_VISIBLE_DEVICES is set, but the lane decides which GPUs there are")
    return Workload(
        mode=command.mode,
        model=model,
        client=command.head + tokens(client),
        optional=_optional(client, command),
        server=server,
        model_ids=model_ids,
        override=override,
        env=env,
        setup=request.setup,
        seeds=seeds,
        asked=_asked(command),
        output_tokens=_output_tokens(command),
        writes_result=command.mode != "prefix_caching",
    )


def _model(command: Command, request: Request, notes: Notes) -> tuple[str, Override | None]:
    """The model as the command names it, and what replaces it."""
    written = model_of(command.options)
    model = written or request.model
    if not model:
        raise CommandError("names no model", "--model NAME in perf_command, or model in the task")
    rows = {row.model: row for row in request.overrides}
    if request.model and request.model != model:
        return model, _by_task(model, request.model, rows, request, notes)
    row = rows.get(model)
    if row is None:
        if request.decided is not None:
            raise CommandError(
                f'the task says override, but no [[model_overrides]] has model = "{model}"', "no override key"
            )
        return model, None
    if request.decided is False:
        notes.info(request.where, f"model override {row.model} -> {row.use} switched off by the task")
        return model, None
    return model, Override(
        model=model, use=row.use, before_vllm=row.before_vllm, decided=request.decided, reason=row.reason
    )


def _by_task(model: str, use: str, rows: dict[str, OverrideTable], request: Request, notes: Notes) -> Override:
    """perf_command and the task name different models: the task's runs, in every arm, and it is said."""
    for name in (model, use):
        if name in rows and rows[name].use != use:
            raise CommandError(
                f"names the model {model}, the task {use}, and [[model_overrides]] {rows[name].use}",
                "the task without model, or with the model of [[model_overrides]]",
            )
    notes.warn(request.where, f"perf_command names the model {model}, the task {use}: {use} runs, in every arm")
    return Override(model=model, use=use, reason="the task names another model than perf_command")


def _with_model(found: list[Option], model: str) -> list[Option]:
    found = put(found, "--model", MODEL)
    for name in ("--tokenizer", "--served-model-name"):
        option = last(found, name)
        if option and option.values == (model,):
            found = put(found, name, MODEL)
    return found


def _divide(found: list[Option], request: Request, notes: Notes) -> tuple[list[Option], list[Option]]:
    """Options of the client, and those that only the server knows."""
    client, engine = [], []
    for option in found:
        if flags.is_serve_client(option.name):
            client.append(option)
            if flags.positive(option.name) in flags.BOTH:
                engine.append(option)
        elif flags.is_server(option.name):
            engine.append(option)
        else:
            client.append(option)
            notes.warn(request.where, f"{option.name}: neither vLLM's client nor its server has it as far as known; "
                       "it stays with the client")  # fmt: skip
    if engine:
        moved = " ".join(dict.fromkeys(option.name for option in engine))
        notes.info(request.where, f"goes to the server: {moved}")
    return client, engine


def _name_unknown(found: list[Option], request: Request, notes: Notes) -> None:
    for option in found:
        if not flags.is_offline(option.name):
            notes.warn(request.where, f"{option.name}: not an option of vLLM's offline clients as far as known")


def _check_lengths(command: Command, request: Request, notes: Notes) -> None:
    """vLLM 0.30 and 0.32 draw random prompts by --random-input-len (1024) and --random-output-len (128).

    `vllm bench throughput` then does not look at the --input-len and --output-len that older releases want.
    """
    if not command.cli or command.mode != "throughput" or text_of(command.options, "--dataset-path"):
        return
    for name in ("--input-len", "--output-len"):
        if last(command.options, name) and not last(command.options, f"--random{name[1:]}"):
            notes.warn(request.where, f"{name}: newer vLLM (0.30 does) ignores it for random prompts and takes the "
                       f"default of --random{name[1:]}")  # fmt: skip


def _server(
    client: list[Option], engine: list[Option], model: str, override: Override | None, request: Request
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The server's argv, and the names under which it may list our model."""
    loose, given = options(request.server_args)
    if loose:
        raise ServerArgsError(f"{loose[0]} stands where an option should", 'like ["--max-model-len", "4096"]')
    for option in given:
        if option.name in flags.OURS:
            raise ServerArgsError(f"{option.name} is ours to set", "other options of the server")
        if option.name in flags.SECRET:
            raise ServerArgsError(f"{option.name} would be stored and shown", '[model] secrets = ["NAME"]')
    base = ("python", "-m", "vllm.entrypoints.openai.api_server")
    argv = (*base, "--model", MODEL, "--host", "127.0.0.1", "--port", PORT, *tokens(given), *tokens(engine))
    served = last([*given, *engine], "--served-model-name")
    if served:
        return argv, served.values
    asked_for = text_of(client, "--served-model-name")
    if asked_for and asked_for != MODEL:
        # The client sends this name with every request; a server that does not know it answers 404.
        return (*argv, "--served-model-name", asked_for), (asked_for,)
    if override is None:
        return argv, (model,)
    conditional = override.before_vllm and override.decided is None
    return argv, (model, override.use) if conditional else (override.use,)


def _check_name(
    client: list[Option], server: tuple[str, ...], model_ids: tuple[str, ...], request: Request, notes: Notes
) -> None:
    sent = text_of(client, "--served-model-name") or MODEL
    if "--served-model-name" in server and sent not in model_ids:
        shown = "the model's own name" if sent == MODEL else sent
        notes.warn(
            request.where, f"the server serves the model as {', '.join(model_ids)}; the client asks for {shown}"
        )


def _local(found: list[Option], request: Request, notes: Notes) -> list[Option]:
    """The client's own server is beside it, on a port that is known only when it runs."""
    url = text_of(found, "--base-url")
    if url is not None:
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError as error:
            raise CommandError(f"--base-url {url}: {error}", "http://127.0.0.1:8000") from error
        found = put(found, "--base-url", f"http://127.0.0.1:{PORT}{parts.path}")
        if host not in _LOOPBACK:
            notes.warn(request.where, f"--base-url {url} is not this machine: the client goes to its own server")
    host = text_of(found, "--host")
    if host is not None and host not in _LOOPBACK:
        notes.warn(request.where, f"--host {host} is not 127.0.0.1 or localhost: the client goes to its own server")
        found = put(found, "--host", "127.0.0.1")
    return put(found, "--port", PORT)


def _check_dataset(command: Command, request: Request, notes: Notes) -> None:
    named = last(command.options, "--dataset") or last(command.options, "--dataset-path")
    kind = text_of(command.options, "--dataset-name")
    if not command.cli and not named and kind in {None, "sharegpt"}:
        notes.warn(request.where, "the script's data set is sharegpt, and no --dataset-path says where it is")


def _seeded(found: list[Option], mode: Mode, request: Request) -> tuple[list[Option], tuple[int, ...]]:
    """A seed of its own for each run of the client, from the command's own (or 0) on.

    Older `benchmark_latency.py` and `benchmark_prefix_caching.py` have no `--seed`, and each of their runs is a fresh
    engine anyway: they keep what they were given.
    """
    base = count_of(found, "--seed", least=0)
    if mode in {"latency", "prefix_caching"} and base is None:
        return found, ()
    series = tuple(range(base or 0, (base or 0) + request.warmups + request.trials))
    if series[-1] > _LARGEST_SEED:
        raise CommandError(f"--seed {base} is too large", f"--seed up to {_LARGEST_SEED}")
    return put(found, "--seed", SEED), series


def _with_dataset(found: list[Option], request: Request, notes: Notes) -> list[Option]:
    """The task's own data set in place of the path that the command names."""
    if not request.dataset:
        return found
    named = [name for name in _DATASET_PATHS if last(found, name)]
    if not named:
        notes.warn(
            request.where,
            f"the task has a dataset, but perf_command has neither {' nor '.join(_DATASET_PATHS)}: nothing reads it",
        )
    for name in named:
        found = put(found, name, DATASET)
    return found


def _with_result(found: list[Option], mode: Mode) -> list[Option]:
    if mode == "prefix_caching":  # it only prints
        return found
    if mode != "serving":
        return put(found, "--output-json", RESULT)
    found = put(flag(found, "--save-result"), "--result-dir", RUN)
    return put(found, "--result-filename", RESULT.rsplit("/", 1)[-1])


def _with_ready_check(found: list[Option], command: Command) -> list[Option]:
    name = "--ready-check-timeout-sec"
    if command.mode != "serving" or not command.cli or last(found, name):
        return found
    return put(found, name, str(READY_CHECK_S))


def _optional(client: list[Option], command: Command) -> tuple[tuple[str, ...], ...]:
    """The options that are there because we put them there."""
    ours = [option for option in client if option.name in _ADDED and not last(command.options, option.name)]
    return tuple(option.tokens for option in ours)


def _check_releases(command: Command, request: Request, notes: Notes) -> None:
    found = span(command.head, command.options)
    if found.empty:
        notes.warn(request.where, f"no release of vLLM can run this: it takes {found}")


def _asked(command: Command) -> int | None:
    prompts = count_of(command.options, "--num-prompts")
    if command.mode == "prefix_caching":
        # Without --num-prompts (up to 0.5.4) it is 100; --repeat-count has had two defaults.
        repeats = count_of(command.options, "--repeat-count")
        return prompts * repeats if prompts and repeats else None
    return None if command.mode == "latency" else prompts or _DEFAULT_PROMPTS


def _output_tokens(command: Command) -> int | None:
    """Tokens that a complete run generates, None unless the command fixes them beyond doubt."""
    given = command.options
    asked = _asked(command)
    serving = command.mode == "serving"
    dataset = text_of(given, "--dataset-name")
    if asked is None or not _fixed_length(command) or command.mode == "prefix_caching":
        return None
    if serving:
        if not last(given, "--ignore-eos") or dataset != "random" or last(given, "--use-beam-search"):
            return None
        each = count_of(given, "--output-len") or count_of(given, "--random-output-len")
        return asked * each if each else None
    synthetic = dataset in {None, "random"} and not last(given, "--dataset") and not last(given, "--dataset-path")
    if not synthetic or text_of(given, "--backend") not in {None, "vllm"} or count_of(given, "--n") not in {None, 1}:
        return None
    each = count_of(given, "--output-len")
    if command.cli:  # see `_check_lengths`; --random-output-len is what counts wherever it exists
        drawn = count_of(given, "--random-output-len")
        each = drawn if each in {None, drawn} else None
    return asked * each if each else None


def _fixed_length(command: Command) -> bool:
    """Whether the random dataset draws one length only.

    The default means so in every release. Up to 0.8.4 the drawn range was [ratio * length, length] and the default 1;
    since then it is length * (1 ± ratio) and the default 0: an explicit 0 is clear only with the newer command line.
    """
    ratio = text_of(command.options, "--random-range-ratio")
    if ratio is None:
        return True
    try:
        return float(ratio) == (0.0 if command.cli else 1.0)
    except ValueError:
        return False


def gpus_needed(workload: Workload) -> int:
    """GPUs that the command's parallel sizes multiply to."""
    _, given = options(workload.server or workload.client)
    needed = 1
    for name in ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"):
        try:
            needed *= count_of(given, name) or 1
        except CommandError:
            continue
    return needed


def dataset_option(workload: Workload) -> str | None:
    """The path of the dataset as the client is told it."""
    _, given = options(workload.client)
    for name in _DATASET_PATHS:
        option = last(given, name)
        if option and len(option.values) == 1:
            return option.values[0]
    return None
