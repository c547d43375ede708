"""The phase `model` against a hub on loopback: the real huggingface_hub, command line and process engine."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import DEADLINE_S, GRACE, A, B, Bench, C, bench_at, task, until
from conftest import disk_of
from demotree import TREE
from disks import MB
from dockerd import Host
from hub import Hub

from isobench_tui.campaign.repos import WEIGHTS
from isobench_tui.engine import procs
from isobench_tui.runner import fetch_model
from isobench_tui.runner.fetch_model import Failed, File, Order
from isobench_tui.runner.hubcache import Repository

MODEL = "acme/tiny"
COMMAND = "python benchmarks/benchmark_throughput.py --model {} --input-len 8 --output-len 8 --num-prompts 4"
SHARD = bytes(range(256)) * (3 << 12)
HOLD = 3 << 19
"""Bytes of a shard that come before it is held: one and a half of the chunks that the client writes."""
TOKEN = "hf_loopback_token_of_nobody"
FILES = {
    "config.json": b'{"architectures": ["SIMULATED"]}',
    "tokenizer.json": b"{}" * 2000,
    "model-00001-of-00002.safetensors": b"1" + SHARD,
    "model-00002-of-00002.safetensors": b"2" + SHARD,
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
    "pytorch_model.bin": b"the same weights again" * 1000,
    "original/consolidated.00.pth": b"and again" * 1000,
    "README.md": b"# tiny",
}
NEEDED = 5
"""Of these files vLLM needs so many."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path, hub: Hub) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        kept = {name: value for name, value in made.env.items() if not name.startswith(("HF_", "HUGGING"))}
        made.env = {**kept, "HF_ENDPOINT": hub.url, "NO_PROXY": "*"}
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def model_table(cache: Path, more: str = "") -> str:
    """What `Bench.write` takes as `limits`, to have [model] too."""
    return f'\n[model]\ncache = "{cache}"\n{more}\n'


def campaign(bench: Bench, cache: Path, *tasks: str, more: str = "", **tables: str) -> Path:
    return bench.write(*(tasks or (task(A, COMMAND.format(MODEL)),)), limits=model_table(cache, more), **tables)


def attempts(bench: Bench) -> list[dict[str, Any]]:
    return bench.rows("SELECT * FROM attempts ORDER BY rowid")


def phases(bench: Bench, attempt: str) -> dict[str, str]:
    return {
        row["phase"]: row["outcome"]
        for row in bench.rows("SELECT phase, outcome FROM phases WHERE attempt_id = ? ORDER BY seq", attempt)
    }


def diagnosis(bench: Bench, job: str) -> tuple[str, str]:
    """(class, reason) of a job's newest attempt."""
    (row,) = bench.rows(
        "SELECT d.failure, d.reason FROM diagnoses d JOIN attempts a ON a.id = d.attempt_id WHERE a.job_id = ? "
        "ORDER BY a.number DESC LIMIT 1",
        bench.id(job),
    )
    return row["failure"], row["reason"]


def told(bench: Bench) -> list[str]:
    return [row["text"] for row in bench.rows("SELECT text FROM events WHERE kind = 'model' ORDER BY id")]


def children(cache: Path) -> list[int]:
    """Processes that fetch into this cache."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (path / "cmdline").read_bytes()
            if fetch_model.__name__.encode() in argv and procs.environment(int(path.name)).get("HF_HOME") == str(
                cache
            ):
                found.append(int(path.name))
    return found


def in_the_store(hub: Hub) -> list[str]:
    return [path for path in hub.fetched() if path.startswith("/store/")]


def held(bench: Bench, hub: Hub, *argv: str | Path) -> None:
    """Start a campaign whose download is held in the midst of the weights."""
    hub.hold_after = HOLD
    bench.cli("run", *argv, "--detach")
    assert hub.held.wait(DEADLINE_S)


# ---------------------------------------------------------------------------------------------- the ordinary way


def test_a_model_is_pinned_fetched_with_progress_and_found_again(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    total = sum(len(FILES[name]) for name in FILES if name.endswith((".json", ".safetensors")))
    held(bench, hub, campaign(bench, cache, campaign='arms = ["baseline"]\nrepeats = 2'))

    row = until(lambda: moving(bench, least=2 * fetch_model.CHUNK), "bytes in the live row")
    assert (row["model"], row["revision"], row["files_total"], row["total"]) == (MODEL, commit, NEEDED, total)
    assert row["done"] < total
    (running,) = bench.status()["running"]
    assert running["phase"] == "model"
    assert running["deadline_s"] == 7200
    assert running["forecast"]["fetch"] == total
    hub.go.set()
    bench.cli("attach")

    first, second = attempts(bench)
    for attempt in (first, second):
        assert attempt["outcome"] == "success"
        assert attempt["model_revision"] == commit
        assert json.loads(attempt["model_pins"]) == {MODEL: commit}
        assert list(phases(bench, attempt["id"]))[:4] == ["preflight", "image", "model", "start"]
    repository = Repository(cache, MODEL)
    assert (repository.folder / "refs" / "main").read_bytes() == commit.encode()
    snapshot = repository.snapshot(commit)
    got = {str(p.relative_to(snapshot)): p.read_bytes() for p in snapshot.rglob("*") if p.is_file()}
    assert got == {name: FILES[name] for name in FILES if name.endswith((".json", ".safetensors"))}
    assert not list(repository.blobs.glob("*.incomplete"))
    assert len(in_the_store(hub)) == 3, "each large file once, and for the second attempt none"
    asked = [seen for seen in hub.seen if "/api/" in seen.path]
    assert len(asked) == 2, "the campaign asks for the revision twice: for the forecast, and to fetch it"
    job = json.loads((bench.workspace.run_dir(second["id"]) / "job.json").read_text())
    assert (job["env"]["HF_HUB_OFFLINE"], job["env"]["HF_HOME"]) == ("1", str(cache))
    exported = json.loads(bench.cli("export", "--format", "json").stdout)
    assert commit in json.dumps(exported)
    bench.assert_nothing_left()


def test_the_demos_tree_runs_with_a_model_of_the_hub(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    command = (
        f"vllm bench serve --model {MODEL} --dataset-name random --random-input-len 8 --random-output-len 8 "
        "--ignore-eos --num-prompts 8"
    )
    path = campaign(bench, cache, task(A, command), campaign='arms = ["baseline"]\nsimulated = true')
    path.write_text(path.read_text().replace('baseline = "tree"', f'baseline = "{TREE}"'))
    bench.cli("run", path)
    (attempt,) = attempts(bench)
    assert (attempt["outcome"], attempt["valid"]) == ("success", 1)
    assert (attempt["model_used"], attempt["model_revision"]) == (MODEL, commit)
    bench.assert_nothing_left()


@pytest.mark.docker
def test_a_container_reads_the_cache_and_cannot_write_it(
    bench: Bench, hub: Hub, cache: Path, docker_host: Host
) -> None:
    commit = hub.add(MODEL, FILES)
    root = "/opt/isobench-demo"
    tree = {f"{root}/{p.relative_to(TREE)}": p.read_bytes() for p in TREE.rglob("*.py")}
    docker_host.image("isobench-test/model-phase", [tree], extra=[f"ENV PYTHONPATH={root}", f"WORKDIR {root}"])
    snapshot = f"/root/.cache/huggingface/hub/models--acme--tiny/snapshots/{commit}"
    one = task(A, COMMAND.format(MODEL))
    path = bench.write(one, campaign='arms = ["baseline"]\nsimulated = true', limits=model_table(cache))
    text = path.read_text().replace('baseline = "tree"', 'baseline = "isobench-test/model-phase"')
    text = text.replace('kind = "process"', f'kind = "docker"\nhost = "{docker_host.url}"')
    text = text.replace(f"[[lanes]]\ngpus = ['{bench.lane}']\n", "")
    # The container's root has no right over files of others but that to pass them by: the links must lead somewhere.
    proof = f"test $(wc -c < {snapshot}/model-00001-of-00002.safetensors) = {len(SHARD) + 1}"
    path.write_text(f"{text}[[setup]]\nrun = '{proof} && ! touch /root/.cache/huggingface/hub/mine'\n")
    bench.cli("run", path)
    (attempt,) = attempts(bench)
    assert (attempt["outcome"], attempt["model_revision"]) == ("success", commit)
    job = json.loads((bench.workspace.run_dir(attempt["id"]) / "job.json").read_text())
    assert (job["env"]["HF_HUB_OFFLINE"], job["env"]["HF_HOME"]) == ("1", "/root/.cache/huggingface")
    assert not (cache / "hub" / "mine").exists()


def moving(bench: Bench, least: int) -> dict[str, Any]:
    """The live row as `status --json` shows it, once so many bytes are there."""
    for running in bench.status()["running"]:
        if running["model"] and running["model"]["done"] >= least:
            return dict(running["model"])
    return {}


def test_offline_readers_find_it_as_the_real_client_looks_for_it(hub: Hub, cache: Path, tmp_path: Path) -> None:
    commit = hub.add(MODEL, FILES)
    assert fetch(hub, cache)[-1] == {"event": "done"}
    Repository(cache, MODEL).point("main", commit)
    hub.stop()
    code = (
        "import huggingface_hub as h, sys\n"
        "print(h.hf_hub_download(sys.argv[1], 'config.json'))\n"
        "print(h.snapshot_download(sys.argv[1], allow_patterns=['*.safetensors']))"
    )
    env = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, MODEL], env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    snapshot = str(Repository(cache, MODEL).snapshot(commit))
    assert done.stdout.split() == [f"{snapshot}/config.json", snapshot], done.stderr


def test_a_campaign_keeps_its_revision_and_the_next_one_takes_the_new(bench: Bench, hub: Hub, cache: Path) -> None:
    old = hub.add(MODEL, FILES)
    gate = bench.gate()
    tasks = [task(A, COMMAND.format(MODEL), GATE=str(gate)), task(B, COMMAND.format(MODEL))]
    bench.cli("run", campaign(bench, cache, *tasks), "--detach")
    bench.reached(gate)
    new = hub.add(MODEL, {**FILES, "config.json": b'{"architectures": ["SIMULATED", "again"]}'})
    gate.touch()
    bench.cli("attach")
    assert [row["model_revision"] for row in attempts(bench)] == [old, old]

    bench.cli("run", campaign(bench, cache, name="next", file="next.toml"))
    assert [row["model_revision"] for row in attempts(bench)] == [old, old, new]
    assert Repository(cache, MODEL).commit_of("main") == new
    assert len(in_the_store(hub)) == 3, "what both commits have was not fetched again"


def test_an_override_that_the_image_decides_has_both_models(bench: Bench, hub: Hub, cache: Path) -> None:
    hub.add("acme/named", FILES)
    used = hub.add("acme/used", FILES)
    override = '[[model_overrides]]\nmodel = "acme/named"\nuse = "acme/used"\nbefore_vllm = "0.5.3.post1"\n'
    bench.cli("run", campaign(bench, cache, task(A, COMMAND.format("acme/named")), more=override))
    (attempt,) = attempts(bench)
    assert sorted(json.loads(attempt["model_pins"])) == ["acme/named", "acme/used"]
    assert (attempt["model_used"], attempt["model_revision"]) == ("acme/used", used)


def test_two_lanes_fetch_once(bench: Bench, hub: Hub, cache: Path) -> None:
    hub.add(MODEL, FILES)
    lanes = f"'{bench.lane}']\n[[lanes]]\ngpus = ['{bench.lane}-b'"
    tasks = [task(commit, COMMAND.format(MODEL)) for commit in (A, B)]
    held(bench, hub, campaign(bench, cache, *tasks, lanes=lanes))
    until(
        lambda: [r for r in bench.status()["running"] if r["detail"] == f"another lane fetches {MODEL}"],
        "the other lane waits",
    )
    assert len(children(cache)) == 1
    hub.go.set()
    bench.cli("attach")
    assert {row["outcome"] for row in attempts(bench)} == {"success"}
    assert {row["lane"] for row in attempts(bench)} == {0, 1}
    assert len(in_the_store(hub)) == len(set(in_the_store(hub)))


# -------------------------------------------------------------------------------------- stopped in the midst of it


def test_a_killed_download_ends_with_its_runner_and_goes_on_where_it_was(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    path = campaign(bench, cache)
    assert bench.submit(path).exit_code == 0
    hub.hold_after = HOLD
    runner = bench.runner()
    assert hub.held.wait(DEADLINE_S)
    blobs = Repository(cache, MODEL).blobs

    def parts() -> list[int]:
        return [part.stat().st_size for part in blobs.glob("*.incomplete")]

    until(lambda: parts() == [fetch_model.CHUNK] * 2, "both shards in part")
    runner.kill()
    runner.wait()
    until(lambda: not children(cache), "the download's end")
    assert parts() == [fetch_model.CHUNK] * 2

    hub.hold_after = None
    hub.go.set()
    before = len(hub.seen)
    bench.cli("run")
    ranges = [seen.range for seen in hub.seen[before:] if seen.method == "GET" and seen.path.startswith("/store/")]
    assert sorted(filter(None, ranges)) == [f"bytes={fetch_model.CHUNK}-"] * 2
    assert attempts(bench)[-1]["model_revision"] == commit
    assert (
        Repository(cache, MODEL).snapshot(commit) / "model-00002-of-00002.safetensors"
    ).read_bytes() == b"2" + SHARD
    assert bench.outcomes() == {("a:baseline#1", "success True", None)}


def test_a_cancelled_download_ends_at_once(bench: Bench, hub: Hub, cache: Path) -> None:
    hub.add(MODEL, FILES)
    held(bench, hub, campaign(bench, cache))
    bench.cli("skip", "aaaa")
    until(lambda: not children(cache), "the download's end")
    bench.cli("attach", code=None)
    (attempt,) = attempts(bench)
    assert (attempt["outcome"], phases(bench, attempt["id"])["model"]) == ("cancelled", "cancelled")
    assert Repository(cache, MODEL).commit_of("main") is None
    bench.assert_nothing_left()


def test_a_missed_deadline_names_the_phase(bench: Bench, hub: Hub, cache: Path) -> None:
    hub.add(MODEL, FILES)
    held(bench, hub, campaign(bench, cache, timeouts=GRACE + '\nmodel = "2s"', more="[measure]\ntrials = 1"))
    bench.cli("attach", code=1)
    first = attempts(bench)[0]
    assert (first["outcome"], phases(bench, first["id"])["model"]) == ("timed_out", "timed_out")
    assert diagnosis(bench, "a:baseline#1")[0] == "timeout"
    assert "model took longer than its deadline of 2 s" in diagnosis(bench, "a:baseline#1")[1]
    assert not children(cache)


# -------------------------------------------------------------------------------------------- what cannot be had


def test_gated_missing_and_unknown_revisions_are_told_apart_before_a_start(
    bench: Bench, hub: Hub, cache: Path
) -> None:
    hub.add("acme/gated", FILES, gated=True)
    hub.add(MODEL, FILES)
    tasks = [
        task(A, COMMAND.format("acme/gated")),
        task(B, COMMAND.format("acme/nowhere")),
        task(C, COMMAND.format(MODEL) + " --revision no-such"),
    ]
    bench.cli("run", campaign(bench, cache, *tasks), code=1)
    assert diagnosis(bench, "a:baseline#1") == (
        "gated_auth",
        'acme/gated is gated; accept its terms on the hub and name the token: [model] secrets = ["HF_TOKEN"]',
    )
    failure, reason = diagnosis(bench, "b:baseline#1")
    assert (failure, reason) == (
        "model_not_found",
        "the hub has no model acme/nowhere, or keeps it from those without a token",
    )
    assert diagnosis(bench, "c:baseline#1") == ("model_not_found", f"{MODEL} has no revision no-such")
    for attempt in attempts(bench):
        assert phases(bench, attempt["id"])["model"] == "failed"
        assert "start" not in phases(bench, attempt["id"])
    assert {row["blame"] for row in bench.rows("SELECT blame FROM diagnoses")} == {"config"}
    assert {row["file"] for row in bench.rows("SELECT file FROM diagnoses")} == {"model"}


def test_a_token_opens_gated_models_and_is_written_nowhere(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add("acme/gated", FILES, gated=True, admitted={TOKEN})
    hub.add("acme/private", FILES, private=True)
    bench.env["HF_TOKEN"] = TOKEN
    tasks = [task(A, COMMAND.format("acme/gated")), task(B, COMMAND.format("acme/private"))]
    held(bench, hub, campaign(bench, cache, *tasks, more='secrets = ["HF_TOKEN"]'))
    (child,) = children(cache)
    assert TOKEN.encode() not in Path(f"/proc/{child}/cmdline").read_bytes()
    assert TOKEN.encode() in Path(f"/proc/{child}/environ").read_bytes()
    hub.go.set()
    bench.cli("attach", code=1)
    assert attempts(bench)[0]["model_revision"] == commit
    assert diagnosis(bench, "b:baseline#1") == (
        "model_not_found",
        "the hub has no model acme/private, or keeps it from the stored HF_TOKEN",
    )
    assert {seen.token for seen in hub.seen if not seen.path.startswith("/store/")} == {TOKEN}
    assert {seen.token for seen in hub.seen if seen.path.startswith("/store/")} == {None}, "the store is another host"
    shown = bench.cli("status", "--json").stdout + bench.cli("export", "--format", "json").stdout
    assert TOKEN not in shown
    for path in [*bench.workspace.root.rglob("*"), *cache.rglob("*")]:
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_a_token_that_the_campaign_does_not_name_is_not_used(bench: Bench, hub: Hub, cache: Path) -> None:
    hub.add("acme/gated", FILES, gated=True, admitted={TOKEN})
    bench.env["HF_TOKEN"] = TOKEN
    bench.cli("run", campaign(bench, cache, task(A, COMMAND.format("acme/gated"))), code=1)
    assert diagnosis(bench, "a:baseline#1")[0] == "gated_auth"
    assert {seen.token for seen in hub.seen} == {None}


def test_a_hub_that_is_away_pauses_the_queue_until_it_is_back(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    hub.stop()
    bench.cli("run", campaign(bench, cache), "--detach")
    paused = until(lambda: bench.status()["paused"], "the queue pauses itself")
    assert paused["failure"] == "pull_failed"
    assert paused["reason"].startswith(f"the hub does not give {MODEL}: ")
    hub.start()
    bench.cli("attach")
    first, *_, last = attempts(bench)
    assert (first["outcome"], first["counts"]) == ("failed", 0)
    assert (last["outcome"], last["model_revision"]) == ("success", commit)
    assert bench.status()["paused"] is None


def test_a_hub_that_is_away_is_not_needed_for_what_is_cached(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    assert fetch(hub, cache)[-1] == {"event": "done"}
    Repository(cache, MODEL).point("main", commit)
    hub.stop()
    bench.cli("run", campaign(bench, cache))
    (attempt,) = attempts(bench)
    assert attempt["model_revision"] == commit
    (note,) = told(bench)
    assert note.endswith(f"; going on with revision {commit} of the cache, which may be old")


def test_without_the_client_it_says_what_to_install(bench: Bench, hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.add(MODEL, FILES)
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "huggingface_hub.py").write_text("raise ImportError('no such package')\n")
    bench.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "lacking"), bench.env.get("PYTHONPATH", "")])
    bench.cli("run", campaign(bench, cache), code=1)
    failure, reason = diagnosis(bench, "a:baseline#1")
    assert failure == "harness_misconfig"
    assert "pip install 'isobench-tui[hub]'" in reason


def test_local_folders_need_nothing_but_must_exist(bench: Bench, hub: Hub, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    tasks = [task(A, COMMAND.format(tmp_path / "weights")), task(B, COMMAND.format(tmp_path / "nowhere"))]
    bench.cli("run", campaign(bench, cache, *tasks), code=1)
    good, bad = attempts(bench)
    assert good["outcome"] == "success"
    assert "model" not in phases(bench, good["id"])
    assert list(phases(bench, bad["id"])) == ["preflight", "collect", "cleanup"]
    assert diagnosis(bench, "b:baseline#1")[0] == "model_not_found"
    assert hub.seen == []


def test_without_a_cache_only_online_tasks_ask_the_hub(bench: Bench, hub: Hub) -> None:
    hub.add("acme/gated", FILES, gated=True)
    hub.add(MODEL, FILES)
    tasks = [
        task(A, COMMAND.format("acme/gated")),
        task(B, COMMAND.format("acme/gated"), more='hub = "online"'),
        task(C, COMMAND.format(MODEL), more='hub = "online"'),
    ]
    bench.cli("run", bench.write(*tasks), code=1)
    offline, gated, online = attempts(bench)
    assert (offline["outcome"], "model" in phases(bench, offline["id"])) == ("success", False)
    assert (gated["outcome"], diagnosis(bench, "b:baseline#1")[0]) == ("failed", "gated_auth")
    assert (online["outcome"], online["model_revision"]) == ("success", None)
    assert in_the_store(hub) == []


# ------------------------------------------------------------------------------------------------------ the disk


def test_a_full_disk_is_told_before_anything_is_fetched(bench: Bench, hub: Hub) -> None:
    hub.add(MODEL, FILES)
    with disk_of(1024 * MB) as disk:
        disk.fill(leave=64 * MB)
        bench.cli("run", campaign(bench, disk.path), "--detach")
        paused = until(lambda: bench.status()["paused"], "the queue pauses itself")
        assert paused["failure"] == "disk_full"
        assert paused["reason"].startswith(f"262 MiB needed in {disk.path} (model {MODEL} 262 MiB), 6")
        assert hub.fetched() == []
        disk.empty()
        bench.cli("attach")
    assert attempts(bench)[-1]["outcome"] == "success"


def test_the_forecast_counts_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(MODEL, "main", str(tmp_path), WEIGHTS)
    repository = Repository(tmp_path, MODEL)
    files = [File("a.safetensors", 1000, "aa"), File("b.safetensors", 500, "bb")]
    free = fetch_model.MARGIN + 1499
    monkeypatch.setattr(fetch_model, "free_bytes", lambda path: free)
    with pytest.raises(Failed, match="acme/tiny needs") as caught:
        fetch_model.forecast(order, files, repository)
    assert caught.value.failure == "disk_full"
    repository.blobs.mkdir(parents=True)
    (repository.blobs / "aa.incomplete").write_bytes(b"x")
    fetch_model.forecast(order, files, repository)


# ----------------------------------------------------------------------------------------------------- the child


def fetch(hub: Hub, cache: Path, token: str | None = None, **order: Any) -> list[dict[str, Any]]:
    """One run of the child, as the runner starts it; what it said."""
    request = Order(**{"model": MODEL, "revision": "main", "cache": str(cache), "weights": WEIGHTS, **order})
    cache.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "*"}
    env |= {"HF_TOKEN": token} if token else {}
    with subprocess.Popen(
        [sys.executable, "-m", fetch_model.__name__],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(request.text() + "\n")
        child.stdin.flush()
        said = [json.loads(line) for line in child.stdout]
        complaints = child.stderr.read()
    assert child.returncode == 0, complaints
    return said


def test_what_was_fetched_badly_is_fetched_again(hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    name = "model-00001-of-00002.safetensors"
    sha256 = hashlib.sha256(FILES[name]).hexdigest()
    repository = Repository(cache, MODEL)
    repository.blobs.mkdir(parents=True)
    part = repository.blobs / f"{sha256}.incomplete"
    part.write_bytes(b"not what the hub has")
    last = fetch(hub, cache)[-1]
    assert (last["failure"], last["reason"]) == (
        "pull_failed",
        f"{MODEL}: {name} came with another sha256 than stated",
    )
    assert not part.exists()
    assert fetch(hub, cache)[-1] == {"event": "done"}
    blob = repository.blobs / sha256
    assert blob.read_bytes() == FILES[name]
    blob.write_bytes(b"short")  # what a disk that was full once may have left
    assert not fetch_model._is_whole(repository.snapshot(commit) / name, len(FILES[name]))
    assert fetch(hub, cache)[-1] == {"event": "done"}
    assert blob.read_bytes() == FILES[name]


def test_a_token_without_access_is_told_apart_from_none(hub: Hub, cache: Path) -> None:
    hub.add(MODEL, FILES, gated=True)
    last = fetch(hub, cache, token=TOKEN)[-1]
    assert last["failure"] == "gated_auth"
    assert last["reason"].startswith(f"{MODEL} is gated; the stored HF_TOKEN has no access to it")


@pytest.mark.parametrize("name", ["a/b/c", "spaces in it", "-"])
def test_what_is_no_name_of_a_model_is_not_found(hub: Hub, cache: Path, name: str) -> None:
    last = fetch(hub, cache, model=name)[-1]
    assert last["failure"] == "model_not_found"


def test_a_cache_that_cannot_be_written_is_a_matter_of_configuration(hub: Hub, cache: Path) -> None:
    hub.add(MODEL, FILES)
    cache.mkdir()
    (cache / "hub").write_text("a file where a folder should be")
    assert fetch(hub, cache)[-1]["failure"] == "harness_misconfig"


def test_no_space_left_is_a_full_disk() -> None:
    full = fetch_model.Hub(Order(MODEL, "main", "/cache", WEIGHTS), None).understood(OSError(errno.ENOSPC, "full"))
    assert (full.failure, str(full)) == ("disk_full", f"no space left in /cache for {MODEL}")


def test_names_that_lead_out_of_the_cache_are_left_alone(hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.add(MODEL, {**FILES, "../../../../escaped.json": b"{}", "/tmp/escaped.json": b"{}"})
    said = fetch(hub, cache)
    assert said[-1] == {"event": "done"}
    assert said[0]["files"] == NEEDED
    assert not list(tmp_path.rglob("escaped.json"))


def test_a_shared_cache_stays_readable_for_those_who_share_it(bench: Bench, hub: Hub, cache: Path) -> None:
    commit = hub.add(MODEL, FILES)
    cache.mkdir()
    cache.chmod(0o755)
    bench.cli("run", campaign(bench, cache))
    config = Repository(cache, MODEL).snapshot(commit) / "config.json"
    assert config.stat().st_mode & 0o777 == 0o644
