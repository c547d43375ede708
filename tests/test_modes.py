"""Every mode and every release's clients: command line in, options that the image may lack, numbers out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from campaign_files import HEAD, IMAGES, SERVE, loaded, task, write
from demotree import TREE
from fakevllm import Run
from packaging.version import Version

from isobench_tui.campaign.argv import options
from isobench_tui.campaign.models import DATASET, MODEL, RESULT, RUN, SEED, JobSpec, Mode, Settings, Workload
from isobench_tui.campaign.options import SINCE, UNTIL, client_of, span
from isobench_tui.campaign.plan import render_plan
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.workload import Request, build
from isobench_tui.engine import procs
from isobench_tui.results.facts import AttemptFacts
from isobench_tui.results.judge import judge
from isobench_tui.results.metrics import HEADLINE, headline
from isobench_tui.results.models import ClientResult, TrialFacts
from isobench_tui.results.parse import parse_client
from isobench_tui.runner import jobfile

OLD = Path(__file__).parents[1].parent / "shared" / "data" / "vllm" / "old"
needs_old = pytest.mark.skipif(not OLD.is_dir(), reason="the saved outputs of older releases are not here")
PREFIX = "python3 benchmarks/benchmark_prefix_caching.py --model m/x --output-len 200 --enable-prefix-caching"


def built(command: str, **request: Any) -> tuple[Workload, list[str]]:
    """The workload and the texts of its warnings."""
    notes = Notes("campaign.toml")
    workload = build(command, Request(where="aaaaaaaa", **request), notes)
    return workload, [finding.text for finding in notes.findings if finding.level == "warning"]


def values(result: ClientResult) -> dict[str, float]:
    return {item.name: item.value for item in result.metrics}


# --------------------------------------------------------------------------------------------------- command lines


RESULTS = (("--save-result",), ("--result-dir", RUN), ("--result-filename", RESULT.rpartition("/")[2]))
WRITTEN = ("--output-json", RESULT)
OURS = ("--seed", SEED)


@pytest.mark.parametrize(
    ("command", "mode", "optional"),
    [
        ("python benchmarks/benchmark_serving.py", "serving", (OURS, *RESULTS)),
        ("python benchmarks/benchmark_serving.py --seed 4", "serving", RESULTS),
        ("python benchmarks/benchmark_serving.py --save-result --result_dir x", "serving", (OURS, RESULTS[2])),
        ("vllm bench serve", "serving", (OURS, *RESULTS, ("--ready-check-timeout-sec", "600"))),
        ("vllm bench serve --ready-check-timeout-sec 5", "serving", (OURS, *RESULTS)),
        ("python benchmark_throughput.py --input-len 8", "throughput", (OURS, WRITTEN)),
        ("vllm bench throughput --output-json x", "throughput", (OURS,)),
        ("python benchmarks/benchmark_latency.py --input-len 8", "latency", (WRITTEN,)),
        ("python -m vllm.entrypoints.cli.main bench latency --seed 1", "latency", (WRITTEN,)),
        ("python benchmarks/benchmark_prefix_caching.py", "prefix_caching", ()),
        ("python benchmarks/benchmark_prefix_caching.py --seed 1", "prefix_caching", ()),
    ],
)
def test_what_we_add_may_be_left_out(command: str, mode: str, optional: tuple[tuple[str, ...], ...]) -> None:
    workload, _ = built(command + " --model m")
    assert workload.mode == mode
    assert workload.optional == optional
    joined = " ".join(workload.client)
    assert all(" ".join(group) in joined for group in optional)
    assert bool(workload.server) == (mode == "serving")
    assert workload.writes_result == (mode != "prefix_caching")


def test_prefix_caching_as_it_is_published() -> None:
    workload, warnings = built(PREFIX, trials=2)
    assert workload.mode == "prefix_caching"
    assert workload.client == (
        *("python", "benchmarks/benchmark_prefix_caching.py", "--model", MODEL, "--output-len", "200"),
        "--enable-prefix-caching",
    )
    assert (workload.server, workload.seeds, workload.asked, workload.output_tokens) == ((), (), None, None)
    assert not workload.writes_result
    assert warnings == []


def test_prefix_caching_says_what_it_is_asked() -> None:
    more = " --num-prompts 20 --repeat-count 5 --input-length-range 128:256 --sort --prefix-len 50 --seed 7"
    workload, warnings = built(PREFIX + more, trials=2)
    assert (workload.asked, workload.seeds) == (100, (7, 8))
    assert SEED in workload.client
    assert warnings == []
    assert built(PREFIX + " --num-prompts 20")[0].asked is None


# ------------------------------------------------------------------------------------------------------- releases


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("vllm bench serve --model m", "vLLM 0.8.0 or newer (vllm bench serve)"),
        ("vllm bench serve --model m --num_warmups 3", "vLLM 0.11.1 or newer (--num-warmups)"),
        ("vllm bench latency --model m", "vLLM 0.8.5 or newer (vllm bench latency)"),
        (
            "python -m vllm.entrypoints.cli.main bench throughput --model m --dataset x",
            "vLLM 0.8.5 or newer (vllm bench throughput), older than 0.32.0 (--dataset)",
        ),
        ("python x/benchmark_serving.py --model m", "vLLM older than 0.10.2 (benchmark_serving.py)"),
        (
            "python benchmarks/benchmark_serving.py --model m --max-concurrency 4 --ignore-eos",
            "vLLM 0.6.4 or newer (--max-concurrency), older than 0.10.2 (benchmark_serving.py)",
        ),
        (
            "python benchmarks/benchmark_latency.py --model m --profile-result-dir x",
            "vLLM older than 0.9.1 (--profile-result-dir)",
        ),
        (PREFIX, ""),
        (PREFIX + " --prefix-len 9", "vLLM 0.6.5 or newer (--prefix-len)"),
    ],
)
def test_releases_that_can_run_a_command(tmp_path: Path, command: str, needs: str) -> None:
    workload = loaded(tmp_path, HEAD + IMAGES + task(command)).tasks[0].workload
    _, given = options(workload.client)
    ours = {group[0] for group in workload.optional}
    assert str(span(workload.client, [option for option in given if option.name not in ours])) == needs
    shown = re.sub(r"\s+", " ", render_plan(loaded(tmp_path, HEAD + IMAGES + task(command))))
    assert f" needs {needs} expects " in shown if needs else " needs " not in shown


def test_a_command_that_no_release_runs_is_a_warning() -> None:
    _, warnings = built("python benchmark_serving.py --model m --dataset s.json --save-detailed")
    assert any("no release of vLLM" in text and "0.8.0 (--dataset)" in text for text in warnings)
    _, warnings = built("vllm bench serve --model m --sonnet-input-len 3 --bfcl-categories x")
    assert not any("no release of vLLM" in text for text in warnings)


def test_the_tables_are_of_one_shape() -> None:
    assert set(SINCE) == set(UNTIL)
    for table in (SINCE, UNTIL):
        for client, releases in table.items():
            assert client_of(client.split() if " " in client else ["python", client]) == client
            assert all(Version(release) >= Version("0.2.0") for release in releases.values())
            assert all(re.fullmatch(r"--[a-z][a-z0-9-]*|", name) for name in releases)
    for client, releases in UNTIL.items():
        both = set(releases) & set(SINCE[client])
        assert all(Version(SINCE[client][name]) < Version(releases[name]) for name in both)


def _release(path: Path) -> tuple[str, str]:
    kind, _, release = path.stem.rpartition("_")
    return f"benchmark_{kind}.py", release


@needs_old
@pytest.mark.parametrize("path", sorted(OLD.glob("*.log")), ids=lambda path: path.stem)
def test_the_tables_agree_with_what_old_clients_print(path: Path) -> None:
    client, release = _release(path)
    found = re.search(r"^Namespace\((.*)\)$", path.read_text(errors="replace"), re.MULTILINE)
    known = {"--" + name.replace("_", "-") for name in re.findall(r"(\w+)=", found[1])} if found else set()
    if not known:
        gone = "" in UNTIL[client] and Version(release) >= Version(UNTIL[client][""])
        assert gone or release == "0.2.0"
        return
    at = Version(release)
    for name in {*SINCE[client], *UNTIL[client]} - {""}:
        since, until = SINCE[client].get(name, "0"), UNTIL[client].get(name, "99")
        if at < Version(since) or at >= Version(until):
            assert name not in known, f"{release} has {name}"
        elif name in SINCE[client]:
            assert name in known, f"{release} lacks {name}"


# ---------------------------------------------------------------------------------------------------------- output


NUMBERS = {
    "serving_0.4.2": {"output_throughput": 748.61, "input_throughput": 1449.34, "mean_ttft_ms": 28.99},
    "serving_0.5.4": {"output_throughput": 485.78, "mean_itl_ms": 6.04},
    "serving_0.6.3.post1": {"output_throughput": 477.93, "total_token_throughput": 2144.80, "p50_e2el_ms": 171.55},
    "serving_0.8.5": {"output_throughput": 651.74, "request_goodput": 40.73},
    "throughput_0.4.2": {"requests_per_second": 61.45, "tokens_per_second": 2949.49},
    "throughput_0.5.4": {"requests_per_second": 61.33, "tokens_per_second": 2943.69},
    "throughput_0.6.3.post1": {"requests_per_second": 61.45, "tokens_per_second": 2949.59},
    "throughput_0.8.5": {"requests_per_second": 61.40, "tokens_per_second": 2947.21, "output_throughput": 982.40},
    "latency_0.2.0": {"avg_latency": 0.09019899368286133},
}


@needs_old
@pytest.mark.parametrize("name", NUMBERS)
def test_the_numbers_of_old_clients(name: str) -> None:
    mode = name.partition("_")[0]
    assert mode in get_args(Mode)
    file = OLD / f"{name}.json"
    for raw in [None, file.read_bytes()] if file.exists() else [None]:
        found = values(parse_client(mode, (OLD / f"{name}.log").read_bytes(), raw))  # type: ignore[arg-type]
        assert {key: found[key] for key in NUMBERS[name]} == pytest.approx(NUMBERS[name], rel=1e-3)


FIRST = """Traffic request rate: inf
Successful requests: 20
Benchmark duration: 0.515772 s
Total input tokens: 908
Total generated tokens: 469
Request throughput: 38.78 requests/s
Input token throughput: 1760.47 tokens/s
Output token throughput: 909.32 tokens/s
Mean TTFT: 31.25 ms
Median TTFT: 27.50 ms
P99 TTFT: 99.00 ms
Mean TPOT: 6.25 ms
Median TPOT: 6.00 ms
P99 TPOT: 8.75 ms
"""


def test_the_first_serving_client_with_a_result_file() -> None:
    raw = {"duration": 0.515772, "completed": 20, "total_output_tokens": 469, "request_inthroughput": 38.7768,
           "output_throughput": 909.3168, "num_prompts": 20}  # fmt: skip
    for written in (None, json.dumps(raw).encode()):
        result = parse_client("serving", FIRST.encode(), written)
        found = values(result)
        assert (result.reason, result.disagreements, result.problems) == (None, (), ())
        assert (found["p99_tpot_ms"], found["mean_ttft_ms"], found["input_throughput"]) == (8.75, 31.25, 1760.47)
        assert round(found["request_throughput"], 2) == 38.78
        assert (result.completed, result.output_tokens, result.window_s) == (20, 469, 0.515772)
    assert parse_client("serving", FIRST.rpartition("P99")[0].encode(), None).reason
    twice = FIRST + FIRST.replace("909.32", "1.00").rpartition("P99")[0]
    assert values(parse_client("serving", twice.encode(), None))["output_throughput"] == 909.32


BAR = "Processed prompts: 100%|###| 100/100 [00:03<00:00, 25.93it/s, est. speed input: {} toks/s, output: {} toks/s]"
WARM = f"------warm up------\n\rProcessed prompts:   0%|   | 0/100\r{BAR.format('1.00', '2.00')}\ncost time 9.0\n"


@pytest.mark.parametrize(
    ("log", "metrics"),
    [
        # up to 0.4.0 the bar has no speeds
        ("------warm up------\ncost time 9.0\n------start generating------\ncost time 3.5\n", {"cost_time": 3.5}),
        (
            WARM
            + "------start generating------\n\rProcessed prompts:  50%|#  | 50/100 [est. speed input: 5.00 toks/s, "
            f"output: 6.00 toks/s]\r{BAR.format('16727.70', '5186.87')}\ncost time 3.9213526248931885\n",
            {"cost_time": 3.9213526248931885, "input_throughput": 16727.7, "output_throughput": 5186.87},
        ),
        # the speeds are of the warm-up
        (WARM + "------start generating------\ncost time 3.5\n", {"cost_time": 3.5}),
        (WARM, None),
        (WARM + "------start generating------\n" + BAR.format("1", "2"), None),
        (WARM + "------start generating------\ncost time nan\n", None),
        (WARM + "------start generating------\ncost time 0.0\n", None),
    ],
)
def test_what_the_prefix_caching_client_prints(log: str, metrics: dict[str, float] | None) -> None:
    result = parse_client("prefix_caching", log.encode(), None)
    assert values(result) == (metrics or {})
    assert bool(result.reason) == (metrics is None)
    assert result.window_s == (metrics["cost_time"] if metrics else result.window_s)


def test_judging_prefix_caching() -> None:
    load = Workload(mode="prefix_caching", model="m", client=("python", "benchmark_prefix_caching.py"), asked=100)
    end = {"event": "end", "exit_code": 0, "outcome": "ok", "phase": "measure"}

    def verdict(log: str) -> Any:
        result = parse_client("prefix_caching", log.encode(), None)
        trials = (TrialFacts(0, True, 0, result),)
        logs = {"client-00.log": log.encode()}
        return judge(AttemptFacts(workload=load, events=(end,), trials=trials, logs=logs, exit_code=0))

    good = verdict("------start generating------\ncost time 40.0\n")
    assert (good.outcome, good.valid, [item.name for item in good.metrics]) == ("success", True, ["cost_time"])
    assert good.metrics[0].better == "lower"
    assert verdict(WARM).diagnosis.failure == "no_metrics"


def test_every_mode_has_a_headline() -> None:
    modes: tuple[Mode, ...] = get_args(Mode)
    assert {mode: headline(mode) for mode in modes} == HEADLINE


# ------------------------------------------------------------------------------------------------------- data sets


def test_the_tasks_data_set_is_named_by_a_placeholder(tmp_path: Path) -> None:
    command = SERVE.replace("random", "sharegpt") + " --dataset-path=/on/another/machine/s.json"
    fingerprints = set()
    for folder in ("one", "two"):
        write(tmp_path / folder, "[]", "sets/share.json")
        made = loaded(tmp_path / folder, HEAD + IMAGES + task(command, more="dataset = 'sets/share.json'"))
        workload = made.tasks[0].workload
        assert f"--dataset-path={DATASET}" in workload.client
        assert str(tmp_path) not in workload.model_dump_json()
        assert workload.dataset == "sha256:" + hashlib.sha256(b"[]").hexdigest()
        assert {job.dataset for job in made.jobs} == {str(tmp_path / folder / "sets/share.json")}
        fingerprints.add(made.tasks[0].fingerprint)
    assert len(fingerprints) == 1
    volumes = "[container]\nvolumes = ['one/sets:/data:ro']\n"
    seen = loaded(tmp_path, HEAD + IMAGES + volumes + task(command.replace("=/on/another/machine/s", "=/data/share")))
    assert {seen.tasks[0].fingerprint} == fingerprints


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("python benchmarks/benchmark_throughput.py --model m --dataset old.json", ("--dataset", DATASET)),
        (PREFIX + " --dataset-path x", ("--dataset-path", DATASET)),
        ("vllm bench latency --model m", None),
    ],
)
def test_old_and_new_names_of_the_path(command: str, named: tuple[str, str] | None) -> None:
    workload, warnings = built(command, dataset=True)
    if named is None:
        assert any("nothing reads it" in text for text in warnings)
        assert DATASET not in workload.client
    else:
        assert " ".join(named) in " ".join(workload.client)
        assert warnings == []


def _job(tmp_path: Path, engine: str) -> tuple[JobSpec, Settings]:
    write(tmp_path, "[]", "sets/share gpt.json")
    (tmp_path / "tree").mkdir(exist_ok=True)
    images = IMAGES
    if engine == "process":
        images = "[engine]\nkind = 'process'\n[images]\nbaseline = 'tree'\nhuman = 'tree'\n"
    command = SERVE + " --dataset-path x"
    made = loaded(tmp_path, HEAD + images + task(command, more="dataset = 'sets/share gpt.json'"))
    return made.jobs[0], made.settings


@pytest.mark.parametrize("engine", ["docker", "process"])
def test_where_the_client_sees_the_data_set(tmp_path: Path, engine: str) -> None:
    spec, settings = _job(tmp_path, engine)
    tree = tmp_path / "copy" if engine == "process" else None
    job = jobfile.build("a1", spec, settings, tmp_path, tree)
    host = tmp_path / "sets" / "share gpt.json"
    assert job.dataset is not None
    assert job.dataset.sha256 == hashlib.sha256(b"[]").hexdigest()
    assert job.dataset.path == (str(host) if tree else "/isobench/dataset/share gpt.json")
    mounts = [mount for mount in jobfile._mounts(spec, settings) if mount.source == host]
    assert [(mount.target, mount.read_only) for mount in mounts] == [("/isobench/dataset/share gpt.json", True)]


# ------------------------------------------------------------------------------------------------------- end to end


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    assert not procs.family(made.attempt), "the driver left processes behind"


def attempt(run: Run, workload: Workload, tree: Path) -> AttemptFacts:
    """A whole attempt of an offline workload on a tree, as the runner orders and reads it."""
    spec = JobSpec(campaign="c", commit="a" * 40, parent="b" * 40, arm="baseline", image=str(tree), workload=workload,
                   fingerprint="f")  # fmt: skip
    (trial,) = jobfile.trials(spec, Settings(engine="process"))
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    code = run.run(trial, tree=str(tree), model=workload.model, env=env)
    file = run.dir / str(trial.result)
    raw = file.read_bytes() if file.exists() else None
    result = parse_client(workload.mode, (run.dir / trial.log).read_bytes(), raw)
    facts = TrialFacts(trial.index, trial.counted, run.all("trial")[-1]["exit_code"], result)
    return AttemptFacts(workload=workload, events=tuple(run.events), trials=(facts,), exit_code=code, min_window_s=0)


def test_prefix_caching_on_the_demos_tree(run: Run) -> None:
    workload, _ = built(PREFIX.replace("m/x", "facebook/opt-125m") + " --num-prompts 2 --repeat-count 20 --seed 5")
    verdict = judge(attempt(run, workload, TREE))
    assert verdict.outcome == "success", verdict.diagnosis
    assert [item.name for item in verdict.metrics] == ["cost_time", "input_throughput", "output_throughput"]
    assert "SIMULATED" in run.log("client-00.log")


@pytest.mark.parametrize("command", ["benchmarks/benchmark_throughput.py", "vllm"])
def test_throughput_with_and_without_a_result_file(run: Run, command: str) -> None:
    head = "vllm bench throughput" if command == "vllm" else f"python {command}"
    workload, _ = built(f"{head} --model facebook/opt-125m --input-len 8 --output-len 8 --num-prompts 4")
    facts = attempt(run, workload, TREE)
    assert run.one("client")["dropped"] == []
    assert (run.dir / "client-00.json").stat().st_size
    assert judge(facts).outcome == "success"


OLD_CLIENT = """# SIMULATED: the options and the line of 0.4.2
import argparse
parser = argparse.ArgumentParser()
for name in ("--model", "--input-len", "--output-len", "--num-prompts", "--seed"):
    parser.add_argument(name)
print(parser.parse_args())
print("Throughput: 61.45 requests/s, 2949.49 tokens/s")
"""


def test_a_client_older_than_its_result_file(run: Run) -> None:
    script = run.tree / "benchmarks" / "benchmark_throughput.py"
    script.parent.mkdir()
    script.write_text(OLD_CLIENT)
    workload, _ = built("python benchmarks/benchmark_throughput.py --model m --input-len 8 --output-len 8")
    verdict = judge(attempt(run, workload, run.tree))
    assert verdict.outcome == "success", verdict.diagnosis
    assert {item.name: item.value for item in verdict.metrics} == {
        "requests_per_second": 61.45, "tokens_per_second": 2949.49
    }  # fmt: skip
    assert run.one("client")["dropped"] == ["--output-json"]
