"""Who we are to a registry: the docker command line's logins, and the tokens that registries give for them.

Logins are read anew for each question, because the SDK would keep them for days and a `docker login` in between must
count. Challenges and tokens: RFC 7235 and the token authentication of the CNCF distribution (spec/auth).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isobench_tui.engine.base import PullFailed
from isobench_tui.engine.images.names import HUB

_TOKEN = re.compile(r'([\w-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+)|([A-Za-z][\w-]*)')
"""A parameter and its value, or the name of a scheme."""


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """A name with its password, or an identity token that is exchanged for access tokens. Never printed."""

    user: str = ""
    password: str = ""
    identity: str = ""

    @property
    def basic(self) -> str:
        """The Authorization header of name and password (RFC 7617, in UTF-8)."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a registry wants to be asked: one scheme of its WWW-Authenticate header."""

    scheme: str
    """`bearer` or `basic`, in lower case."""
    parameters: Mapping[str, str]


def challenges(header: str) -> list[Challenge]:
    """Take a WWW-Authenticate header apart; what is no challenge is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for key, value, scheme in _TOKEN.findall(header):
        if scheme:
            found.append((scheme.lower(), {}))
        elif found:
            quoted = value.startswith('"')
            found[-1][1][key.lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def login(registry: str) -> Login | None:
    """The docker command line's login for a registry (`auths`, `credHelpers`, `credsStore` of its config.json).

    Blocks: credential helpers are programs. Raises PullFailed where one of them fails.
    """
    found = entry(registry)
    if not found:
        return None
    values = {key.lower(): str(value) for key, value in found.items() if value}
    return Login(values.get("username", ""), values.get("password", ""), values.get("identitytoken", ""))


def engine_header(registry: str) -> str | None:
    """The same login as the engine wants it in X-Registry-Auth. Blocks; raises PullFailed."""
    from docker import auth

    found = entry(registry)
    return auth.encode_header(found).decode() if found else None


def entry(registry: str) -> dict[str, Any] | None:
    """The login as the SDK writes it (keys as in config.json, or in the helpers' protocol). See `login`."""
    from docker import auth
    from docker.errors import DockerException

    key = "" if registry == HUB else registry
    try:
        found: dict[str, Any] | None = auth.resolve_authconfig(auth.load_config(), key)
    except (DockerException, ValueError) as error:  # a helper that fails; an `auth` that is no base64
        raise PullFailed(f"credentials for {registry}: {error}") from error
    return found
