"""What a task brings along into its containers: wheels for its setup commands, and the data set of its command."""

from __future__ import annotations

import hashlib
import json

import pytest
from campaigns import SERVE, A, Site, task

pytestmark = pytest.mark.docker


def test_setup_commands_see_their_wheels_in_every_arm_and_a_failing_one_is_env_broken(site: Site) -> None:
    wheels = site.root / "wheels"
    wheels.mkdir()
    (wheels / "extra-1.0-py3-none-any.whl").write_bytes(b"not a real one")
    run = "ls /wheels && touch /wheels/x 2>/dev/null; echo setup of {tag}{fails}"
    setup = f'[[setup]]\nimages = "*:{{tag}}"\nrun = "{run}"\n'
    good = setup.format(tag="baseline", fails="") + f'wheels = "{wheels}"\n'
    file = site.campaign(
        task(A, patches={"fast": "faster-schedule.diff"}), arms=("baseline", "human", "agent"), more=good
    )
    site.isobench("run", file)
    for row in site.attempts():
        said = (site.workspace.run_dir(row["id"]) / "setup.log").read_text()
        assert "extra-1.0-py3-none-any.whl" in said
        assert "setup of baseline" in said
    assert {outcome for outcome, _ in site.outcomes().values()} == {"success"}
    assert [path.name for path in wheels.iterdir()] == ["extra-1.0-py3-none-any.whl"]

    bad = setup.format(tag="baseline", fails="; exit 3") + f'wheels = "{wheels}"\n'
    site.isobench("run", site.campaign(task(A), name="bad", more=bad), code=1)
    (failed,) = site.rows("SELECT failure FROM jobs WHERE outcome = 'failed'")
    assert failed["failure"] == "env_broken"
    site.assert_nothing_left()


def test_a_data_set_is_mounted_read_only_and_checked(site: Site) -> None:
    """The client is told the path inside; the fingerprint holds the digest, not a path."""
    data = site.root / "prompts.json"
    data.write_text(json.dumps([{"conversations": []}]))
    command = f"{SERVE} --dataset-path {data}"
    site.isobench("run", site.campaign(task(A, command, more=f'dataset = "{data}"')))
    (row,) = site.attempts()
    assert row["outcome"] == "success", site.tell()
    (argv,) = (json.loads(found["argv"]) for found in site.rows("SELECT argv FROM trials"))
    inside = argv[argv.index("--dataset-path") + 1]
    assert inside.startswith("/isobench/dataset/")
    seen = json.loads((site.workspace.run_dir(row["id"]) / "inspect.json").read_text())
    (mount,) = (found for found in seen["HostConfig"]["Mounts"] if found["Target"] == inside)
    assert mount["ReadOnly"]
    workload = json.loads(site.one("SELECT workload FROM tasks"))
    assert workload["dataset"] == f"sha256:{hashlib.sha256(data.read_bytes()).hexdigest()}"
    assert str(data) not in json.dumps(workload["client"])
    site.assert_nothing_left()
