"""Whole campaigns in real containers: from a file to a table, with images that come from a registry."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from campaigns import PAYLOAD, SERVE, A, B, Images, Site, check_results, site_at, task
from dockerd import Dockerd, Host
from member import UID, Member
from proxy import Proxy

from isobench_tui.engine.images.names import flat_name

pytestmark = pytest.mark.docker

PHASES = ["preflight", "image", "start", "setup", "server", "measure", "collect", "cleanup"]


def test_a_campaign_from_the_registry_to_the_table(site: Site, slow_registry: Proxy) -> None:
    """Serving and throughput, all arms; one patch breaks the server, one is empty, one does not apply."""
    images = site.images
    port = slow_registry.port
    file = site.campaign(
        task(A, SERVE, patches={"good": "faster-batch-output.diff", "bad": "breaks-server.diff"}),
        task(B, patches={"good": "faster-block-table.diff", "none": "empty.diff", "old": "does-not-apply.diff"}),
        arms=["baseline", "human", "agent"],
        image=images.ref("baseline", port),
        human=images.ref("human", port),
    )
    slow_registry.rate = 2 << 20
    site.start(file)
    moving = "key LIKE 'pull/%' AND value ->> 'done' > 0 AND value ->> 'total' IS NOT NULL"
    told = json.loads(site.wait(f"SELECT value FROM live WHERE {moving}"))
    assert 0 < told["done"] < told["total"]
    assert any(layer["state"] == "exists" for layer in told["layers"])
    assert any((layer["total"] or 0) > PAYLOAD // 2 for layer in told["layers"])
    slow_registry.rate = None
    assert "SIMULATED" in site.isobench("run", file, code=1).stdout  # a second one only follows: jobs failed
    site.idle()
    assert site.outcomes() == {
        "a:baseline": ("success", None),
        "a:human": ("success", None),
        "a:good": ("success", None),
        "a:bad": ("failed", "patch_crash"),
        "b:baseline": ("success", None),
        "b:human": ("success", None),
        "b:good": ("success", None),
        "b:none": ("failed", "patch_empty"),
        "b:old": ("failed", "patch_not_applied"),
    }
    attempts = site.attempts()
    assert [row["number"] for row in attempts] == [1] * 9
    for row in attempts:
        tag = "human" if row["arm"] == "human" else "baseline"
        if row["failure"] != "patch_empty":
            assert row["image_digest"] == images.digests[tag]
            assert row["image_id"] == site.host.inspect(images.ref(tag, port))["Id"]
        if row["outcome"] == "success":
            ran = [phase for phase in PHASES if phase != "server" or row["commit_sha"] == A]
            assert list(row["phases"].items()) == [(phase, "ok") for phase in ran]
            inspect = json.loads((site.workspace.run_dir(row["id"]) / "inspect.json").read_text())
            assert inspect["Image"] == row["image_id"]
            assert inspect["State"]["ExitCode"] == row["exit_code"] == 0
            assert "API_KEY=***" in inspect["Config"]["Env"]
    first = {
        tag: next(row for row in attempts if row["image_ref"] == images.ref(tag, port))
        for tag in images.digests
        if tag != "user"
    }
    for tag, row in first.items():
        (image,) = site.rows("SELECT * FROM images WHERE ref = ?", images.ref(tag, port))
        assert (image["brought_by"], image["digest"], image["id"]) == (
            row["id"],
            row["image_digest"],
            row["image_id"],
        )
        assert image["size"] > PAYLOAD
    check_results(site)
    assert site.export()["a:good"]["image_digest"] == images.digests["baseline"]
    site.assert_nothing_left()


def test_on_vfs(tmp_path: Path, vfs_host: Host, images: Images) -> None:
    """Where every layer and every container is a copy of the whole image."""
    with site_at(tmp_path, vfs_host, images) as site:
        file = site.campaign(task(A, SERVE, patches={"good": "faster-batch-output.diff"}), arms=["agent"])
        assert "1 valid" in site.isobench("run", file).stdout
        site.idle()
        assert site.outcomes() == {"a:good": ("success", None)}
        assert site.one("SELECT brought_by FROM images") == site.attempts()[0]["id"]
        check_results(site)
        site.assert_nothing_left()
        flat = flat_name(site.one("SELECT digest FROM images"))
        assert len(vfs_host.inspect(flat)["RootFS"]["Layers"]) == 1
        assert not vfs_host.has_image(site.one("SELECT ref FROM images"))
        vfs_host.client.remove_image(flat)
        images.forget(vfs_host)


def test_as_a_plain_member_of_the_docker_group(member: Member, own_dockerd: Dockerd, images: Images) -> None:
    """Nothing needs root, and every file of the run directories is the operator's."""
    with site_at(member.home / "site", own_dockerd, images) as site:
        file = site.campaign(task(A, SERVE, patches={"bad": "breaks-server.diff"}), arms=["baseline", "agent"])
        member.give(site.root)
        env = {key: value for key, value in site.env.items() if key.startswith(("XDG_", "ISOBENCH_"))}
        done = member.run([member.python, "-m", "isobench_tui", "run", str(file)], more=env)
        assert done.returncode == 1, done
        assert "1 valid, 1 failed" in done.stdout
        site.idle()
        assert site.outcomes() == {"a:baseline": ("success", None), "a:bad": ("failed", "patch_crash")}
        made = [site.workspace.root, *site.workspace.root.rglob("*")]
        assert {path.lstat().st_uid for path in made} == {UID}
        assert stat.S_IMODE(site.workspace.runs.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in made} == {0}
        run_dir = site.workspace.run_dir(site.attempts()[0]["id"])
        source = "import pathlib, shutil, sys; run = pathlib.Path(sys.argv[1])\n"
        source += "print(len((run / 'client-00.log').read_bytes()))\nshutil.rmtree(run)"
        said = member.script(source, str(run_dir))
        assert (said.returncode, int(said.stdout) > 0, run_dir.exists()) == (0, True, False), said
        site.assert_nothing_left()


def test_an_image_with_a_user_of_its_own(site: Site) -> None:
    """The driver is root inside all the same, or it could not write into the operator's folder."""
    file = site.campaign(task(A), image=site.images.ref("user"))
    site.isobench("run", file)
    assert site.reached("measure")["uid"] == 0
    assert site.outcomes() == {"a:baseline": ("success", None)}
    owners = {path.lstat().st_uid for path in site.workspace.runs.rglob("*")}
    assert owners == {os.getuid()}
    check_results(site)
    site.assert_nothing_left()


def test_a_secret_reaches_the_measured_processes_and_nothing_else(site: Site) -> None:
    value = "hf_" + os.urandom(16).hex()
    more = '[model]\nsecrets = ["HF_TOKEN"]\n[[setup]]\nrun = "env; ls /isobench/secrets"'
    file = site.campaign(task(A, SERVE), more=more)
    assert "HF_TOKEN" in site.isobench("run", file, code=2).stderr
    site.shut("measure")
    site.isobench("run", file, "--detach", env={"HF_TOKEN": value})
    digest = hashlib.sha256(value.encode()).hexdigest()
    assert site.reached("server")["token"] == digest
    assert site.reached("measure")["token"] == digest
    assert site.reached("driver")["token"] is None
    (container,) = site.containers()
    seen = json.dumps(site.host.client.inspect_container(container["Id"]))
    assert "/isobench/secrets/HF_TOKEN" in seen
    assert value not in seen
    site.open("measure")
    site.idle()
    assert site.outcomes() == {"a:baseline": ("success", None)}
    # Only the folder of the secrets has it: the database with its log, job.json, events and every log have not.
    kept = [path for path in site.root.rglob("*") if path.is_file() and value.encode() in path.read_bytes()]
    assert kept == [site.root / "config" / "isobench" / "secrets" / "HF_TOKEN"]
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    for form in ("md", "csv", "json"):
        assert value not in site.isobench("export", "--format", form).stdout
    assert value not in site.isobench("logs", site.attempts()[0]["id"]).stdout
    assert (
        "HF_TOKEN" in (site.workspace.run_dir(site.attempts()[0]["id"]) / "setup.log").read_text()
    )  # its file's name
    site.assert_nothing_left()
