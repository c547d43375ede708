"""What a campaign is once its file was read: plain, frozen models that the store keeps and the runner executes.

Nothing here reads a file. Every model round-trips through JSON, because the store holds them as text.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Mode = Literal["serving", "throughput", "latency", "prefix_caching"]
Arm = Literal["baseline", "human", "agent"]

PORT = "{isobench:port}"
"""Stands for the server's port in an argv; the driver replaces it in every token."""
RUN = "{isobench:run}"
"""Stands for the run directory as the client sees it; the driver replaces it in every token."""
SEED = "{isobench:seed}"
"""Stands for a trial's own seed; replaced per trial when the driver's job is written."""
MODEL = "{isobench:model}"
"""Stands for the model; the driver replaces it once conditional overrides are resolved."""
DATASET = "{isobench:dataset}"
"""Stands for the task's data set as the client sees it; the driver replaces it in every token."""
RESULT = RUN + "/client-{isobench:trial}.json"
"""Where a client that can write a result file writes it; `{isobench:trial}` is the trial's two-digit number."""


class Frozen(BaseModel):
    """Base of every model here: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Override(Frozen):
    """A model replaced by another one, the same in every arm of a task."""

    model: str
    """The model that perf_command names."""
    use: str
    """The model that runs instead."""
    before_vllm: str | None = None
    """Replace only where the image's vLLM is older than this version; None: always."""
    decided: bool | None = None
    """The task's own `override = true|false`: settles what a development version of vLLM cannot."""
    reason: str = ""


class Workload(Frozen):
    """What is measured. Two results may be compared only if their workloads have equal fingerprints."""

    mode: Mode
    model: str
    """As perf_command names it, before any override."""
    client: tuple[str, ...]
    """Client argv with the placeholders above; `client[0]` is `python` or `vllm`, resolved by the driver."""
    server: tuple[str, ...] = ()
    """Server argv (serving only), `server[0]` = `python`; empty for the offline modes."""
    optional: tuple[tuple[str, ...], ...] = ()
    """Options in `client` that we added, each with its value: the driver leaves out what the image's client lacks."""
    model_ids: tuple[str, ...] = ()
    """Names under which `/v1/models` may list our model."""
    override: Override | None = None
    env: dict[str, str] = Field(default_factory=dict)
    setup: tuple[str, ...] = ()
    """Shell commands of the `[[setup]]` blocks that match the task, in order."""
    dataset: str | None = None
    """`sha256:…` of the dataset file, where one is named and readable."""
    seeds: tuple[int, ...] = ()
    """Seed of each run of the client in order, warm-ups first; empty where the client takes none."""
    asked: int | None = None
    """Requests that the client is told to send (`--num-prompts`), where known."""
    output_tokens: int | None = None
    """Output tokens in total, where the command fixes them (`--ignore-eos` with a fixed length)."""
    writes_result: bool = False
    """The client is told to write its own result JSON to RESULT."""


class JobSpec(Frozen):
    """One row of the queue with all that is needed to run it. Its identity is the sha256 of `identity_json`."""

    campaign: str
    commit: str
    """40 hex digits of the human commit."""
    parent: str
    arm: Arm
    agent: str = ""
    """Who wrote the patch; empty unless arm is `agent`."""
    repeat: int = 0
    """0-based."""
    image: str
    """Image reference as written (docker) or absolute folder (process)."""
    workload: Workload
    fingerprint: str
    patch_sha256: str | None = None
    max_attempts: int = 3
    wheels: str | None = None
    """Absolute host folder mounted read-only at /wheels for the setup commands."""
    hub: Literal["offline", "online"] = "offline"
    dataset: str | None = None
    """Absolute host path of the task's data set, mounted read-only; `{isobench:dataset}` in the client's argv."""


class Timeouts(Frozen):
    """Deadline of each phase in seconds; what a missed one does is the same for all: it names its phase."""

    preflight: float = 60
    image: float = 1800
    model: float = 7200
    start: float = 600
    setup: float = 300
    server: float = 900
    measure: float = 1800
    stall: float = 600
    """Silence of the client's log that ends a trial."""
    collect: float = 60
    cleanup: float = 600
    slack: float = 60
    """How long the runner waits beyond the driver's own deadline before it stops the container itself."""
    grace: float = 10
    """Seconds between SIGTERM and SIGKILL."""


class Container(Frozen):
    """How a container is created (docker engine only)."""

    shm_size: int | None = None
    """Bytes of /dev/shm."""
    network: Literal["none", "bridge"] = "none"
    volumes: tuple[str, ...] = ()
    """`host:container[:ro]`, as docker writes them."""
    memory: int | None = None
    """Bytes."""
    pids: int | None = None


class Lane(Frozen):
    """One slot that runs one attempt at a time."""

    gpus: tuple[str, ...] = ()
    """GPU ids as the container runtime knows them (index or UUID); empty: no GPU, the CPU lane."""
    cpus: str | None = None
    """CPUs that the lane's processes may use, as cpuset(7) lists them (`0-7,16`); None: all."""


def cpu_ids(cpus: str) -> frozenset[int]:
    """The numbers in a list of CPUs such as `0-7,16` (cpuset(7), "List format"). Raises ValueError."""
    ids: set[int] = set()
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        ids.update(range(int(first), int(last or first) + 1))
    return frozenset(ids)


class Validity(Frozen):
    """From where on a finding about an attempt becomes a flag; `docs/validity.md` has the reasons."""

    min_requests: int = 10
    """Completed requests of a counted trial (serving, throughput)."""
    min_warmups: int = 1
    """Uncounted runs, or the client's own warm-up iterations, before the first counted trial."""
    cache_reuse: float = 0.05
    """Share of prompt tokens that a trial found in the prefix cache beyond what the server's first run found."""
    workload_tolerance: float = 0.02
    """Relative difference of requests, prompt and output tokens to the reference arm."""
    busy_memory: int = 256 * 1024**2
    """Bytes of a GPU that a foreign process holds."""
    throttled: float = 0.05
    """Share of the watched time in which heat or the power supply slowed a GPU down."""
    power_capped: float = 0.5
    """Share of the watched time at the power limit: a note, for it is where a loaded GPU is meant to be."""


class Notify(Frozen):
    """Who is told when the queue pauses itself, an attempt fails, the campaign ends."""

    command: tuple[str, ...] = ()
    """argv; it reads one JSON object from its standard input."""
    urls: tuple[str, ...] = ()
    """Names of stored values, each an Apprise URL."""


class Settings(Frozen):
    """Campaign-wide settings that the runner needs beside the jobs."""

    engine: Literal["docker", "process"]
    docker_host: str | None = None
    """`unix:///path/docker.sock`; None: $DOCKER_HOST, else the system socket."""
    container: Container = Container()
    lanes: tuple[Lane, ...] = (Lane(),)
    timeouts: Timeouts = Timeouts()
    keep_images: Literal["shared", "next", "none", "all"] = "shared"
    prune: Literal["none", "all"] = "none"
    """`all`: where the keep policy cannot make room, what no container uses is removed, whoever made it."""
    flatten: Literal["auto", True, False] = "auto"
    """Images become one layer: where the storage driver copies layers, on any driver, never."""
    blob_cache: int = 40 * 1024**3
    """Bytes that layers of flattened images may take in the workspace."""
    same_failure: int = 3
    """Same non-agent failure class this many times running, over different tasks, pauses the queue."""
    min_window_s: float = 30
    validity: Validity = Validity()
    noise_floor: float = 0.02
    """Relative difference below which results count as equal where the host's own noise is not measured."""
    trials: int = 1
    warmups: int = 0
    log_cap: int = 2 * 1024**3
    """Bytes that one log may take on disk before its middle is dropped."""
    model_cache: str | None = None
    """Host folder with the Hugging Face cache: models are fetched into it, measured processes read it."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables whose values are stored 0600 and given to the measured processes alone."""
    backup_to: str | None = None
    """Host folder, on another mount, into which the workspace is copied after every attempt."""
    notify: Notify = Notify()
    simulated: bool = False
    """Nothing here is a measurement of vLLM; everything that shows a number says so."""


class Finding(Frozen):
    """Something about the campaign that the operator should know before it runs."""

    level: Literal["error", "warning", "info"]
    where: str
    """Task, arm or key path that it is about."""
    text: str


class PlannedTask(Frozen):
    """One task of the campaign with the workload that all its arms share."""

    commit: str
    parent: str
    workload: Workload
    fingerprint: str


class Submission(Frozen):
    """A whole campaign, expanded: what `plan` prints and what `run` hands to the store."""

    name: str
    spec_path: str
    spec_text: str
    settings: Settings
    tasks: tuple[PlannedTask, ...]
    jobs: tuple[JobSpec, ...]
    """In the order in which they shall run."""
    patches: dict[str, str] = Field(default_factory=dict)
    """sha256 -> base64 of the patch file's bytes."""
    findings: tuple[Finding, ...] = ()
