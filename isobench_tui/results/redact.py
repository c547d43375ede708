"""Secrets out of text that is shown, exported or stored: values that are known, and shapes that tokens have.

Against accidents: a program that prints its environment, a traceback with a request's headers. Code that wants to
leak a token can write it backwards; what it may read at all is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "[redacted]"
MIN_KNOWN = 8
"""A shorter value is no secret, and would be found in the midst of words."""

_B = r"(?<![A-Za-z0-9_])"
_SHAPES: tuple[tuple[str, str], ...] = (
    # what a text must hold in lower case before the expression is tried, and the expression; group 1 stays
    ("hf_", rf"{_B}(hf_)[A-Za-z0-9]{{20,}}"),  # Hugging Face
    ("api_org_", rf"{_B}(api_org_)[A-Za-z0-9]{{20,}}"),
    ("sk-", rf"{_B}(sk-)(?=[A-Za-z_-]{{0,80}}[0-9])[A-Za-z0-9_-]{{16,}}"),  # OpenAI, Anthropic, OpenRouter
    ("gh", rf"{_B}(gh[pousr]_)[A-Za-z0-9]{{20,}}"),  # GitHub
    ("github_pat_", rf"{_B}(github_pat_)[A-Za-z0-9_]{{20,}}"),
    ("glpat-", rf"{_B}(glpat-)[A-Za-z0-9_-]{{16,}}"),  # GitLab
    ("akia", rf"{_B}(AKIA)[0-9A-Z]{{16}}"),  # AWS
    ("asia", rf"{_B}(ASIA)[0-9A-Z]{{16}}"),
    ("nvapi-", rf"{_B}(nvapi-)[A-Za-z0-9_-]{{20,}}"),  # NVIDIA
    ("xox", rf"{_B}(xox[abeprs]-)[A-Za-z0-9-]{{10,}}"),  # Slack
    ("eyj", rf"{_B}(eyJ)[A-Za-z0-9_-]{{10,512}}\.[A-Za-z0-9_-]{{10,}}(?:\.[A-Za-z0-9_-]*)?"),  # JSON web tokens
    ("earer", r"(\b[Bb](?:earer|EARER)[ \t]{1,8})[A-Za-z0-9._~+/=-]{8,}"),  # RFC 6750
    ("…", rf"{_B}(hf_|sk-|gh[pousr]_|github_pat_|glpat-|AKIA|nvapi-)[A-Za-z0-9_-]+(?=…)"),  # cut
    ("://", r"(://[^\s/:@]{0,256}:)[^\s/@]{1,256}(?=@)"),  # a password in a URL
    (
        "",
        r"(?i)((?:api_?key|access_?token|auth_?token|hf_token|hub_token|secret_?(?:access_?)?key|client_?secret"
        r"|passw(?:or)?d)['\"]?[ \t]{0,4}[=:][ \t]{0,4}['\"]?)"
        r"(?!\[redacted\]|[A-Za-z]+[_-]\[redacted\]|Bearer\b|none\b|null\b|true\b|false\b|\*)[^\s'\",;)\]}]{6,}",
    ),
)
_NAMES = ("key", "token", "secret", "passw")
_COMPILED = tuple((mark, re.compile(shape)) for mark, shape in _SHAPES)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """`text` with every known value, and all that has the shape of a token, replaced by `[redacted]`.

    A token's prefix stays, so that one sees what it was. Give it whole lines, cleaned of control sequences: half a
    token has no shape, unless an ellipsis says that it was cut there.
    """
    for value in known:
        if len(value) >= MIN_KNOWN and value in text:
            text = text.replace(value, MASK)
        text = _without_cut(text, value)
    low = text.lower()
    for mark, shape in _COMPILED:
        if mark in low if mark else any(name in low for name in _NAMES):
            text = shape.sub(rf"\g<1>{MASK}", text)
    return text


def _without_cut(text: str, value: str) -> str:
    """`text` without the beginning of a value at which it was cut with an ellipsis."""
    if text.endswith("…"):
        for length in range(len(value) - 1, MIN_KNOWN - 1, -1):
            if text.endswith(value[:length] + "…"):
                return text[: -length - 1] + MASK + "…"
    return text
