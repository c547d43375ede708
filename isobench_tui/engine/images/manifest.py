"""What a registry's JSON says of an image. Pure: bytes in, models out.

Formats: OCI image specification 1.1 (index, manifest, configuration) and Docker's image manifest version 2, schema 2
with its manifest list. Schema 1 is refused: it tells no sizes, and registries have not taken it for years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from isobench_tui.engine.base import ImageConfig, ImageLayer, ImageMissing, PullFailed

_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker.distribution.manifest"
_INDEXES = (f"{_OCI}.index.v1+json", f"{_DOCKER}.list.v2+json")
_MANIFESTS = (f"{_OCI}.manifest.v1+json", f"{_DOCKER}.v2+json")
_CONFIGS = (f"{_OCI}.config.v1+json", "application/vnd.docker.container.image.v1+json")
ACCEPT = ", ".join((*_MANIFESTS, *_INDEXES))
"""Of a request for a manifest."""
_DIGEST = r"^sha256:[0-9a-f]{64}$"
_TAR = ("tar", "tar+gzip", "tar+zstd", "tar.gzip", "tar.zstd")
"""Ends of the media types of layers that are file systems."""
_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
"""What no variant means (github.com/containerd/platforms)."""


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


M = TypeVar("M", bound=_Json)


class _Platform(_Json):
    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(_Json):
    """A pointer to a blob or manifest."""

    media_type: str
    digest: str = Field(pattern=_DIGEST)
    size: int = Field(ge=0)
    platform: _Platform = _Platform()


class _Index(_Json):
    manifests: tuple[Descriptor, ...]


class Manifest(_Json):
    """One image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class _Head(_Json):
    schema_version: int = 0
    media_type: str = ""
    manifests: object = None


class _RootFs(_Json):
    diff_ids: tuple[str, ...] = Field(default=(), alias="diff_ids")


class _Wants(_Json):
    """`config` of the configuration; its keys begin with capitals, and any may be null."""

    model_config = ConfigDict(alias_generator=lambda name: name.capitalize())

    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str | None = None
    labels: dict[str, str] | None = None
    volumes: dict[str, object] | None = None
    workdir: str | None = Field(default=None, alias="WorkingDir")


class _Configuration(_Json):
    rootfs: _RootFs
    config: _Wants | None = None


@dataclass(frozen=True, slots=True)
class Platform:
    """What the engine runs, in Go's words (`linux`, `amd64`)."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")


def sha256(body: bytes) -> str:
    """The digest of these bytes, `sha256:` first."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def read(what: str, body: bytes, platform: Platform) -> Manifest | Descriptor:
    """The manifest, or of an index the descriptor of the manifest for this platform.

    `what` names it in errors. Raises ImageMissing (not for this platform, schema 1, not an image), PullFailed (no
    manifest at all).
    """
    head = _model(what, _Head, body)
    if head.schema_version == 1:
        raise ImageMissing(f"{what}: a manifest of Docker's schema 1, which is not supported; push the image again")
    if head.media_type in _INDEXES or head.manifests is not None:
        return _choose(what, _model(what, _Index, body).manifests, platform)
    manifest = _model(what, Manifest, body)
    odd = [x.media_type for x in manifest.layers if not x.media_type.endswith(_TAR)]
    if odd or manifest.config.media_type not in _CONFIGS:
        raise ImageMissing(f"{what} is no container image, but {(odd or [manifest.config.media_type])[0]}")
    return manifest


def _choose(what: str, offered: Sequence[Descriptor], platform: Platform) -> Descriptor:
    fits = [x for x in offered if (x.platform.os, x.platform.architecture) == (platform.os, platform.architecture)]
    usual = _VARIANTS.get(platform.architecture, "")
    wanted = platform.variant or usual
    for variant in dict.fromkeys((wanted, usual)):
        for one in fits:
            if (one.platform.variant or usual) == variant:
                return one
    names = sorted({str(x.platform) for x in offered} - {"", "unknown/unknown"})
    raise ImageMissing(f"{what}: no image for {platform}, only for {', '.join(names) or 'no platform'}")


def layers_of(what: str, manifest: Manifest, config: bytes) -> tuple[tuple[ImageLayer, ...], ImageConfig]:
    """Layers, the lowest first, and what the image wants of its containers. Raises PullFailed."""
    read = _model(what, _Configuration, config)
    diff_ids = read.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise PullFailed(f"{what}: {len(manifest.layers)} layers, but its configuration speaks of {len(diff_ids)}")
    layers = tuple(
        ImageLayer(x.digest, x.size, x.media_type, diff_id)
        for x, diff_id in zip(manifest.layers, diff_ids, strict=True)
    )
    wants = read.config or _Wants()
    return layers, ImageConfig(
        env=wants.env or (),
        entrypoint=wants.entrypoint or (),
        cmd=wants.cmd or (),
        workdir=wants.workdir or "",
        user=wants.user or "",
        labels=wants.labels or {},
        volumes=tuple(wants.volumes or ()),
    )


def _model(what: str, model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise PullFailed(f"{what}: the registry's JSON does not make sense: {where}: {first['msg']}") from None
