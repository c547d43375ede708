"""Which models a workload needs, by name: repositories of the hub, and folders."""

from __future__ import annotations

from dataclasses import dataclass

from isobench_tui.campaign.argv import Option, last, options
from isobench_tui.campaign.files import exists
from isobench_tui.campaign.models import MODEL, Settings, Workload
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.settings import on_host

WEIGHTS = (".safetensors", ".bin", ".pt")
"""What vLLM's loader takes, in its order of preference: the first of them that a repository has is loaded, alone."""

_LOAD_FORMATS = {"dummy": (), "npcache": (".bin",), "pt": (".pt",), "safetensors": (".safetensors",)}
"""`--load-format` -> the weights that it reads; all others as WEIGHTS."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository of the hub that the measured processes load."""

    model: str
    revision: str = "main"
    weights: tuple[str, ...] = WEIGHTS
    """The formats of weights to look for, in this order; empty: none, the tokenizer or the configuration alone."""

    @property
    def key(self) -> str:
        """How the store names it."""
        return self.model if self.revision == "main" else f"{self.model}@{self.revision}"


def is_folder(name: str) -> bool:
    """Whether vLLM would take a model's name for a place, and not for a repository."""
    return name.startswith(("/", "./", "../", "~")) or "://" in name


def models(workload: Workload) -> tuple[str, ...]:
    """The models that may run. Both sides of an override that the image's vLLM decides: its version is known only in
    setup, and then nothing is fetched any more; the task's `override = true|false` leaves one."""
    override = workload.override
    if override is None:
        return (workload.model,)
    if override.before_vllm and override.decided is None:
        return (workload.model, override.use)
    return (override.use,)


def needs(workload: Workload) -> tuple[Repo, ...]:
    """Every repository that the workload loads, each once: models, another tokenizer, a draft model."""
    server, client = options(workload.server)[1], options(workload.client)[1]
    engine = server or client
    weights = _LOAD_FORMATS.get(_value(engine, "--load-format"), WEIGHTS)
    revision = _value(engine, "--revision") or "main"
    found = [Repo(model, revision, weights) for model in models(workload)]
    draft = _value(engine, "--speculative-model")
    if draft and not draft.startswith("["):  # "[ngram]" is a method
        found.append(Repo(draft, _value(engine, "--speculative-model-revision") or "main", weights))
    for given in (server, client):
        tokenizer = _value(given, "--tokenizer")
        if tokenizer and tokenizer != MODEL:
            found.append(Repo(tokenizer, _value(given, "--tokenizer-revision") or "main", ()))
    kept: dict[str, Repo] = {}
    for repo in found:
        if not is_folder(repo.model):
            kept.setdefault(repo.key, repo)
    return tuple(kept.values())


def folders(workload: Workload) -> tuple[str, ...]:
    """Models that are named by an absolute path."""
    return tuple(model for model in models(workload) if model.startswith("/"))


def check_folders(workload: Workload, settings: Settings, where: str, notes: Notes) -> None:
    """Say where a model's folder is expected, as far as this machine can tell."""
    for model in folders(workload):
        places = on_host(model, settings)
        if not places:
            notes.info(where, f"the model {model} is in no mounted volume, so it must be in the image")
        elif not any(exists(place) for place in places):
            notes.warn(where, f"the model {model} would be {places[0]}, which does not exist")


def _value(given: list[Option], name: str) -> str:
    option = last(given, name)
    return option.values[0] if option and option.values else ""
