"""Secrets in addresses, commands and variables stay where they are."""

from __future__ import annotations

import json
import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan.tracking import private
from dcgan.tracking.machine import machine

SECRETS = st.text(string.ascii_letters + string.digits + "-_.+$%!/@,;&", min_size=8)


@given(SECRETS)
def test_a_login_in_an_address_is_hidden(secret: str) -> None:
    text = f"cannot reach postgresql://me:{secret}@host:5432/mlflow (refused)"
    assert private.hidden(text) == "cannot reach postgresql://***@host:5432/mlflow (refused)"


@given(SECRETS)
def test_the_query_of_an_address_is_hidden(secret: str) -> None:
    assert secret not in private.hidden(f"CELEBA_MIRROR is http://host/file?sig={secret}")


@pytest.mark.parametrize(
    "text",
    [
        "dvc exp run -S lr=0.0004 -S loss=hinge --queue",
        "Authentication failed: the keys of authors are unknown",
        "http://127.0.0.1:5000/#/experiments/1",
        "",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert private.hidden(text) == text


def test_of_the_environment_only_what_is_listed_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter22"
    monkeypatch.setenv("DCGAN_LOG_INTERVAL", "50")
    monkeypatch.setenv("CELEBA_MIRROR", f"https://user:{secret}@mirror/celeba")
    for name in ("DVC_STUDIO_TOKEN", "DCGAN_PASSWORD", "OMP_SECRET", "MLFLOW_TRACKING_PASSWORD", "HOME"):
        monkeypatch.setenv(name, secret)
    logged = machine()
    environment = json.loads(logged["environment"])
    assert environment["DCGAN_LOG_INTERVAL"] == "50" and environment["CELEBA_MIRROR"] == "https://***@mirror/celeba"
    assert "HOME" not in environment and secret not in str(logged)


def test_the_command_is_logged_without_logins() -> None:
    code = "from dcgan.tracking.machine import machine; print(machine()['command'])"
    command = [sys.executable, "-c", code, "--mirror", "https://me:hunter22@host/celeba"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--mirror https://***@host/celeba" in said and "hunter22" not in said
