"""The driver and its client: where that lies, whether it still measures, and which of our options it knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakevllm
import pytest
from fakevllm import Run

from isobench_tui.campaign.models import Workload
from isobench_tui.engine import procs
from isobench_tui.engine.job import DRIVER, DatasetJob, TrialJob
from isobench_tui.results.facts import AttemptFacts
from isobench_tui.results.judge import judge

SCRIPT = '''"""Fake client; an option that it does not know ends it with 2, as argparse does."""
import argparse, json, os

OPTIONS
parser.add_argument("--model")
args = parser.parse_args()
print("ran with", sorted(key for key, value in vars(args).items() if value is not None))
'''
HEAD = "parser = argparse.ArgumentParser(allow_abbrev=False)"
STUB = '''import sys

if __name__ == "__main__":
    print("""DEPRECATED: This script has been moved to the vLLM CLI.

Please use the following command instead:
    vllm bench serve
""")
    sys.exit(1)
'''


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    assert not procs.family(made.attempt), "the driver left processes behind"


def write(run: Run, name: str, text: str) -> Path:
    path = run.tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def script(run: Run, *known: str, name: str = "benchmarks/benchmark_throughput.py", more: str = "") -> Path:
    """A client that knows these options."""
    adds = "".join(f"\nparser.add_argument({option!r})" for option in known)
    return write(run, name, SCRIPT.replace("OPTIONS\n", f"{HEAD}{adds}\n{more}\n"))


def trial(
    *optional: tuple[str, ...],
    head: tuple[str, ...] = ("python", "benchmarks/benchmark_throughput.py"),
    **changed: Any,
) -> TrialJob:
    """A run of a client with `--model m`, and options that we added."""
    added = tuple(token for group in optional for token in group)
    values: dict[str, Any] = {"index": 0, "counted": True, "log": "client-00.log", "seed": 3, **changed}
    return TrialJob(argv=(*head, "--model", "m", *added), optional=optional, **values)


SEED = ("--seed", "3")
JSON = ("--output-json", "{isobench:run}/client-00.json")


def executed(run: Run) -> list[str]:
    argv = run.all("trial")[-1]["argv"]
    return [str(token) for token in argv[2:]]


def test_options_that_this_client_lacks_are_left_out_and_said(run: Run) -> None:
    script(run, "--seed")
    assert run.run(trial(SEED, JSON)) == 0
    assert executed(run) == ["--model", "m", "--seed", "3"]
    assert run.one("client")["dropped"] == ["--output-json"]
    assert "ran with ['model', 'seed']" in run.log("client-00.log")
    assert run.all("trial")[-1]["seed"] == 3


def test_without_a_seed_the_trial_says_so(run: Run) -> None:
    script(run, "--output-json")
    assert run.run(trial(SEED, JSON)) == 0
    assert executed(run) == ["--model", "m", "--output-json", f"{run.dir}/client-00.json"]
    assert [event["seed"] for event in run.all("trial")] == [None, None]


def test_without_a_seed_each_trial_has_a_fresh_server(run: Run) -> None:
    script(run)
    trials = [trial(("--seed", str(i)), index=i, log=f"client-0{i}.log") for i in range(2)]
    assert run.run(*trials, server=run.server()) == 0
    first, second = run.all("server")
    assert first["pid"] != second["pid"]


def test_options_may_be_written_in_what_the_client_imports(run: Run) -> None:
    engine = 'def add_cli_args(parser):\n    parser.add_argument("--seed")\n'
    write(run, "vllm/engine/arg_utils.py", engine)
    (run.tree / "vllm/engine.py").unlink()
    write(run, "vllm/engine/__init__.py", "")
    write(run, "benchmarks/benchmark_utils.py", "def more(parser):\n    parser.add_argument('--output-json')\n")
    text = f"from benchmark_utils import more\nfrom vllm.engine.arg_utils import add_cli_args\n{HEAD}\n"
    write(run, "benchmarks/benchmark_throughput.py",
          SCRIPT.replace("OPTIONS\n", text + "more(parser)\nadd_cli_args(parser)\n"))  # fmt: skip
    assert run.run(trial(SEED, JSON), env={"PYTHONPATH": str(run.tree)}) == 0
    assert run.one("client")["dropped"] == []
    assert "ran with ['model', 'output_json', 'seed']" in run.log("client-00.log")


def bench(run: Run, *known: str, package: bool = False) -> tuple[str, ...]:
    """`vllm bench serve` as far as the driver reads it, and the head of an argv that starts it."""
    adds = "".join(f'    parser.add_argument("{option}")\n' for option in known)
    data = "vllm/benchmarks/datasets" + ("/datasets.py" if package else ".py")
    write(run, data, "def add_dataset_parser(parser):\n    parser.add_argument('--seed')\n")
    if package:
        write(run, "vllm/benchmarks/datasets/__init__.py", "from vllm.benchmarks.datasets.datasets import x\n")
    imports = "from vllm.benchmarks.datasets import (SampleRequest,\n                  add_dataset_parser)\n"
    write(run, "vllm/benchmarks/serve.py", f"{imports}\ndef add_cli_args(parser):\n{adds}    pass\n")
    write(run, "vllm/entrypoints/cli/main.py", "import sys\nprint(sys.argv[1:])\n")
    return ("vllm", "bench", "serve")


READY = ("--ready-check-timeout-sec", "600")


@pytest.mark.parametrize("package", [False, True], ids=["module", "package"])
def test_the_command_lines_own_client(run: Run, package: bool) -> None:
    head = bench(run, "--save-result", package=package)
    env = {"PATH": "/usr/bin:/bin"}
    assert run.run(trial(SEED, ("--save-result",), READY, head=head), env=env) == 0
    assert run.one("client")["dropped"] == ["--ready-check-timeout-sec"]
    assert "vllm/benchmarks/serve.py" in run.one("client")["files"]
    assert "['bench', 'serve', '--model', 'm', '--seed', '3', '--save-result']" in run.log("client-00.log")


def test_a_vllm_without_that_benchmark(run: Run) -> None:
    bench(run)
    assert run.run(trial(head=("vllm", "bench", "latency")), server=run.server(), env={"PATH": "/usr/bin:/bin"}) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "bench_script_missing")
    assert f"{run.tree}/vllm/benchmarks/latency.py" in fail["reason"]
    assert not run.all("server")


def test_what_the_command_itself_says_is_never_left_out(run: Run) -> None:
    script(run)
    made = TrialJob(
        index=0, counted=True, argv=("python", "benchmarks/benchmark_throughput.py", *SEED), log="client-00.log"
    )
    assert run.run(made) == 1
    assert run.one("fail")["failure"] == "client_failed"
    assert "unrecognized arguments: --seed 3" in run.log("client-00.log")


# ------------------------------------------------------------------------------------------------- result files


SAVES = """
import sys
parser.add_argument("--save-result", action="store_true")
parser.add_argument("--result-dir")
NAME = "vllm-infqps-m-20240501-120000.json"
if "--save-result" in sys.argv:
    with open(os.path.join(sys.argv[sys.argv.index("--result-dir") + 1], NAME), "w") as f:
        json.dump({"output_throughput": 7.5}, f)
"""
SAVED = (("--save-result",), ("--result-dir", "{isobench:run}"), ("--result-filename", "client-00.json"))


def test_a_result_file_that_the_client_named_itself_is_found(run: Run) -> None:
    script(run, name="benchmarks/benchmark_serving.py", more=SAVES)
    (run.dir / "client-00.json").touch()  # as the runner does
    head = ("python", "benchmarks/benchmark_serving.py")
    assert run.run(trial(*SAVED, head=head, result="client-00.json")) == 0
    assert run.one("client")["dropped"] == ["--result-filename"]
    assert json.loads(run.log("client-00.json")) == {"output_throughput": 7.5}
    assert not list(run.dir.glob("vllm-*"))


def test_several_files_are_nobodys_result(run: Run) -> None:
    more = SAVES + "    open(os.path.join(os.path.dirname(f.name), 'other.json'), 'w').close()\n"
    script(run, name="benchmarks/benchmark_serving.py", more=more)
    head = ("python", "benchmarks/benchmark_serving.py")
    assert run.run(trial(*SAVED, head=head, result="client-00.json")) == 0
    assert not (run.dir / "client-00.json").exists()


# -------------------------------------------------------------------------------------------------- the script


def test_a_script_that_only_says_where_it_went(run: Run) -> None:
    path = write(run, "benchmarks/benchmark_serving.py", STUB)
    assert run.run(trial(head=("python", "benchmarks/benchmark_serving.py")), server=run.server()) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "bench_script_deprecated")
    said = f"{path}:4: DEPRECATED: This script has been moved to the vLLM CLI; it is now `vllm bench serve`"
    assert fail["reason"] == said
    assert not run.all("server")
    assert not run.all("trial")
    facts = AttemptFacts(
        workload=Workload(mode="serving", model="m", client=("python", "benchmarks/benchmark_serving.py")),
        events=tuple(run.events),
        logs={"setup.log": (run.dir / "setup.log").read_bytes()},
        exit_code=1,
    )
    diagnosis = judge(facts).diagnosis
    assert diagnosis is not None
    assert diagnosis.failure == "bench_script_deprecated"
    assert diagnosis.evidence is not None
    assert (diagnosis.evidence.file, diagnosis.evidence.text) == ("setup.log", said)


def test_a_script_that_warns_of_its_end_still_measures(run: Run) -> None:
    script(run, more='print("DEPRECATED: This script has been moved to the vLLM CLI.")')
    assert run.run(trial()) == 0


def test_a_bare_name_is_found_in_the_benchmarks_folder(run: Run) -> None:
    path = script(run)
    assert run.run(trial(head=("python", "benchmark_throughput.py"))) == 0
    assert run.all("trial")[-1]["argv"][1] == str(path)


def image(run: Run, monkeypatch: pytest.MonkeyPatch, *places: Path) -> dict[str, Any]:
    """The job of an image, without a tree of its own, whose known folders are these."""
    text = DRIVER.read_text()
    begin = text.index("SCRIPT_PLACES = ")
    end = text.index("\n", begin)
    copy = run.root / "driver.py"
    copy.write_text(f"{text[:begin]}SCRIPT_PLACES = {[str(place) for place in places]!r}{text[end:]}")
    monkeypatch.setattr(fakevllm, "DRIVER", copy)
    return {"tree": None, "env": {"PYTHONPATH": str(run.tree)}}


def test_where_images_keep_the_source_tree(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = image(run, monkeypatch, tmp_path / "none", tmp_path / "opt")
    path = script(run).rename(tmp_path / "client.py")
    (tmp_path / "opt" / "benchmarks").mkdir(parents=True)
    path = path.rename(tmp_path / "opt" / "benchmarks" / "benchmark_throughput.py")
    assert run.run(trial(JSON), **job) == 0
    assert run.all("trial")[-1]["argv"][1] == str(path)
    assert run.one("client")["dropped"] == ["--output-json"]


def test_a_script_that_is_nowhere(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = image(run, monkeypatch, tmp_path / "a", tmp_path / "b")
    assert run.run(trial(), **job) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "bench_script_missing")
    for place in (run.tree, tmp_path / "a", tmp_path / "b"):
        assert f"{place}/benchmarks/benchmark_throughput.py" in fail["reason"]


# ---------------------------------------------------------------------------------------------------- data sets


def test_the_data_set_is_checked_and_named(run: Run, tmp_path: Path) -> None:
    script(run, "--dataset-path")
    data = tmp_path / "share gpt.json"
    data.write_text("[]")
    job = DatasetJob(path=str(data), sha256=hashlib.sha256(b"[]").hexdigest())
    head = ("python", "benchmarks/benchmark_throughput.py", "--dataset-path", "{isobench:dataset}")
    assert run.run(trial(head=head), dataset=job) == 0
    assert executed(run)[:2] == ["--dataset-path", str(data)]
    assert run.one("dataset")["sha256"] == job.sha256


@pytest.mark.parametrize(("content", "what"), [("[1]", "as it was submitted"), (None, "No such file")])
def test_another_data_set_is_no_measurement(run: Run, tmp_path: Path, content: str | None, what: str) -> None:
    data = tmp_path / "s.json"
    if content is not None:
        data.write_text(content)
    job = DatasetJob(path=str(data), sha256=hashlib.sha256(b"[]").hexdigest())
    assert run.run(dataset=job, server=run.server()) == 1
    fail = run.one("fail")
    assert (fail["phase"], fail["failure"]) == ("setup", "harness_misconfig")
    assert what in fail["reason"]
    assert not run.all("server")
