"""Where registries answer and how they are trusted, as the engine is set up: mirrors, insecure ones, certificates.

The engine's `/info` has all of it but the certificates, which lie in /etc/docker/certs.d (docs.docker.com, "Verify
repository client with certificates").
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isobench_tui.engine.base import PullFailed
from isobench_tui.engine.images.manifest import Platform
from isobench_tui.engine.images.names import HUB, HUB_HOST

CERTIFICATES = Path("/etc/docker/certs.d")
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
}
"""uname's machine -> Go's architecture and variant; others have the same name in both."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Host:
    """One place to ask."""

    registry: str
    """As references and `docker login` name it."""
    url: str
    """`https://host[:port]`, without a slash at its end."""
    insecure: bool = False
    """The engine's settings allow it without valid certificates, and without TLS."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the engine says of registries and of itself."""

    platform: Platform = field(default_factory=Platform)
    mirrors: tuple[str, ...] = ()
    """URLs that are asked for Docker Hub's images before it is."""
    networks: tuple[_Network, ...] = (ipaddress.ip_network("127.0.0.0/8"),)
    """Registries there are insecure."""
    insecure: frozenset[str] = frozenset()
    """Registries that are insecure by name."""

    async def hosts(self, registry: str) -> tuple[Host, ...]:
        """The places that may have an image of this registry, in the order in which the engine asks them."""
        if registry == HUB:
            own = [await self._host(url) for url in self.mirrors]
            return (*own, Host(HUB, f"https://{HUB_HOST}"))
        return (await self._host(f"https://{registry}"),)

    async def _host(self, url: str) -> Host:
        scheme, _, rest = url.rstrip("/").partition("://")
        registry = rest.partition("/")[0]
        plain = scheme == "http"
        return Host(registry, url.rstrip("/"), not plain and await self._is_insecure(registry))

    async def _is_insecure(self, registry: str) -> bool:
        if registry in self.insecure:
            return True
        name = registry.rpartition(":")[0] if not registry.endswith("]") and ":" in registry else registry
        name = name.strip("[]")
        addresses = [name]
        if not _address(name):
            with contextlib.suppress(OSError, UnicodeError):
                found = await asyncio.get_running_loop().getaddrinfo(name, None)
                addresses = [str(entry[4][0]) for entry in found]
        known = [address for address in map(_address, addresses) if address]
        return any(address in network for address in known for network in self.networks)


def setup_of(info: Mapping[str, Any]) -> Setup:
    """Read the engine's `/info`."""
    registries = info.get("RegistryConfig") or {}
    indexes = registries.get("IndexConfigs") or {}
    machine = str(info.get("Architecture") or "")
    architecture, variant = _MACHINES.get(machine, (machine or "amd64", ""))
    return Setup(
        Platform(str(info.get("OSType") or "linux"), architecture, variant),
        tuple(registries.get("Mirrors") or ()),
        tuple(ipaddress.ip_network(text, strict=False) for text in registries.get("InsecureRegistryCIDRs") or ()),
        frozenset(name for name, index in indexes.items() if not index.get("Secure", True)),
    )


def trust(host: Host, certificates: Path = CERTIFICATES) -> ssl.SSLContext | bool:
    """What aiohttp's `ssl` shall be for this place. Raises PullFailed for certificates that cannot be read."""
    folder = certificates / host.registry
    if host.insecure:
        return False
    try:
        if not folder.is_dir():
            return True
        context = ssl.create_default_context()
        for file in sorted(folder.glob("*.crt")):
            context.load_verify_locations(file)
        for file in sorted(folder.glob("*.cert")):
            context.load_cert_chain(file, file.with_suffix(".key"))
    except OSError as error:  # ssl.SSLError is one
        raise PullFailed(f"certificates for {host.registry} in {folder}: {error}") from error
    return context


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
