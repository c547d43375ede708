"""`isobench doctor`: what it sees, what it advises, and whether its exit code says what a run would meet."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bench import A, Bench, bench_at, task
from fakegpus import FakeGpus
from hub import Hub

from isobench_tui.doctor import disk, docker, host, storage
from isobench_tui.doctor.check import Check, Probe, exit_code, fail, ok, run_all, warn
from isobench_tui.engine.base import ImageInfo, ImageLayer, Storage
from isobench_tui.runner.space import Need, Volume

GIB = 1024**3
MODEL = "m"
"""The model of `task`."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        made.env["DOCKER_HOST"] = f"unix://{tmp_path}/no.sock"
        made.env["TMUX_TMPDIR"] = str(tmp_path)
        made.env.pop("TMUX", None)
        yield made


def checks(bench: Bench, *argv: str | Path, code: int = 0) -> dict[str, dict[str, Any]]:
    """Name -> check, as `--json` tells."""
    found = json.loads(bench.cli("doctor", "--json", *argv, code=code).stdout)
    assert found["exit_code"] == code
    return {check["name"]: check for check in found["checks"]}


# ------------------------------------------------------------------------------------------------ the command


def test_without_an_engine_no_run_could_start(bench: Bench) -> None:
    found = checks(bench, code=3)
    assert found["engine"]["level"] == "fail"
    assert "no.sock" in found["engine"]["seen"]
    assert found["engine"]["do"][0] in {"systemctl start docker", "service docker start"}
    assert found["workspace"]["level"] == "ok"
    assert not bench.workspace.root.exists(), "it looks and makes nothing"
    shown = bench.cli("doctor", code=3).stdout
    assert "a run could not start: 1 failed" in shown.splitlines()[-1]
    assert all(line.isprintable() for line in shown.splitlines())


def test_an_engine_that_never_answers_holds_up_nothing(bench: Bench, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mute.sock"))
        listener.listen()
        bench.env["DOCKER_HOST"] = f"unix://{tmp_path}/mute.sock"
        found = checks(bench, code=3)
    assert "does not answer" in found["engine"]["seen"]
    assert {"workspace", "clock", "logout"} <= found.keys(), "everything else is told all the same"


def test_a_campaign_file_that_is_wrong_is_a_check_that_fails(bench: Bench) -> None:
    path = bench.write(task(A))
    path.write_text(path.read_text().replace("[limits]", "[limits]\nmax_attempts = 0"))
    found = checks(bench, path, code=2)
    assert "max_attempts" in found["campaign"]["seen"]
    assert found["engine"]["level"] == "fail", "the host is looked at as well"


def test_a_campaign_of_processes_needs_no_engine(bench: Bench, gpus: FakeGpus) -> None:
    found = checks(bench, bench.write(task(A)))
    assert "engine" not in found
    assert found["campaign"]["seen"].startswith("small: 1 job")
    assert found["disk"]["level"] == "ok"
    assert f"needed in {bench.workspace.trees} (container" in found["disk"]["seen"]
    assert ", workspace 512 MiB)" in found["disk"]["seen"]
    assert found["gpu"]["seen"] == "driver 580.159.04: 0 NVIDIA H100 80GB HBM3"
    assert found["gpu-memory"]["level"] == "ok"


def test_a_secret_without_a_value_stops_a_run(bench: Bench, gpus: FakeGpus) -> None:
    path = bench.write(task(A), campaign='arms = ["baseline"]\n[model]\nsecrets = ["HF_TOKEN"]')
    bench.env.pop("HF_TOKEN", None)
    assert "HF_TOKEN" in checks(bench, path, code=2)["secrets"]["seen"]
    bench.env["HF_TOKEN"] = "hf_not_shown"
    found = checks(bench, path)
    assert found["secrets"]["level"] == "ok"
    assert "hf_not_shown" not in json.dumps(found)


@pytest.fixture
def gpus(bench: Bench, tmp_path: Path) -> FakeGpus:
    """One GPU: the lane's."""
    made = FakeGpus(tmp_path, bench.lane)
    bench.env.update(made.env)
    return made


def test_lanes_without_their_gpus_cannot_run(bench: Bench, gpus: FakeGpus) -> None:
    path = bench.write(task(A), lanes='"7"')
    found = checks(bench, path, code=3)
    assert found["gpu"]["seen"].endswith("not among them: 7")
    gpus.write(error="DRIVER_NOT_LOADED")
    assert "not loaded" in checks(bench, path, code=3)["gpu"]["seen"]


def test_whoever_holds_a_gpu_is_named_and_stops_nothing(bench: Bench, gpus: FakeGpus) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        gpus.hold(stranger.pid, 40)
        gpus.show(reasons=0x40)
        found = checks(bench, bench.write(task(A)))
    finally:
        stranger.kill()
        stranger.wait()
    assert found["gpu-memory"]["level"] == "warn"
    assert f"sleep 1000 (pid {stranger.pid}, " in found["gpu-memory"]["seen"]
    assert "hw_thermal_slowdown" in found["gpu-clocks"]["seen"]


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_clipboard_that_tmux_swallows_is_told(bench: Bench, tmp_path: Path) -> None:
    def tmux(*argv: str) -> None:
        subprocess.run(["tmux", *argv], env=bench.env, check=True, cwd=tmp_path)

    assert "tmux" not in checks(bench, code=3), "no server, nothing to say"
    tmux("new-session", "-d", "sleep 1000")
    try:
        tmux("set-option", "-s", "set-clipboard", "external")
        assert checks(bench, code=3)["tmux"]["level"] == "warn"
        tmux("set-option", "-s", "set-clipboard", "on")
        assert checks(bench, code=3)["tmux"]["level"] == "ok"
    finally:
        tmux("kill-server")


# ------------------------------------------------------------------------------------------------- what it means


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([ok("a", "")], 0),
        ([ok("a", ""), warn("b", "")], 0),
        ([fail("a", "")], 3),
        ([fail("a", ""), fail("b", "", code=2)], 2),
        ([], 0),
    ],
)
def test_the_exit_code_is_what_a_run_would_meet(said: Sequence[Check], code: int) -> None:
    assert exit_code(said) == code


def test_a_check_that_hangs_or_breaks_takes_no_other_with_it() -> None:
    forever = threading.Event()

    def hang() -> Check:
        forever.wait()
        return ok("hang", "at last")

    def fall() -> Check:
        raise ZeroDivisionError

    probes = [Probe("hang", hang, 0.05), Probe("break", fall), Probe("two", lambda: [ok("x", ""), ok("y", "")])]
    said = asyncio.run(run_all(probes))
    forever.set()
    assert [(check.name, check.level) for check in said] == [
        ("hang", "warn"), ("break", "warn"), ("x", "ok"), ("y", "ok"),
    ]  # fmt: skip
    assert "ZeroDivisionError" in said[1].seen


def engine(info: Mapping[str, Any] | None = None, api: str = "1.41", containers: Sequence[Any] = ()) -> docker.Engine:
    return docker.Engine("/run/x.sock", info or {}, {"Version": "20.10.24", "ApiVersion": api}, containers)


@pytest.mark.parametrize(
    ("api", "options", "level"),
    [("1.41", [], "ok"), ("1.39", [], "fail"), ("1.41", ["name=seccomp", "name=rootless"], "warn")],
)
def test_an_engine_is_new_enough(api: str, options: list[str], level: str) -> None:
    assert docker.answers(engine({"SecurityOptions": options}, api)).level == level


def test_live_restore_is_advised() -> None:
    assert docker.live_restore(engine({"LiveRestoreEnabled": True})).level == "ok"
    assert "live-restore" in docker.live_restore(engine({"LiveRestoreEnabled": False})).do[0]


@pytest.mark.parametrize(
    ("info", "hook", "wanted", "level"),
    [
        ({"Runtimes": {"runc": {}}}, None, (), "ok"),
        ({"Runtimes": {"runc": {}}}, None, ("0",), "fail"),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, None, ("0",), "ok"),
        ({}, "/usr/bin/nvidia-container-runtime-hook", ("0",), "ok"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, None, ("0",), "ok"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/net=0"}]}, None, ("0",), "fail"),
    ],
)
def test_gpus_need_a_way_into_containers(
    info: Mapping[str, Any], hook: str | None, wanted: Sequence[str], level: str
) -> None:
    assert docker.gpu_runtime(engine(info), wanted, hook).level == level


def test_a_cdi_specification_counts(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").touch()
    assert docker.gpu_runtime(engine({"CDISpecDirs": [str(tmp_path)]}), ("0",), None).level == "ok"


def test_containers_that_were_left_are_named() -> None:
    def item(name: str, workspace: str, state: str = "running") -> dict[str, Any]:
        labels = {"isobench.workspace": workspace, "isobench.attempt": f"{name}-1"}
        return {"Names": [f"/{name}"], "State": state, "Labels": labels}

    mine, other, dead = item("mine", "u"), item("other", "v"), item("dead", "w", "exited")
    assert docker.leftovers(engine(containers=[mine]), "u", runner=True).level == "ok"
    left = docker.leftovers(engine(containers=[mine]), "u", runner=False)
    assert (left.level, "mine (running, mine-1)" in left.seen, left.do) == ("warn", True, ())
    others = docker.leftovers(engine(containers=[mine, other, dead]), "u", runner=True)
    assert "mine" not in others.seen
    assert "other (running, other-1), dead (exited, dead-1) of other workspaces" in others.seen
    assert others.do == ("docker rm dead   # where their workspaces are gone",), "what runs is nobody's to remove"


PLACES = [storage.Place("/ephemeral", "ext4", 900 * GIB), storage.Place("/small", "xfs", 10 * GIB)]


@pytest.mark.parametrize(
    ("kind", "found", "words"),
    [
        ("ext4", PLACES, ['{"data-root": "/var/lib/docker", "storage-driver": "overlay2"}']),
        ("overlay", PLACES, ["mkdir -p /ephemeral/docker", '{"data-root": "/ephemeral/docker"']),
        ("overlay", PLACES[1:], ["truncate -s 80G /var/lib/docker.xfs", "mkfs.xfs -m reflink=1", "mount -o loop"]),
    ],
)
@pytest.mark.parametrize("systemd", [True, False])
def test_the_cure_for_vfs_fits_the_host(
    kind: str, found: list[storage.Place], words: list[str], systemd: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(docker, "SYSTEMD", tmp_path if systemd else tmp_path / "absent")
    lines = storage.cure(Path("/var/lib/docker"), kind, 100 * GIB, found)
    text = "\n".join(lines)
    assert all(word in text for word in words), text
    stop, start = ("systemctl stop docker", "systemctl start docker") if systemd else (
        "service docker stop", "service docker start",
    )  # fmt: skip
    assert lines.index(stop) < next(i for i, line in enumerate(lines) if "daemon.json" in line) < lines.index(start)


# ------------------------------------------------------------------------------------------------- the host


@pytest.mark.parametrize(
    ("settings", "systemd", "lingers", "level"),
    [
        ({}, True, False, "ok"),
        ({"killuserprocesses": "yes"}, True, False, "warn"),
        ({"killuserprocesses": "yes"}, True, True, "warn"),
        ({"killuserprocesses": "yes"}, False, False, "ok"),
        ({"killuserprocesses": "yes", "killexcludeusers": "root me"}, True, False, "ok"),
        ({"killuserprocesses": "yes", "killonlyusers": "other"}, True, False, "ok"),
        ({"killuserprocesses": "no", "killonlyusers": "you me"}, True, False, "warn"),
        ({"killonlyusers": "me", "killexcludeusers": "me"}, True, False, "ok"),
    ],
)
def test_a_logout_that_ends_the_runner_is_told(
    settings: dict[str, str], systemd: bool, lingers: bool, level: str
) -> None:
    found = host.logout(settings, "me", systemd=systemd, lingers=lingers)
    assert found.level == level
    if level == "warn":
        assert any("enable-linger me" in line for line in found.do) is not lingers
        assert any("systemd-run --user --scope" in line for line in found.do)


def test_later_settings_of_logind_win(tmp_path: Path) -> None:
    main, drop = tmp_path / "logind.conf", tmp_path / "logind.conf.d"
    main.write_text("# a comment\n[Login]\n#KillUserProcesses=no\nKillUserProcesses=no\nKillOnlyUsers=\n")
    drop.mkdir()
    (drop / "50-kill.conf").write_text("[Login]\nKillUserProcesses = yes\n")
    (drop / "60-broken.conf").write_text("no section\n")
    found = host.logind((str(tmp_path / "absent.conf"), str(main), str(drop)))
    assert found == {"killuserprocesses": "yes", "killonlyusers": ""}


def test_the_kernel_says_whether_its_clock_is_set() -> None:
    found = host.clock()
    assert found.level in {"ok", "warn"}
    assert found.seen.startswith(("synchronised", "not synchronised"))


def test_a_workspace_that_cannot_be_made_stops_a_run(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = checks(bench, "--workspace", tmp_path / "file" / "ws", code=2)
    assert found["workspace"]["seen"] == f"{tmp_path}/file is no folder"


# ------------------------------------------------------------------------------------------------- room for images


def image(name: str, *layers: int, present: bool = False) -> ImageInfo:
    made = tuple(
        ImageLayer(f"sha256:{name}{n}", size, "layer.tar+gzip", f"{name}{n}") for n, size in enumerate(layers)
    )
    return ImageInfo(name, f"{name}@sha256:1", "sha256:1", None, present, sum(layers), made)


LAW = Storage("overlay2", Path("/var/lib/docker"))


def demand(*images: ImageInfo, asked: int) -> disk.Demand:
    one = [[Need("image", str(LAW.path), sum(layer.size for layer in one.layers))] for one in images]
    return disk.weigh(LAW, images, asked, one, 1.0)


@pytest.mark.parametrize(
    ("free", "policy", "level", "words"),
    [
        (100, "shared", "ok", "images: 3, to fetch: 3: 9.4 GiB more, if all stay; 100.0 GiB free in /var/lib/docker"),
        (5, "shared", "warn", "some will be removed and fetched again"),
        (5, "all", "warn", "so the queue will pause"),
    ],
)
def test_images_without_room_beside_each_other_take_turns(free: int, policy: Any, level: str, words: str) -> None:
    three = [image("a", GIB, 3 * GIB), image("b", 2 * GIB), image("c", 3 * GIB)]
    found = disk.beside(demand(*three, asked=3), free * GIB, policy)
    assert found.level == level
    assert words in found.seen


def test_what_could_not_be_weighed_is_said() -> None:
    found = disk.beside(demand(image("a", GIB), asked=2), 100 * GIB, "shared")
    assert (found.level, found.seen.endswith("1 could not be weighed")) == ("warn", True)


@pytest.mark.parametrize(
    ("free", "level", "words", "docker"),
    [
        ((5, 5), "ok", "4.0 GiB needed in /var/lib/docker (image 4.0 GiB), 5.0 GiB free", False),
        ((3, 5), "fail", "4.0 GiB needed in /var/lib/docker (image 4.0 GiB), 3.0 GiB free", True),
        ((5, 1), "fail", "2.0 GiB needed in /cache (model opt 2.0 GiB), 1.0 GiB free", False),
    ],
)
def test_the_largest_image_and_the_models_must_fit(
    free: tuple[int, int], level: str, words: str, docker: bool
) -> None:
    largest = demand(image("a", GIB), image("b", GIB, 3 * GIB), asked=2).one
    places = {
        path: Volume(number, size * GIB, 100 * GIB)
        for number, (path, size) in enumerate(zip(("/var/lib/docker", "/cache"), free, strict=True))
    }
    found = disk.first_attempt([*largest, Need("model opt", "/cache", 2 * GIB)], places, "/var/lib/docker")
    assert found.level == level
    assert words in found.seen
    assert any("isobench doctor" in line for line in found.do) is docker


# ------------------------------------------------------------------------------------------------- models


@pytest.fixture
def models(bench: Bench, tmp_path: Path) -> Iterator[Hub]:
    made = Hub()
    bench.env |= {"HF_ENDPOINT": made.url, "NO_PROXY": "*"}
    yield made
    made.close()


def test_models_are_weighed_and_refusals_told_before_a_run(
    bench: Bench, gpus: FakeGpus, models: Hub, tmp_path: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    cache = tmp_path / "cache"
    path = bench.write(task(A), limits=f'\n[model]\ncache = "{cache}"\n')
    models.add(MODEL, {"config.json": b"{}", "model.safetensors": bytes(3 << 20)})
    found = checks(bench, path)
    assert found["model-cache"]["level"] == "ok", found["model-cache"]["seen"]
    assert f"to fetch: {MODEL}, 3 MiB" in found["model-cache"]["seen"]
    assert f"model {MODEL} 3 MiB" in found["disk"]["seen"]
    assert not cache.exists(), "it looks and makes nothing"

    models.models.clear()
    refused = checks(bench, path)
    assert refused["model-cache"]["level"] == "warn"
    assert f"the hub has no model {MODEL}" in refused["model-cache"]["seen"]
    models.stop()
    silent = checks(bench, path)
    assert silent["model-cache"]["level"] == "warn"
    assert "what the hub does not tell now" in silent["model-cache"]["seen"]
