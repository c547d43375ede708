"""A small ISO-Bench checkout with every kind of dirt that published ones have, and some of a hostile one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from campaign_files import DIFF

OLD, NEW = "2025-12-22_21-40-38", "2026-01-23_21-19-19"
GPT5, SONNET = "state/runs/vllm/trae/gpt-5", "state/runs/vllm/trae/us-sonnet"
CLI = "state/runs/vllm/codex_cli/default"
NESTED = "diff --git a/model_patch.diff b/model_patch.diff\nnew file mode 100644\nindex 0000000..e69de29\n"
OPT = "--model facebook/opt-125m"


def full(name: str) -> str:
    """A commit of its own for each name."""
    return hashlib.sha1(name.encode()).hexdigest()


def short(name: str) -> str:
    return full(name)[:8]


def parent(name: str) -> str:
    return full(name + "^")


def serve(rest: str = OPT) -> str:
    return f"vllm bench serve {rest} --dataset-name random --num-prompts 10"


def record(name: str, command: str | None, **more: Any) -> tuple[str, dict[str, Any]]:
    """A name and its record of the first shape."""
    said = {"commit_full": full(name), "benchmark_mode": "serving", "perf_command": command}
    return name, said | {"model": "facebook/opt-125m", "parent_commit": parent(name)} | more


NAMED: dict[str, Any] = dict([
    record("good", serve()),
    record("conflict", serve()),
    record("short-journal", serve(), commit_full=short("short-journal")),
    record("short-record", serve(), commit_full=short("short-record")),
    record("short-elsewhere", serve(), commit_full=short("short-elsewhere")),
    record("short-lost", serve(), commit_full=short("short-lost")),
    record("two-meanings", serve()),
    record("no-parent", serve(), parent_commit=None),
    record("parent-lost", serve(), parent_commit=None),
    record("parent-short", serve(), parent_commit=parent("parent-short")[:12]),
    ("nothing", dict.fromkeys(["commit_full", "benchmark_mode", "perf_command", "model", "parent_commit"])),
    record("command-elsewhere", None, benchmark_mode=None),
    record("offline", "vllm bench throughput --model facebook/opt-125m --input-len 8 --output-len 8"),
    record("standalone", "python benchmarks/benchmark_serving.py " + OPT, benchmark_mode="standalone"),
    record("mode-null", serve(), benchmark_mode=None),
    record("mode-odd", serve(), benchmark_mode="racing"),
    record("own-script", "python bench/mine.py " + OPT, benchmark_mode="latency"),
    record("placeholder", serve("--model MODEL"), model="meta-llama/Llama-3.1-8B-Instruct"),
    record("holes", "vllm bench latency --model MODEL --batch-size BS --input-len INPUT_LEN", model="m/x"),
    record("private", 'python3 benchmarks/benchmark_latency.py --model "/data/users/k/llm_8b" --batch_size 3',
           benchmark_mode="standalone", model="meta-llama/Llama-3.1-8B-Instruct"),
    record("prefix", "python benchmarks/benchmark_prefix_caching.py " + OPT, benchmark_mode="prefix_caching"),
    record("private-alone", serve("--model /data/users/k/llm_8b"), model=None),
    record("private-data", f"vllm bench serve {OPT} --dataset-name sharegpt --dataset-path /home/k/ShareGPT.json"),
    record("other-model", serve("--model facebook/opt-350m")),
    record("no-model", "vllm bench serve --dataset-name random --num-prompts 10"),
    record("unknown-model", serve("--model Qwen/Qwen3-7B-Instruct"), model="Qwen/Qwen3-7B-Instruct"),
    record("huge-model", serve("--model nvidia/Nemotron-4-340B-Instruct"), model="nvidia/Nemotron-4-340B-Instruct"),
    record("four-gpus", serve(OPT + " -tp 4")),
    record("overridden", serve("--model ibm-ai-platform/Bamba-9B"), model="ibm-ai-platform/Bamba-9B"),
    record("quotes", "vllm bench latency " + OPT + " --speculative-config ''[ngram]''", benchmark_mode="standalone"),
    record("pipe", serve() + " | tee log"),
    record("escape", serve(OPT + " --label '\x1b[2J\u202e'")),
    record("ours", serve("--model {isobench:model}")),
    record("types", serve(), benchmark_mode=["serving"], model=7, parent_commit=parent("types")),
    record("surrogate", serve("--model m/\ud800")),
    record("no-patch", serve()),
    record("only-prediction", serve()),
    record("two-patches", serve()),
    record("empty", serve()),
    record("nested", serve()),
    record("not-run", serve()),
    ("misfiled", {"commit_full": full("another"), "perf_command": serve(), "parent_commit": parent("x")}),
])  # fmt: skip
RECORDS = {short(name): row for name, row in NAMED.items()} | {"draft": {"perf_command": serve()}}

LIST: list[dict[str, Any]] = [
    {"human_commit_full": full(name), "human_commit_short": short(name), "parent_commit": parent(name),
     "parent_short": parent(name)[:12], "model": "facebook/opt-125m", "perf_command": serve(), "gpu_config": gpus}
    for name, gpus in [("good", "H100:1"), ("short-record", "H100:1|"), ("four-gpus", "H100:8|")]
] + [
    {"human_commit_full": full("conflict"), "model": "facebook/opt-350m", "parent_commit": parent("other"),
     "perf_command": serve("--model facebook/opt-350m")},
    {"human_commit_full": short("two-meanings") + "0" * 32, "perf_command": serve()},
    {"human_commit_short": short("command-elsewhere"), "perf_command": serve(), "model": None},
    {"perf_command": serve()},
]  # fmt: skip


NOT_RUN = {"not-run", "nothing", "misfiled", "short-elsewhere", "parent-lost", "short-lost"}


def item(
    root: Path,
    run: str,
    name: str,
    number: int,
    *,
    digits: int = 40,
    patch: str | bytes | None = DIFF,
    prediction: str | None = None,
    pre: str | None = None,
    journal: Any = None,
    summary: Any = None,
) -> Path:
    """One item of a run as agents leave it; `journal` and `summary` update what they say."""
    folder = root / run / f"vllm_core-{number:04}"
    folder.mkdir(parents=True)
    agent, model = Path(run).parts[-3:-1]
    commits = {"pre": pre or parent(name), "human": full(name)[:digits]}
    meta = {"repo": "vllm", "agent": agent, "model": model}
    said = {"task_id": folder.name, "commits": commits, "status": "success", "run_metadata": meta} | (journal or {})
    (folder / "journal.json").write_text(json.dumps(said))
    told = {"schema_version": "1.0", "commits": commits, "agent": {"status": "success", "patch_generated": True}}
    (folder / "run_summary.json").write_text(json.dumps(told | (summary or {})))
    if patch is not None:
        (folder / "model_patch.diff").write_bytes(patch.encode() if isinstance(patch, str) else patch)
    if prediction is not None:
        row = {"instance_id": "vllm-project__vllm-25373b6", "model_patch": prediction, "model_name_or_path": "gpt-5"}
        (folder / "prediction.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def checkout(root: Path, *, mapping: Any = None, folder: str = "data/mappings") -> Path:
    """A checkout with a clean task of one agent; `mapping` in place of the clean record."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    rows = {short("good"): NAMED["good"]} if mapping is None else mapping
    (root / folder / "benchmark_mode_mapping.json").write_text(json.dumps(rows))
    return root


def dirty(root: Path) -> Path:
    """The whole of it; agents trae (gpt-5, two runs; us-sonnet, one) and codex_cli."""
    checkout(root, mapping=RECORDS)
    (root / "data/mappings/complete_benchmark_mapping.json").write_text(json.dumps(LIST))
    broken_mappings(root / "data/mappings")
    names = [name for name in NAMED if name not in NOT_RUN]
    odd: dict[str, dict[str, Any]] = {
        "short-lost": {"digits": 8},
        "parent-lost": {"journal": {"commits": {"human": full("parent-lost"), "pre": None}}},
        "no-patch": {"patch": None},
        "only-prediction": {"patch": None, "prediction": DIFF.strip()},
        "two-patches": {"prediction": DIFF.replace("b = 3", "b = 4")},
        "empty": {"patch": ""},
        "nested": {"patch": NESTED},
        "other-model": {"pre": parent("elsewhere"), "journal": {"status": "error"}},
        "mode-null": {"journal": {"run_metadata": {"agent": "openhands", "model": "gpt-5"}}},
        "mode-odd": {"summary": {"commits": {"human": full("else"), "pre": None}}},
    }
    for number, name in enumerate([*names, "short-lost", "parent-lost", "unmapped"], 1):
        more = odd.get(name, {"digits": 8 if number % 2 and "short" not in name else 40})
        if name == "parent-lost":
            more = more | {"summary": {"commits": {}}}
        item(root, f"{GPT5}/{NEW}", name, number, **more)
    item(root, f"{GPT5}/{OLD}", "good", 1, patch=DIFF.replace("b = 3", "b = 5"))
    item(root, f"{GPT5}/{OLD}", "not-run", 2)
    item(root, f"{SONNET}/2026-01-23_16-40-44", "good", 1)
    item(root, f"{CLI}/{OLD}", "short-elsewhere", 1)
    hostile_tree(root / GPT5 / NEW)
    return root


def broken_mappings(folder: Path) -> None:
    (folder / "a-deep.json").write_text("[" * 200_000)
    (folder / "b-bytes.json").write_bytes(b'{"a": "\xff"}')
    (folder / "c-cut.json").write_text('{"a": {')
    (folder / "d-numbers.json").write_text("[1, 2]")
    (folder / "e-link.json").symlink_to("/etc/passwd")
    os.mkfifo(folder / "f-fifo.json")
    with (folder / "g-huge.json").open("wb") as stream:
        stream.truncate(1024**3)
    (folder / "README.md").write_text("no mapping")


def hostile_tree(run: Path) -> None:
    """Items and folders of a run that cannot be used."""
    (run / "loop").symlink_to(run)
    (run.parent / "latest").symlink_to(run.name)
    (run / os.fsdecode(b"caf\xe9")).mkdir()
    deep = run / "/".join("d" * 12)
    deep.mkdir(parents=True)
    for name, data in [("x-cut", b'{"commits"'), ("x-deep", b"[" * 200_000), ("x-bytes", b"\xff"), ("x-list", b"[]"),
                       ("x-types", b'{"commits": {"human": 5, "pre": []}, "run_metadata": 3, "status": {}}'),
                       ("x-hash", b'{"commits": {"human": "HEAD~1"}}')]:  # fmt: skip
        (run / name).mkdir()
        (run / name / "journal.json").write_bytes(data)
    (run / "x-fifo").mkdir()
    os.mkfifo(run / "x-fifo" / "journal.json")
    (run / "x-link").mkdir()
    (run / "x-link" / "model_patch.diff").symlink_to("/etc/passwd")
