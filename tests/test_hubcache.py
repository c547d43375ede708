"""Which repositories a workload needs, which of their files, and when a snapshot in the cache is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from campaign_files import IMAGES, loaded, task

from isobench_tui.campaign.repos import WEIGHTS, Repo, folders, needs
from isobench_tui.runner.hubcache import Repository, is_commit, needed

SHA = "0123456789" * 4
SERVE = "vllm bench serve --model org/big --num-prompts 10"
OFFLINE = "python benchmarks/benchmark_throughput.py --model org/big --input-len 8 --output-len 8"
OVERRIDE = '[[model_overrides]]\nmodel = "org/big"\nuse = "org/other"\n'


def repos(folder: Path, command: str, head: str = "", more: str = "") -> tuple[Repo, ...]:
    text = f'[campaign]\nname = "one"\narms = ["baseline"]\n{IMAGES}{head}' + task(command, more=more)
    return needs(loaded(folder, text).tasks[0].workload)


@pytest.mark.parametrize(
    ("command", "head", "more", "expected"),
    [
        (SERVE, "", "", [Repo("org/big")]),
        (OFFLINE, "", "", [Repo("org/big")]),
        (SERVE, OVERRIDE, "", [Repo("org/other")]),
        (SERVE, OVERRIDE + 'before_vllm = "0.6"\n', "", [Repo("org/big"), Repo("org/other")]),
        (SERVE, OVERRIDE + 'before_vllm = "0.6"\n', "override = true", [Repo("org/other")]),
        (SERVE, OVERRIDE + 'before_vllm = "0.6"\n', "override = false", [Repo("org/big")]),
        (SERVE, "", "server_args = ['--load-format', 'dummy']", [Repo("org/big", weights=())]),
        (OFFLINE + " --load-format npcache", "", "", [Repo("org/big", weights=(".bin",))]),
        (OFFLINE + " --revision v2", "", "", [Repo("org/big", "v2")]),
        (SERVE + " --tokenizer org/words", "", "", [Repo("org/big"), Repo("org/words", weights=())]),
        (SERVE + " --tokenizer org/big", "", "", [Repo("org/big")]),
        (OFFLINE + " --speculative-model org/draft", "", "", [Repo("org/big"), Repo("org/draft")]),
        (OFFLINE + " --speculative-model [ngram]", "", "", [Repo("org/big")]),
        (SERVE.replace("org/big", "/models/big"), "", "", []),
        (SERVE.replace("org/big", "s3://bucket/big"), "", "", []),
    ],
)
def test_repositories_of_a_workload(tmp_path: Path, command: str, head: str, more: str, expected: list[Repo]) -> None:
    assert list(repos(tmp_path, command, head, more)) == expected


def test_folders_of_a_workload(tmp_path: Path) -> None:
    text = f'[campaign]\nname = "one"\narms = ["baseline"]\n{IMAGES}' + task(SERVE.replace("org/big", "/models/big"))
    assert folders(loaded(tmp_path, text).tasks[0].workload) == ("/models/big",)


TEXTS = ["config.json", "tokenizer.model", "1_Pooling/config.json", "modeling_own.py", "chat_template.jinja"]
OTHERS = ["README.md", ".gitattributes", "figure.png", "tf_model.h5", "onnx/model.onnx", "original/x.pth"]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["a.safetensors", "b.safetensors", "pytorch_model.bin"], ["a.safetensors", "b.safetensors"]),
        (["pytorch_model.bin", "training_args.bin", "x.pt"], ["pytorch_model.bin"]),
        (["onnx/model.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["consolidated.pt", "optimizer.pt"], ["consolidated.pt"]),
        (["model.gguf"], []),
    ],
)
def test_what_vllm_needs_small_files_first(weights: list[str], expected: list[str]) -> None:
    assert needed([*weights, *OTHERS, *TEXTS], WEIGHTS) == [*sorted(TEXTS), *expected]
    assert needed([*weights, *OTHERS, *TEXTS], ()) == sorted(TEXTS)


@pytest.mark.parametrize("name", ["../a.json", "/a.json", "a/../../b.json", "a\\b.json", "./a.json", ""])
def test_names_that_lead_elsewhere_are_left_out(name: str) -> None:
    assert needed([name, "config.json"], WEIGHTS) == ["config.json"]


def snapshot(cache: Path, *names: str, index: dict[str, list[str]] | None = None) -> Repository:
    """A repository in the cache with these files, as links to blobs; `index`: index file -> its shards."""
    repository = Repository(cache, "org/big")
    contents = dict.fromkeys(names, b"x")
    for name, shards in (index or {}).items():
        contents[name] = json.dumps({"weight_map": dict(enumerate(shards))}).encode()
    repository.blobs.mkdir(parents=True)
    for number, (name, content) in enumerate(contents.items()):
        (repository.blobs / str(number)).write_bytes(content)
        link = repository.snapshot(SHA) / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(repository.blobs / str(number))
    return repository


@pytest.mark.parametrize(
    ("names", "index", "whole"),
    [
        (["config.json", "model.safetensors"], {}, True),
        (["params.json", "consolidated.safetensors"], {}, True),
        (["config.json", "pytorch_model.bin"], {}, True),
        (["config.json"], {}, False),
        (["model.safetensors"], {}, False),
        (["config.json", "training_args.bin"], {}, False),
        (["config.json", "a.safetensors", "b.safetensors"], {"model.safetensors.index.json": ["a", "b"]}, False),
        (["config.json", "a", "b"], {"model.safetensors.index.json": ["a", "b"]}, True),
        (
            ["config.json", "a.safetensors"],
            {"model.safetensors.index.json": ["a.safetensors", "b.safetensors"]},
            False,
        ),
        (["config.json", "pytorch_model.bin"], {"model.safetensors.index.json": ["a.safetensors"]}, False),
        (["config.json", "a.bin"], {"pytorch_model.bin.index.json": ["a.bin"]}, True),
    ],
)
def test_a_snapshot_is_whole(tmp_path: Path, names: list[str], index: dict[str, list[str]], whole: bool) -> None:
    assert snapshot(tmp_path, *names, index=index).whole(SHA, WEIGHTS) is whole


def test_a_snapshot_with_a_link_to_nowhere_is_not_whole(tmp_path: Path) -> None:
    repository = snapshot(tmp_path, "config.json", "model.safetensors")
    (repository.blobs / "0").unlink()
    assert not repository.whole(SHA, WEIGHTS)
    assert not repository.whole("f" * 40, WEIGHTS)
    (repository.blobs / "0").write_text("{}")
    assert repository.whole(SHA, WEIGHTS)


def test_an_index_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    repository = snapshot(tmp_path, "config.json", "model.safetensors", "model.safetensors.index.json")
    assert not repository.whole(SHA, WEIGHTS)


def test_the_tokenizer_alone_is_whole_without_weights(tmp_path: Path) -> None:
    assert snapshot(tmp_path, "tokenizer.json").whole(SHA, ())


def test_references(tmp_path: Path) -> None:
    repository = Repository(tmp_path, "org/big")
    assert repository.commit_of("main") is None
    repository.point("refs/pr/1", SHA)
    assert repository.commit_of("refs/pr/1") == SHA
    assert (repository.folder / "refs" / "refs" / "pr" / "1").read_text() == SHA
    assert repository.commit_of(SHA) == SHA
    repository.point(SHA, SHA)
    assert not (repository.folder / "refs" / SHA).exists()
    (repository.folder / "refs" / "main").write_text("not a commit")
    assert repository.commit_of("main") is None
    assert is_commit(SHA)
    assert not is_commit(SHA[:-1])


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ("", "the model /models/big is in no mounted volume, so it must be in the image"),
        ("there:/models", ""),
        ("nowhere:/models", "the model /models/big would be {}/nowhere/big, which does not exist"),
    ],
)
def test_plan_says_where_a_models_folder_is_expected(tmp_path: Path, volume: str, said: str) -> None:
    (tmp_path / "there" / "big").mkdir(parents=True)
    head = f'[campaign]\nname = "one"\narms = ["baseline"]\n{IMAGES}'
    head += f'[container]\nvolumes = ["{volume}"]\n' if volume else ""
    found = loaded(tmp_path, head + task(SERVE.replace("org/big", "/models/big"))).findings
    texts = [finding.text for finding in found if "/models/big" in finding.text]
    assert texts == ([said.format(tmp_path)] if said else [])
