"""Image references: which registry, which repository, which tag or digest.

The rules are those of github.com/distribution/reference: the part before the first slash is a host only if it has a
dot, a colon or a capital letter in it or is `localhost`; all else lives on Docker Hub, and there one-word names in
`library/`.
"""

from __future__ import annotations

from dataclasses import dataclass

HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"
"""Where Docker Hub's registry answers."""
_FLAT = "isobench-flat"
_ALIASES = ("index.docker.io/", "docker.io/")


@dataclass(frozen=True, slots=True)
class Name:
    """A reference taken apart."""

    registry: str
    """Host with its port as the reference names it; `docker.io` where it names none."""
    path: str
    """Repository in that registry, as its API wants it (`library/python`)."""
    tag: str
    digest: str | None = None

    @property
    def reference(self) -> str:
        """What to ask the registry for: the digest where there is one."""
        return self.digest or self.tag

    @property
    def on_hub(self) -> bool:
        return self.registry == HUB


def repository(ref: str) -> str:
    """The reference without tag and digest, as the engine writes it: `docker.io/library/x:1` -> `x`."""
    name = ref.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    for prefix in _ALIASES:
        name = name.removeprefix(prefix)
    return name.removeprefix("library/")


def tag_of(ref: str) -> str:
    """The tag of a reference; `latest` where it has none."""
    return ref.partition("@")[0].rpartition("/")[2].partition(":")[2] or "latest"


def parse(ref: str) -> Name:
    """Take a reference apart. It is not checked: the campaign file and the engine do that."""
    name = repository(ref)
    host, slash, rest = name.partition("/")
    named = bool(slash) and ("." in host or ":" in host or host == "localhost" or host != host.lower())
    registry, path = (host, rest) if named else (HUB, name if slash else f"library/{name}")
    return Name(registry, path, tag_of(ref), ref.partition("@")[2] or None)


def flat_name(digest: str) -> str:
    """The engine's name for the one-layer image that was made from the image of this digest."""
    return f"{_FLAT}:{digest.partition(':')[2]}"
