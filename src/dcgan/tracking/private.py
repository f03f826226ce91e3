"""Removes secrets from addresses that are logged."""

from __future__ import annotations

import re

HIDDEN = "***"
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)\S*@")  # user:password@host
_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s?]*\?)\S+")  # the query of a signed address contains its secret


def hidden(text: str) -> str:
    """The text without the logins and queries of the addresses in it."""
    return _LOGIN.sub(rf"\1{HIDDEN}@", _QUERY.sub(rf"\1{HIDDEN}", text))


def without_login(address: str) -> str:
    """An address with its login replaced, so that it is the same for all users."""
    return re.sub("//[^/?]*@", f"//{HIDDEN}@", address)
