"""Takes secrets out of what is told to others: command lines, addresses, environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"
_SECRET = r"(?:[\w.-]*(?:password|passwd|pwd|secret|token|apikey|credential|auth)[\w.-]*|[\w.-]*[_.-]key)"
_NAME = re.compile(_SECRET, re.IGNORECASE)
_NAMED = re.compile(rf"(?i)\b({_SECRET})([\"']?\s*[=:]\s*|\s+)(?!\s)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)")
_ADDRESS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)\S*@")  # user:password@host


def hidden(text: str) -> str:
    """The text without passwords in addresses, and without values that a name like token or password announces."""
    return _NAMED.sub(rf"\1\2{HIDDEN}", _ADDRESS.sub(rf"\1{HIDDEN}@", text))


def command_line(words: Iterable[str]) -> str:
    """A command as one line, without secrets; an option like --password hides the word after it too."""
    return hidden(" ".join(words))


def environment(variables: Mapping[str, str], prefixes: tuple[str, ...]) -> dict[str, str]:
    """Those variables whose names begin so, without those that hold a secret by their name or in an address."""
    wanted = {name: value for name, value in sorted(variables.items()) if name.startswith(prefixes)}
    return {name: HIDDEN if _NAME.fullmatch(name) else hidden(value) for name, value in wanted.items()}
