"""Pruning an engine: what `docker system prune -af` takes, less what a campaign still needs. It blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from isobench_tui.engine.images.names import flat_name, repository, tag_of

if TYPE_CHECKING:
    from docker import APIClient


def prune(client: APIClient, label: str, spare: frozenset[str]) -> list[str]:
    """Remove stopped containers without the label, images that no container uses, and the build cache.

    `spare` are references of images that stay. Volumes are never touched. Returns what went; what the engine refuses
    to remove stays.
    """
    import docker.errors

    gone: list[str] = []
    with contextlib.suppress(docker.errors.APIError):
        prune_containers: Callable[..., Mapping[str, Any]] = client.prune_containers
        done = prune_containers(filters={"label!": [label]})
        gone += [f"container {key[:12]}" for key in done.get("ContainersDeleted") or ()]
    used = {item["ImageID"] for item in client.containers(all=True)}
    kept = {f"{repository(ref)}:{tag_of(ref)}" for ref in spare} | {_by_digest(ref) for ref in spare if "@" in ref}
    kept |= {flat_name(ref.partition("@")[2]) for ref in spare if "@" in ref}
    for image in client.images():
        names = [name for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())) if "<none>" not in name]
        if image["Id"] in used or kept & set(names):
            continue
        removed = [name for name in names or [image["Id"]] if _removed(client.remove_image, name)]
        gone += [f"image {removed[0]}"] if removed else []
    with contextlib.suppress(docker.errors.APIError):
        built: Mapping[str, Any] = client.prune_builds(all=True)
        gone += ["build cache"] if built.get("SpaceReclaimed") else []
    return gone


def _by_digest(ref: str) -> str:
    return f"{repository(ref)}@{ref.partition('@')[2]}"


def _removed(remove: Callable[..., object], name: str) -> bool:
    import docker.errors

    try:
        remove(name, force=False, noprune=False)
    except docker.errors.APIError:
        return False
    return True
