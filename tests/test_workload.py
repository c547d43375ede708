"""perf_command -> Workload, over the shapes that real mappings have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isobench_tui.campaign.argv import CommandError, split
from isobench_tui.campaign.models import MODEL, PORT, RESULT, RUN, SEED, Workload
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.spec import OverrideTable
from isobench_tui.campaign.workload import Request, build, gpus_needed

SERVER = ("python", "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL, "--host", "127.0.0.1")
SERVER_HEAD = (*SERVER, "--port", PORT)
SERVE_TAIL = ("--save-result", "--result-dir", RUN, "--result-filename", "client-{isobench:trial}.json")
READY = ("--ready-check-timeout-sec", "600")
SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "iso-bench" / "benchmark_mode_mapping.subset.json"


def built(command: str, **request: Any) -> tuple[Workload, list[str]]:
    """The workload and the texts of its findings."""
    notes = Notes("campaign.toml")
    workload = build(command, Request(where="aaaaaaaa", **request), notes)
    assert not notes.problems
    return workload, [finding.text for finding in notes.findings]


def client(command: str, **request: Any) -> tuple[str, ...]:
    return built(command, **request)[0].client


def rejected(command: str, **request: Any) -> str:
    with pytest.raises(CommandError) as caught:
        built(command, **request)
    assert caught.value.accepted
    return caught.value.what


def test_bench_serve_as_it_is_written_in_the_mapping() -> None:
    workload, _ = built(
        "vllm bench serve --dataset-name random --model facebook/opt-125m --served-model-name facebook/opt-125m "
        "--random-input-len 700 --random-output-len 1 --endpoint /v1/completions --ignore-eos --host localhost "
        "--port 8000 --request-rate 200 --num-prompts 100"
    )
    assert workload.mode == "serving"
    assert workload.client == (
        *("vllm", "bench", "serve", "--dataset-name", "random", "--model", MODEL, "--served-model-name", MODEL),
        *("--random-input-len", "700", "--random-output-len", "1", "--endpoint", "/v1/completions", "--ignore-eos"),
        *("--host", "localhost", "--port", PORT, "--request-rate", "200", "--num-prompts", "100", "--seed", SEED),
        *SERVE_TAIL,
        *READY,
    )
    assert workload.server == SERVER_HEAD
    assert workload.model == "facebook/opt-125m"
    assert workload.model_ids == ("facebook/opt-125m",)
    assert (workload.asked, workload.output_tokens, workload.seeds) == (100, 100, (0,))
    assert workload.writes_result


def test_engine_options_of_an_old_script_go_to_the_server() -> None:
    workload, findings = built(
        "python benchmarks/benchmark_serving.py --model RedHatAI/Meta-Llama-3-8B-Instruct-FP8 "
        "--enable-prefix-caching --enable-chunked-prefill --max-num-batched-tokens 2048",
        server_args=("--swap-space", "4"),
    )
    assert workload.client == (
        *("python", "benchmarks/benchmark_serving.py", "--model", MODEL, "--port", PORT, "--seed", SEED),
        *SERVE_TAIL,
    )
    assert workload.server == (
        *SERVER_HEAD,
        *("--swap-space", "4", "--enable-prefix-caching", "--enable-chunked-prefill"),
        *("--max-num-batched-tokens", "2048"),
    )
    assert workload.asked == 1000
    assert workload.output_tokens is None
    assert any("goes to the server: --enable-prefix-caching --enable-chunked-prefill" in text for text in findings)
    assert any("sharegpt" in text for text in findings)


def test_latency_keeps_what_it_is_given() -> None:
    workload, findings = built(
        'VLLM_USE_V1=1 python3 benchmarks/benchmark_latency.py --model "/data/users/x/llm_8b_oss" '
        "--tensor-parallel-size 1 --input_len 1000 --batch_size 32",
        model="meta-llama/Meta-Llama-3-8B",
        env={"VLLM_USE_V1": "0", "A": "b"},
    )
    assert workload.mode == "latency"
    assert workload.client == (
        *("python", "benchmarks/benchmark_latency.py", "--model", MODEL, "--tensor-parallel-size", "1"),
        *("--input_len", "1000", "--batch_size", "32", "--output-json", RESULT),
    )
    assert workload.server == ()
    assert workload.env == {"VLLM_USE_V1": "1", "A": "b"}
    assert workload.seeds == ()
    assert workload.asked is None
    assert workload.model == "/data/users/x/llm_8b_oss"
    assert workload.override
    assert workload.override.use == "meta-llama/Meta-Llama-3-8B"
    assert any("meta-llama/Meta-Llama-3-8B runs, in every arm" in text for text in findings)


def test_throughput_of_an_old_script() -> None:
    workload, _ = built(
        "python benchmarks/benchmark_throughput.py --model m/x --input-len 256 --output-len 256", trials=2, warmups=1
    )
    assert workload.mode == "throughput"
    assert workload.client == (
        *("python", "benchmarks/benchmark_throughput.py", "--model", MODEL, "--input-len", "256"),
        *("--output-len", "256", "--seed", SEED, "--output-json", RESULT),
    )
    assert workload.seeds == (0, 1, 2)
    assert (workload.asked, workload.output_tokens) == (1000, 256_000)


@pytest.mark.parametrize(
    ("command", "head", "mode"),
    [
        ("vllm bench throughput --model m", ("vllm", "bench", "throughput"), "throughput"),
        ("/opt/v/bin/vllm bench latency --model m", ("vllm", "bench", "latency"), "latency"),
        (
            "python -m vllm.entrypoints.cli.main bench serve --model m",
            ("python", "-m", "vllm.entrypoints.cli.main", "bench", "serve"),
            "serving",
        ),
        ("python3.11 -u benchmark_serving.py --model m", ("python", "benchmark_serving.py"), "serving"),
        ("/usr/bin/python /x/benchmark_latency.py --model m", ("python", "/x/benchmark_latency.py"), "latency"),
        ("./b/benchmark_throughput.py --model m", ("python", "./b/benchmark_throughput.py"), "throughput"),
        ("A=1 B='x y' vllm bench latency --model m", ("vllm", "bench", "latency"), "latency"),
        ("vllm bench \\\n  latency \\\n --model m", ("vllm", "bench", "latency"), "latency"),
    ],
)
def test_forms(command: str, head: tuple[str, ...], mode: str) -> None:
    workload, _ = built(command)
    assert workload.client[: len(head)] == head
    assert workload.mode == mode


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("python benchmarks/benchmark_moe.py --model m", "unknown mode"),
        ("vllm serve --model m", "no benchmark of a supported mode"),
        ("vllm bench startup --model m", "no benchmark of a supported mode"),
        ("vllm bench", "no benchmark of a supported mode"),
        ("timeout 9 vllm bench serve --model m", "starts with timeout"),
        ("python -c 'print()'", "python runs -c"),
        ("python", "python runs nothing"),
        ("A=1", "no command"),
        ("HF_TOKEN=x vllm bench serve --model m", "HF_TOKEN looks like a secret"),
        ("vllm bench serve --model m --hf-token=x", "--hf-token would be stored and shown"),
        ("vllm bench serve m --model m", "m stands where an option should"),
        ("vllm bench serve", "names no model"),
        ("vllm bench serve --model", "--model has no values"),
        ("vllm bench serve --model a b", "--model has 2 values"),
        ("vllm bench serve --model MODEL", "a placeholder was left in"),
        ("vllm bench latency --model m --batch-size BS --input-len INPUT_LEN", "--batch-size BS: a placeholder"),
        ("vllm bench serve --model m --num-prompts many", "not a whole number"),
        ("vllm bench serve --model m --num-prompts 0", "not a whole number"),
        ("vllm bench serve --model m --seed -1", "not a whole number"),
        ("vllm bench serve --model m --base-url http://[x", "--base-url"),
        ("vllm bench serve --model m -- x", "-- ends the options"),
        ("vllm bench serve --model 'm", "no closing quotation"),
        ("vllm bench serve --model m \\", "no escaped character"),
    ],
)
def test_what_cannot_run_is_said(command: str, what: str) -> None:
    assert what in rejected(command)


@pytest.mark.parametrize(
    ("end", "what"),
    [
        ("| tee x", "operator |"),
        ("; true", "operator ;"),
        ("&& true", "operator &"),
        ("> out", "operator >"),
        ("2>&1", "operator >"),
        ("< in", "operator <"),
        ("(x)", "operator ("),
        ("`id`", "substitution"),
        ('"$(id)"', "substitution"),
        ("$(id)", "substitution"),
        ("$HOME", "variable"),
        ('"${HOME}"', "variable"),
        ("\ntrue", "second line"),
        ("# why", "comment"),
    ],
)
def test_a_shells_own_work_is_refused(end: str, what: str) -> None:
    assert what in rejected(f"vllm bench latency --model m {end}")


def test_quoted_operators_are_text() -> None:
    assert split("a 'b | c; $(d) `e`' \"f & g\" h\\|i j#k 'l\nm' $ n=\\$x") == [
        *("a", "b | c; $(d) `e`", "f & g", "h|i", "j#k", "l\nm", "$", "n=$x")
    ]


def test_lost_quotes_are_pointed_out() -> None:
    command = "vllm bench throughput --model m --speculative_model ''[ngram]'' --num_speculative_tokens 5"
    workload, findings = built(command)
    assert workload.client[5:9] == ("--speculative_model", "[ngram]", "--num_speculative_tokens", "5")
    assert any("quotes were probably lost" in text for text in findings)
    _, findings = built("vllm bench throughput --model m --speculative-config {method: ngram}")
    assert any("not JSON" in text for text in findings)
    _, findings = built("""vllm bench throughput --model m --speculative-config '{"method": "ngram"}'""")
    assert findings == []


def test_spellings_stay_and_options_are_known_in_each() -> None:
    workload, _ = built(
        "vllm bench serve --model=m/x --tokenizer=m/x --port=1 --num_prompts=7 --seed=3 --dataset_name=random "
        "--ignore_eos --random_output_len=4 --result_filename=mine.json --tensor_parallel_size=2 -q fp8",
        trials=2,
    )
    assert workload.client == (
        *("vllm", "bench", "serve", f"--model={MODEL}", f"--tokenizer={MODEL}", f"--port={PORT}", "--num_prompts=7"),
        *(f"--seed={SEED}", "--dataset_name=random", "--ignore_eos", "--random_output_len=4"),
        *("--result_filename=client-{isobench:trial}.json", "--save-result", "--result-dir", RUN),
        *READY,
    )
    assert workload.server == (*SERVER_HEAD, "--tensor_parallel_size=2", "-q", "fp8")
    assert (workload.asked, workload.output_tokens, workload.seeds) == (7, 28, (3, 4))
    assert gpus_needed(workload) == 2


def test_options_that_client_and_server_both_need() -> None:
    workload, _ = built("vllm bench serve --model m --trust-remote-code --guided-decoding-backend xgrammar -O3")
    assert "--trust-remote-code" in workload.client
    assert workload.server == (
        *SERVER_HEAD,
        *("--trust-remote-code", "--guided-decoding-backend", "xgrammar", "-O3"),
    )


def test_switched_off_engine_options_go_to_the_server() -> None:
    workload, findings = built("vllm bench serve --model m --no-enable-prefix-caching --no-stream")
    assert workload.server == (*SERVER_HEAD, "--no-enable-prefix-caching")
    assert "--no-stream" in workload.client
    assert not any("as far as known" in text for text in findings)


def test_an_unknown_option_stays_with_the_client() -> None:
    workload, findings = built("vllm bench serve --model m --fancy 3")
    assert workload.client[5:7] == ("--fancy", "3")
    assert any("--fancy" in text for text in findings)


def test_another_host_is_replaced_and_said() -> None:
    workload, findings = built("vllm bench serve --model m --host 0.0.0.0 --base-url http://10.0.0.5:80/x")
    assert "0.0.0.0" not in workload.client
    assert f"http://127.0.0.1:{PORT}/x" in workload.client
    assert len([text for text in findings if "its own server" in text]) == 2


def test_a_served_name_reaches_the_server() -> None:
    workload, _ = built("vllm bench serve --model m --served-model-name llama")
    assert workload.server == (*SERVER_HEAD, "--served-model-name", "llama")
    assert workload.model_ids == ("llama",)
    workload, findings = built("vllm bench serve --model m", server_args=("--served-model-name", "a", "b"))
    assert workload.model_ids == ("a", "b")
    assert any("the client asks for the model's own name" in text for text in findings)


def test_the_model_may_come_from_the_task() -> None:
    workload, _ = built("vllm bench serve --num-prompts 3", model="m")
    assert workload.model == "m"
    assert "--model" in workload.client


ROW = OverrideTable(model="m/old", use="m/new", before_vllm="0.5.3.post1", reason="rope")


def test_a_conditional_override_leaves_the_choice_to_setup() -> None:
    workload, _ = built("vllm bench serve --model m/old", overrides=[ROW])
    assert workload.model == "m/old"
    assert workload.override
    assert (workload.override.use, workload.override.before_vllm) == ("m/new", "0.5.3.post1")
    assert workload.override.decided is None
    assert workload.model_ids == ("m/old", "m/new")


def test_an_unconditional_override_is_decided() -> None:
    row = ROW.model_copy(update={"before_vllm": None})
    workload, _ = built("vllm bench serve --model m/old --tokenizer m/old", overrides=[row])
    assert workload.client.count(MODEL) == 2
    assert workload.model_ids == ("m/new",)


def test_the_task_settles_an_override() -> None:
    workload, _ = built("vllm bench serve --model m/old", overrides=[ROW], decided=True)
    assert workload.override
    assert workload.override.decided is True
    assert workload.model_ids == ("m/new",)
    workload, findings = built("vllm bench serve --model m/old", overrides=[ROW], decided=False)
    assert workload.override is None
    assert any("switched off" in text for text in findings)
    assert "no [[model_overrides]]" in rejected("vllm bench serve --model x", overrides=[ROW], decided=True)


def test_two_models_and_an_override_contradict() -> None:
    assert "m/new" in rejected("vllm bench serve --model m/old", model="m/else", overrides=[ROW])


def test_a_ready_check_of_ones_own_stays() -> None:
    argv = client("vllm bench serve --model m --ready-check-timeout-sec 5")
    assert argv[5:7] == ("--ready-check-timeout-sec", "5")


def test_a_script_of_another_name_needs_a_mode() -> None:
    workload, _ = built("python bench/mine.py --model m", mode="throughput")
    assert workload.mode == "throughput"
    assert "unknown mode" in rejected("python bench/mine.py --model m")
    assert built("python bench/mine.py --model m", mode="prefix_caching")[0].mode == "prefix_caching"


SERVE = "vllm bench serve --model m --dataset-name random --num-prompts 10 --random-output-len 5"
SCRIPT = SERVE.replace("vllm bench serve", "python benchmark_serving.py")
THROUGHPUT = "python benchmarks/benchmark_throughput.py --model m --num-prompts 10 --output-len 5"
BENCH = "vllm bench throughput --model m --num-prompts 10 --output-len 5"


def test_lengths_that_newer_releases_ignore_are_named() -> None:
    _, findings = built(BENCH + " --input-len 7 --random-input-len 7")
    assert sum("--output-len: newer vLLM" in text for text in findings) == 1
    assert not any("--random-input-len" in text for text in findings)


@pytest.mark.parametrize(
    ("command", "tokens"),
    [
        (SERVE + " --ignore-eos", 50),
        (SERVE, None),
        (SERVE + " --ignore-eos --random-range-ratio 0", 50),
        (SERVE + " --ignore-eos --random-range-ratio 0.0", 50),
        (SERVE + " --ignore-eos --random-range-ratio 0.5", None),
        (SERVE + " --ignore-eos --random-range-ratio '{\"input\": 0.1}'", None),
        # In scripts an explicit 0 means 'any length up to' before 0.8.5 and 'this length' since.
        (SCRIPT + " --ignore-eos --random-range-ratio 0", None),
        (SCRIPT + " --ignore-eos --random-range-ratio 1.0", 50),
        (SCRIPT + " --ignore-eos", 50),
        (SERVE.replace("random ", "sharegpt ") + " --ignore-eos", None),
        (SERVE.replace("--random-output-len 5", "--ignore-eos"), None),
        (THROUGHPUT, 50),
        (THROUGHPUT + " --n 2", None),
        (THROUGHPUT + " --backend hf", None),
        (THROUGHPUT + " --dataset x.json", None),
        (THROUGHPUT + " --dataset-name sonnet", None),
        (THROUGHPUT.replace("--output-len 5", ""), None),
        # Newer releases take --random-output-len, 128 unless given, whatever --output-len says.
        (BENCH, None),
        (BENCH + " --dataset-name random --random-output-len 5", 50),
        (BENCH + " --random-output-len 6", None),
        (BENCH.replace("--output-len", "--random-output-len"), 50),
    ],
)
def test_output_tokens_only_where_they_are_certain(command: str, tokens: int | None) -> None:
    assert built(command)[0].output_tokens == tokens


def test_seeds_of_latency_only_where_it_has_one() -> None:
    workload, _ = built("vllm bench latency --model m --seed 5", trials=2)
    assert workload.seeds == (5, 6)
    assert SEED in workload.client


def test_gpus_are_counted_over_all_parallel_sizes() -> None:
    workload, _ = built("vllm bench latency --model m -tp 2 --pipeline-parallel-size=2")
    assert gpus_needed(workload) == 4


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real mapping")
def test_every_real_perf_command() -> None:
    modes = {"serving": {"serving"}, "standalone": {"throughput", "latency"}, None: {"serving"}}
    modes["prefix_caching"] = {"prefix_caching"}
    seen = 0
    for record in json.loads(SHARED.read_text()).values():
        command = record["perf_command"]
        if command is None:
            continue
        workload, findings = built(command, model=record["model"])
        seen += 1
        assert workload.mode in modes[record["benchmark_mode"]]
        assert not any("as far as known" in text for text in findings), findings
        assert bool(workload.server) == (workload.mode == "serving")
        assert "--dtype" not in workload.client or workload.mode != "serving"
    assert seen >= 10


_PIECES = """
vllm bench serve throughput latency python python3 -m vllm.entrypoints.cli.main benchmarks/benchmark_serving.py
--model --model=m m/x --port --seed -1 1e9 --num-prompts --random-range-ratio nan --base-url http://[ --host -- - --n
--served-model-name --tokenizer '' "" { {} A=b --random-output-len --ignore-eos -tp = -O --x= ''x
"""
_WORDS = st.sampled_from(_PIECES.split())


@given(st.lists(_WORDS | st.text(max_size=6), max_size=14).map(" ".join) | st.text())
@settings(max_examples=400, deadline=None)
def test_wild_commands_raise_command_errors_only(command: str) -> None:
    request = Request(where="x", overrides=[replace_use("m")], trials=2)
    for changed in (request, replace(request, server_args=("--max-model-len", "1"), model="other")):
        try:
            workload = build(command, changed, Notes("f"))
        except CommandError as error:
            assert error.what
        else:
            assert workload.client[0] in {"python", "vllm"}


def replace_use(model: str) -> OverrideTable:
    return ROW.model_copy(update={"model": model})
