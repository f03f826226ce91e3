"""Takes secrets out of what is told to others: command lines, addresses, environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

HIDDEN = "***"
# What makes a name that of a secret: a word in it, or one of its parts between - _ and .
_WORD = r"password|passwd|passphrase|secret|token|apikey|accesskey|credential"
_PART = r"(?:[^\W_]*(?:pass|pwd|auth|key)|sig|signature)\d*"
_SECRET = rf"[\w.-]*(?:{_WORD})[\w.-]*|(?:[\w.-]*[_.-])?{_PART}(?:[_.-][\w.-]*)?"
_NAME = re.compile(rf"-*(?:{_SECRET})", re.IGNORECASE)
_VALUE = r"(?!\s)(\"[^\"]*\"|'[^']*'|\S+)"
_NAMED = re.compile(rf"(?i)(?<![\w.-])(-*(?:{_SECRET})[\"']?\s*[=:]\s*|--?(?:{_SECRET})\s+){_VALUE}")
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)\S*@")  # user:password@host
_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s?]*\?)\S+")  # a signed address has its secret there


def hidden(text: str) -> str:
    """The text without logins and queries of addresses, and without what names like token or password announce."""
    return _NAMED.sub(rf"\1{HIDDEN}", _LOGIN.sub(rf"\1{HIDDEN}@", _QUERY.sub(rf"\1{HIDDEN}", text)))


def without_login(address: str) -> str:
    """An address, whoever logs in."""
    return re.sub("//[^/?]*@", f"//{HIDDEN}@", address)


def command_line(words: Iterable[str]) -> str:
    """A command as one line, without secrets; an option like --password hides the word after it too."""
    told: list[str] = []
    announced = False
    for word in words:
        name, equals, _ = word.partition("=")
        secret = _NAME.fullmatch(name) is not None
        if announced:
            told.append(HIDDEN)
        else:
            told.append(f"{name}={HIDDEN}" if secret and equals else hidden(word))
        announced = secret and not equals and not announced and word.startswith("-")
    return " ".join(told)


def environment(variables: Mapping[str, str], prefixes: tuple[str, ...]) -> dict[str, str]:
    """Those variables whose names begin so, without those that hold a secret by their name or in an address."""
    wanted = {name: value for name, value in sorted(variables.items()) if name.startswith(prefixes)}
    return {name: HIDDEN if _NAME.fullmatch(name) else hidden(value) for name, value in wanted.items()}
