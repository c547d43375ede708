"""Command lines: one shell-like string into tokens, tokens into options, options edited and written back.

Nothing is ever run through a shell, so whatever only a shell would understand is refused instead of passed on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

_OPERATORS = {"|": "a pipe", ";": "a second command", "&": "& or &&", "<": "a redirection", ">": "a redirection"}
_ONE = "one command with its options, arguments with such characters in single quotes"
_NUMBER = re.compile(r"-(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|-inf", re.ASCII)
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.ASCII | re.DOTALL)


class CommandError(Exception):
    """A command line that cannot be run as one argv."""

    def __init__(self, what: str, accepted: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.accepted = accepted


def split(command: str) -> list[str]:
    """Tokens as a POSIX shell would make them, a backslash at a line's end continuing it.

    Raises CommandError for operators, substitutions, variables, comments, several lines and open quotes.
    """
    joined = _refuse_shell(command.strip())
    try:
        return shlex.split(joined)
    except ValueError as error:
        raise CommandError(f"{str(error).lower()} in the command", "every quote closed") from error


def _refuse_shell(command: str) -> str:
    """`command` with continued lines joined. Raises CommandError where a shell would do more than split it."""
    kept: list[str] = []
    quote = ""
    i = 0
    while i < len(command):
        char = command[i]
        after = command[i + 1] if i + 1 < len(command) else ""
        if quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\" and after:
            if after != "\n":
                kept.append(char + after)
            i += 2
            continue
        elif char in {"'", '"'}:
            quote = "" if quote else char
        else:
            _refuse(char, after, quoted=bool(quote), starts_word=i == 0 or command[i - 1].isspace())
        kept.append(char)
        i += 1
    return "".join(kept)


def _refuse(char: str, after: str, *, quoted: bool, starts_word: bool) -> None:
    if char == "`" or (char == "$" and after == "("):
        raise CommandError("a command substitution (` or $()", _ONE)
    if char == "$" and (after.isalnum() or after in {"_", "{", "@", "*", "?", "$", "!", "#"}):
        raise CommandError("a shell variable ($), which nothing here expands", "its value in place of it")
    if quoted:
        return
    if char in _OPERATORS:
        raise CommandError(f"the shell operator {char} ({_OPERATORS[char]})", _ONE)
    if char in "()":
        raise CommandError(f"the shell operator {char}", _ONE)
    if char == "\n":
        raise CommandError("a second line", "one command; a backslash at the end of a line continues it")
    if char == "#" and starts_word:
        raise CommandError("a shell comment (#)", _ONE)


def assignments(tokens: list[str]) -> tuple[dict[str, str], list[str]]:
    """Leading `NAME=value` tokens, and the rest."""
    env: dict[str, str] = {}
    for i, token in enumerate(tokens):
        match = _ASSIGNMENT.fullmatch(token)
        if not match:
            return env, tokens[i:]
        env[match[1]] = match[2]
    return env, []


@dataclass(frozen=True, slots=True)
class Option:
    """An option with the values that follow it, spelled as written."""

    name: str
    """Canonical: `--input-len` for `--input_len`, `--input-len=3` and so on; short ones by `SHORT`."""
    tokens: tuple[str, ...]
    values: tuple[str, ...]

    def with_value(self, value: str) -> Option:
        """The same option with one other value, in the spelling that it has (`--opt v` or `--opt=v`)."""
        head, joined, _ = self.tokens[0].partition("=")
        tokens = (f"{head}={value}",) if joined else (head, value)
        return Option(self.name, tokens, (value,))


SHORT = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-q": "--quantization",
    "-n": "--nnodes",
    "-r": "--node-rank",
    "-ac": "--attention-config",
    "-cc": "--compilation-config",
    "-sc": "--speculative-config",
    "-O": "--compilation-config",
}
"""vLLM's one-dash options."""


def canonical(token: str) -> str:
    """`--input_len=5` -> `--input-len`; `--compilation-config.level` -> `--compilation-config`; `-O3` -> as -O."""
    head = token.split("=", 1)[0]
    if head.startswith("--"):
        return "--" + head[2:].split(".", 1)[0].replace("_", "-")
    head = head.split(".", 1)[0]
    return SHORT.get(head) or (SHORT["-O"] if re.fullmatch(r"-O\d", head) else head)


def is_option(token: str) -> bool:
    """Whether argparse would take the token for an option: a dash first, and not a negative number."""
    return len(token) > 1 and token.startswith("-") and not _NUMBER.fullmatch(token)


def options(tokens: Iterable[str]) -> tuple[list[str], list[Option]]:
    """Tokens before the first option, and the options, each with all that follows it up to the next one."""
    loose: list[str] = []
    groups: list[list[str]] = []
    for token in tokens:
        if is_option(token):
            groups.append([token])
        elif groups:
            groups[-1].append(token)
        else:
            loose.append(token)
    return loose, [_option(group) for group in groups]


def _option(group: list[str]) -> Option:
    _, joined, value = group[0].partition("=")
    values = ((value,) if joined else ()) + tuple(group[1:])
    return Option(canonical(group[0]), tuple(group), values)


def tokens(found: Iterable[Option]) -> tuple[str, ...]:
    """The options as argv again."""
    return tuple(token for option in found for token in option.tokens)


def last(found: Iterable[Option], name: str) -> Option | None:
    """The option of that name that counts: argparse lets a later one win."""
    hit = None
    for option in found:
        if option.name == name:
            hit = option
    return hit


def put(found: list[Option], name: str, value: str) -> list[Option]:
    """`found` with `name` set to `value`: where it stands, else at the end; repetitions are dropped."""
    result: list[Option] = []
    done = False
    for option in found:
        if option.name != name:
            result.append(option)
        elif not done:
            result.append(option.with_value(value))
            done = True
    return result if done else [*result, Option(name, (name, value), (value,))]


def flag(found: list[Option], name: str) -> list[Option]:
    """`found` with the value-less option `name` given once."""
    kept = [option for option in found if option.name != name]
    return [*kept, Option(name, (name,), ())]


def drop(found: list[Option], *names: str) -> list[Option]:
    """`found` without the options of those names."""
    return [option for option in found if option.name not in names]
