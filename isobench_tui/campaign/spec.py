"""The campaign file's own shape: one model per table, a docstring per key. Unknown keys are errors.

`expand` turns it into the plain models of `models.py`; nothing else reads these.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from isobench_tui.campaign.models import Arm, Mode
from isobench_tui.campaign.problems import rejected
from isobench_tui.campaign.quantities import Deadline, Seconds, Size

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_AGENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)
_SHORT = re.compile(r"[0-9a-fA-F]{8,40}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_GPU = re.compile(r"(?:[0-9]{1,3}|(?:GPU|MIG)-[A-Za-z0-9/-]+)", re.ASCII)
_SECRET = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY)$", re.IGNORECASE)

NEWEST = "newest"
"""`[isobench] agents.NAME` without a run directory: of each task the newest run of the agent of that name."""


def _campaign_name(value: str) -> str:
    if not _NAME.fullmatch(value) or value in {".", ".."}:
        raise rejected("not a campaign name", "1 to 64 of A-Z a-z 0-9 . _ -")
    return value


def _agent_name(value: str) -> str:
    if not _AGENT.fullmatch(value) or len(value) > 128:
        raise rejected("not an agent's name", "1 to 128 of A-Z a-z 0-9 . _ -")
    if value in {"baseline", "human", "agent"}:
        raise rejected(f"an agent cannot be called {value}: that is an arm", "any other name")
    return value


def _commit(value: str) -> str:
    if not _COMMIT.fullmatch(value):
        raise rejected("not a full commit id", "40 hex digits, as `git rev-parse COMMIT` prints them")
    return value.lower()


def _short(value: str) -> str:
    if not _SHORT.fullmatch(value):
        raise rejected("not a commit id", "its first 8 to 40 hex digits")
    return value.lower()


def _agents(value: object) -> object:
    """`["a", "b"]` is short for `{a = "newest", b = "newest"}`."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, NEWEST)
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise rejected("not the name of an environment variable", "A-Z a-z 0-9 _, no digit first")
    return value


def looks_secret(name: str) -> bool:
    """Whether an environment variable of that name probably holds a secret."""
    return bool(_SECRET.search(name))


def _open_variable(value: str) -> str:
    _variable(value)
    if looks_secret(value):
        raise rejected(
            "looks like a secret, and everything here is stored and shown",
            f'[model] secrets = ["{value}"], the value in the environment of `isobench run`',
        )
    return value


def _gpu(value: str) -> str:
    if not _GPU.fullmatch(value):
        raise rejected("not a GPU id", 'an index or UUID as nvidia-smi -L shows it, like "0" or "GPU-8d3e…"')
    return value


def _host(value: str) -> str:
    if not value.startswith("unix:///"):
        raise rejected(
            "only an engine on this machine: containers get folders of this machine mounted",
            "unix:///path/to/docker.sock",
        )
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise rejected("is empty", "some text")
    return value


def _arms(value: list[Arm]) -> list[Arm]:
    if not value or len(set(value)) != len(value):
        raise rejected("each arm at most once, and at least one", '["baseline", "human", "agent"] or fewer')
    return value


CampaignName = Annotated[str, AfterValidator(_campaign_name)]
AgentName = Annotated[str, AfterValidator(_agent_name)]
Commit = Annotated[str, AfterValidator(_commit)]
ShortCommit = Annotated[str, AfterValidator(_short)]
Variable = Annotated[str, AfterValidator(_variable)]
OpenVariable = Annotated[str, AfterValidator(_open_variable)]
Gpu = Annotated[str, AfterValidator(_gpu)]
SocketUrl = Annotated[str, AfterValidator(_host)]
Text = Annotated[str, AfterValidator(_not_blank)]
Arms = Annotated[list[Arm], AfterValidator(_arms)]
Env = dict[OpenVariable, str]
AgentRuns = Annotated[dict[AgentName, Text], BeforeValidator(_agents)]


class Table(BaseModel):
    """Base of every table: unknown keys are refused, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class CampaignTable(Table):
    """`[campaign]`"""

    name: CampaignName
    """The campaign's name: 1 to 64 of A-Z a-z 0-9 . _ -"""
    repeats: int = Field(default=1, ge=1, le=1000)
    """Jobs per (task, arm, agent), each of which needs one valid attempt: a whole number from 1 to 1000"""
    arms: Arms = ["baseline", "human", "agent"]
    """A list of "baseline", "human", "agent": what to run of every task"""
    simulated: bool = False
    """true or false: nothing here measures vLLM, and everything that shows a number says so"""


class IsobenchTable(Table):
    """`[isobench]`: tasks and patches out of an ISO-Bench checkout, read each time the campaign file is."""

    root: Text
    """Folder of the checkout: the one with state/runs and data/mappings in it or in its folder ISO-Bench"""
    agents: AgentRuns = {}
    """agents.NAME = "RUN_DIR" relative to root, or "newest" to look NAME's newest runs up; or a list of NAMEs"""
    commits: list[ShortCommit] | None = None
    """A list of commits (8 to 40 hex digits); without it all that a run of these agents has, or all of the mapping"""
    mapping: Text | None = None
    """The mapping file, relative to root; without it every file in data/mappings is read"""


class ImageTemplates(Table):
    """Image references of the arms, as templates; in a task they replace those of `[images]`."""

    baseline: Text | None = None
    """Image reference (folder with kind = "process") of the parent commit, with {commit} {parent} {parent:.12}"""
    human: Text | None = None
    """Image reference (folder with kind = "process") of the human commit, with {commit} {parent} {commit:.8}"""


class ImagesTable(ImageTemplates):
    """`[images]`"""

    keep: Literal["shared", "next", "none", "all"] = "shared"
    """"shared" (images that another job needs), "next", "none" or "all": what stays on disk after a job"""
    prune: Literal["none", "all"] = "none"
    """"all": where `keep` cannot make room, everything that no container uses goes, whoever made it; `isobench run`
    asks for --allow-prune-all once"""
    flatten: Literal["auto", True, False] = "auto"
    """"auto": images become one layer where the engine's storage driver would copy every layer (vfs without reflink);
    true: on any driver; false: never"""
    blob_cache: Size = 40 * 1024**3
    """Size of the layers that stay in the workspace for the images that are flattened next, like "40g\""""


class EngineTable(Table):
    """`[engine]`"""

    kind: Literal["docker", "process"] = "docker"
    """"docker" or "process" (no isolation; images are folders)"""
    host: SocketUrl | None = None
    """unix:///path/to/docker.sock; without it $DOCKER_HOST, then the system's socket"""


class ContainerTable(Table):
    """`[container]`: how containers are created (docker only)."""

    shm_size: Size | None = None
    """Size of /dev/shm, like "16g\""""
    network: Literal["none", "bridge"] = "none"
    """"none" or "bridge\""""
    volumes: list[Text] = []
    """A list of "host:container:ro" or "host:container", as docker writes them"""
    memory: Size | None = None
    """Memory limit, like "200g\""""
    pids: int | None = Field(default=None, ge=16, le=4194304)
    """Limit of processes and threads: a whole number from 16"""


class ModelTable(Table):
    """`[model]`"""

    cache: Text | None = None
    """Folder of this machine with the Hugging Face cache (HF_HOME): models are fetched into it, and read offline"""
    secrets: list[Variable] = []
    """Names of environment variables, like ["HF_TOKEN"], whose values the measured processes alone get"""


class ServerTable(Table):
    """`[server]`"""

    args: list[str] = []
    """A list of server options for every task, like ["--max-model-len", "4096"]"""


class MeasureTable(Table):
    """`[measure]`"""

    trials: int = Field(default=1, ge=1, le=100)
    """Counted runs of the client per attempt: a whole number from 1 to 100"""
    warmups: int = Field(default=0, ge=0, le=100)
    """Uncounted runs of the client before them: a whole number from 0 to 100"""


class SetupTable(Table):
    """`[[setup]]`: a command run before the patch, the same in every arm of a task that has a matching image."""

    images: Text = "*"
    """Pattern (* ? [abc]) for image references: a task with a matching image runs the command in all its arms"""
    run: Text
    """A shell command, like "pip install --no-index --find-links /wheels 'transformers==4.44.2'\""""
    wheels: Text | None = None
    """Folder of this machine that the command sees at /wheels"""


class LaneTable(Table):
    """`[[lanes]]`"""

    gpus: list[Gpu] = []
    """A list of GPU ids, like ["0"]; empty: no GPU"""
    cpus: str | None = Field(default=None, pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$")
    """CPUs that the lane's processes may use, like "0-7" or "0,2,4"; without it all"""


class TimeoutsTable(Table):
    """`[timeouts]`: seconds, or "90s", "30m", "1h30m"."""

    preflight: Deadline = 60.0
    """Checks before anything starts, like "60s\""""
    image: Deadline = 1800.0
    """Resolve and pull the image, like "30m\""""
    model: Deadline = 7200.0
    """Pin the model's revision and fetch its files into [model] cache, like "2h\""""
    start: Deadline = 600.0
    """Create and start the container, like "10m\""""
    setup: Deadline = 300.0
    """Setup commands and the patch, like "5m\""""
    server: Deadline = 900.0
    """From the server's start to its readiness, like "15m\""""
    measure: Deadline = 1800.0
    """All runs of the client, like "30m\""""
    stall: Deadline = 600.0
    """Silence of the client's log that ends a run, like "10m\""""
    collect: Deadline = 60.0
    """Read and store the results, like "60s\""""
    cleanup: Deadline = 600.0
    """Stop and remove the container, like "10m\""""
    slack: Seconds = 60.0
    """How long the runner waits beyond a deadline of the driver before it steps in, like "60s\""""
    grace: Seconds = 10.0
    """Between SIGTERM and SIGKILL, like "10s\""""


class LimitsTable(Table):
    """`[limits]`"""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Attempts per job: a whole number from 1 to 100"""
    same_failure: int = Field(default=3, ge=1, le=1000)
    """The same failure this many times running, over different tasks, pauses the queue: a whole number from 1"""
    min_window: Seconds = 30.0
    """A measured window shorter than this is flagged, like "30s\""""
    noise_floor: float = Field(default=0.02, gt=0, lt=1)
    """Differences up to this are a tie until 6 baseline repeats tell the real noise: a number like 0.02, for 2 %"""


class ValidityTable(Table):
    """`[validity]`: from where on a finding about a result becomes a flag."""

    min_requests: int = Field(default=10, ge=0)
    """Completed requests of a counted serving run; fewer invalidate it (too_few_requests): a whole number from 0"""
    min_warmups: int = Field(default=1, ge=0)
    """Warm-ups before the first counted run, the client's own too; fewer are noted (no_warmup): a number from 0"""
    cache_reuse: float = Field(default=0.05, ge=0, le=1)
    """Prompt tokens that a run found cached beyond the first run's share; more invalidates (prefix_cache_reuse)"""
    workload_tolerance: float = Field(default=0.02, ge=0, le=1)
    """Difference to the baseline in requests or tokens a request; more invalidates (workload_mismatch)"""
    busy_memory: Size = 256 * 1024**2
    """Memory of a GPU that others hold during the measurement; more invalidates (gpu_busy), like "256MiB\""""
    throttled: float = Field(default=0.05, ge=0, le=1)
    """Share of the time in which heat or the power supply slows a GPU down; more invalidates (throttled)"""
    power_capped: float = Field(default=0.5, ge=0, le=1)
    """Share of the time in which a GPU is at its power limit; more is noted (throttled)"""


class LogsTable(Table):
    """`[logs]`"""

    cap: Size = 2 * 1024**3
    """Disk space that one log may take before its middle is dropped, like "2GiB\""""


class NotifyTable(Table):
    """`[notify]`: told when the queue pauses itself, an attempt fails, the campaign ends."""

    command: list[Text] = []
    """A program with its arguments, like ["/usr/local/bin/tell"]: it reads one JSON object from standard input"""
    urls: list[Variable] = []
    """Names of environment variables, like ["TEAM_CHANNEL"], that hold Apprise URLs when `isobench run` is called"""


class BackupTable(Table):
    """`[backup]`"""

    to: Text | None = None
    """A folder on another disk or mount: after every attempt the database and its files are copied into it"""


class OverrideTable(Table):
    """`[[model_overrides]]`: another model in place of one that perf_command names, in every arm alike."""

    model: Text
    """The model as perf_command names it"""
    use: Text
    """The model that runs instead"""
    before_vllm: Text | None = None
    """A version like "0.5.3.post1": replace only where the image's vLLM is older"""
    reason: str = ""
    """Why, in a few words"""


class TaskOptions(Table):
    """What a task may say beside what it is."""

    commit: Commit
    """The human commit: 40 hex digits"""
    model: Text | None = None
    """The model; needed only where perf_command names none"""
    patches: dict[AgentName, Text] = {}
    """patches.AGENT = "path of that agent's diff" (or of its prediction.jsonl), relative to the campaign file"""
    images: ImageTemplates = ImageTemplates()
    """images.baseline and images.human for this task alone"""
    server_args: list[str] = []
    """A list of server options for this task"""
    env: Env = {}
    """Environment variables for this task, the same in every arm"""
    repeats: int | None = Field(default=None, ge=1, le=1000)
    """Instead of [campaign] repeats: a whole number from 1 to 1000"""
    mode: Mode | None = None
    """"serving", "throughput", "latency" or "prefix_caching"; needed only for a script with a name of its own"""
    dataset: Text | None = None
    """The data set file on this machine, mounted in place of perf_command's --dataset-path; compared by its sha256"""
    override: bool | None = None
    """true or false: use the model override whatever version the image's vLLM has, or never"""
    hub: Literal["offline", "online"] = "offline"
    """"offline" or "online": whether the measured processes may reach the Hugging Face hub"""


class TaskTable(TaskOptions):
    """One optimisation problem, complete."""

    parent: Commit
    """Its parent, the baseline: 40 hex digits"""
    perf_command: Text
    """One command line: vllm bench serve|throughput|latency …, or python benchmarks/benchmark_serving.py …"""


class InlineTask(TaskOptions):
    """`[[tasks]]`. With `[isobench]`, what a task leaves out is looked up in the checkout."""

    parent: Commit | None = None
    """Its parent, the baseline: 40 hex digits; needed unless [isobench] knows it"""
    perf_command: Text | None = None
    """One command line: vllm bench serve|throughput|latency …, or python benchmarks/benchmark_serving.py …; needed
    unless [isobench] knows it"""


class CampaignFile(Table):
    """The whole file."""

    campaign: CampaignTable
    """[campaign] with at least a name"""
    isobench: IsobenchTable | None = None
    """[isobench] root, agents, commits, mapping"""
    images: ImagesTable = ImagesTable()
    """[images] baseline, human, keep, prune"""
    engine: EngineTable = EngineTable()
    """[engine] kind, host"""
    container: ContainerTable = ContainerTable()
    """[container] shm_size, network, volumes, memory, pids"""
    model: ModelTable = ModelTable()
    """[model] cache, secrets"""
    env: Env = {}
    """[env] NAME = "value", the same for every process of every arm"""
    server: ServerTable = ServerTable()
    """[server] args"""
    measure: MeasureTable = MeasureTable()
    """[measure] trials, warmups"""
    setup: list[SetupTable] = []
    """[[setup]] tables with run, and images or wheels"""
    lanes: list[LaneTable] = []
    """[[lanes]] tables with gpus or cpus; none: one lane without a GPU, on all CPUs"""
    timeouts: TimeoutsTable = TimeoutsTable()
    """[timeouts] of the phases"""
    limits: LimitsTable = LimitsTable()
    """[limits] max_attempts, same_failure, min_window, noise_floor"""
    validity: ValidityTable = ValidityTable()
    """[validity] min_requests, min_warmups, cache_reuse, workload_tolerance, busy_memory, throttled, power_capped:
    thresholds of the flags; validity.md says what each flag means and why its threshold is what it is"""
    logs: LogsTable = LogsTable()
    """[logs] cap"""
    backup: BackupTable = BackupTable()
    """[backup] to"""
    notify: NotifyTable = NotifyTable()
    """[notify] command, urls"""
    model_overrides: list[OverrideTable] = []
    """[[model_overrides]] tables with model and use"""
    tasks: list[InlineTask] = []
    """[[tasks]] tables with commit, parent and perf_command: at least one, or [isobench]"""
