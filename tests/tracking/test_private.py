"""Secrets in command lines, addresses and variables stay where they are."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcgan.tracking import private

SECRETS = st.text(string.ascii_letters + string.digits + "-_.+$%!/@,;&", min_size=8)
NAMES = st.sampled_from(
    "password API_KEY db-password AWS_SECRET_ACCESS_KEY token ACCOUNT_KEY private-key key passphrase ACCESSKEY PGPASS "
    "DCGAN_PASS sig auth.basic DBPWD userpwd oauth basicauth DCGAN_KEY1 sshkey DCGAN_PWD2".split()
)


@given(
    SECRETS,
    NAMES,
    st.sampled_from(["--{} {}", "--{}={}", "{}={}", "{}: {}", "x --{}='{}' y", 'x {}="{}"', '{{"{}": "{}"}}']),
)
def test_what_a_name_announces_is_hidden(secret: str, name: str, form: str) -> None:
    text = form.format(name, secret)
    assert secret not in private.hidden(text) and name in private.hidden(text)


@given(SECRETS)
def test_a_login_in_an_address_is_hidden(secret: str) -> None:
    text = f"cannot reach postgresql://me:{secret}@host:5432/mlflow (refused)"
    assert private.hidden(text) == "cannot reach postgresql://***@host:5432/mlflow (refused)"


@pytest.mark.parametrize(
    "text",
    [
        "dvc exp run -S lr=0.0004 -S loss=hinge --queue",
        "dvc exp run -n author-test -S lr=0.1",
        "Authentication failed: the keys of authors are unknown",
        "python pipeline/train.py",
        "http://127.0.0.1:5000/#/experiments/1",
        "",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert private.hidden(text) == text


@given(SECRETS)
def test_of_the_environment_only_what_is_asked_for_is_told(secret: str) -> None:
    variables = {
        "DCGAN_LOG_INTERVAL": "50",
        "DVC_STUDIO_TOKEN": secret,
        "CELEBA_MIRROR": f"https://user:{secret}@mirror/celeba",
        "HOME": "/home/user",
    }
    found = private.environment(variables, ("DCGAN_", "DVC_", "CELEBA_"))
    assert set(found) == {"DCGAN_LOG_INTERVAL", "DVC_STUDIO_TOKEN", "CELEBA_MIRROR"}
    assert found["DCGAN_LOG_INTERVAL"] == "50" and secret not in str(found)


@given(st.text(min_size=8), NAMES, st.sampled_from(["--{}={}", "{}={}"]))
def test_a_word_that_announces_a_secret_is_hidden_to_its_end(secret: str, name: str, form: str) -> None:
    assert private.command_line(["x", form.format(name, secret), "y"]) == f"x {form.format(name, '***')} y"
    assert private.command_line(["x", f"--{name}", secret, "y"]) == f"x --{name} *** y"


@given(SECRETS)
def test_the_query_of_an_address_is_hidden(secret: str) -> None:
    assert secret not in private.hidden(f"CELEBA_MIRROR is http://host/file?sig={secret}")


def test_a_command_is_one_line_without_secrets() -> None:
    words = ["mlflow", "server", "--password", "hunter22", "--port", "5000"]
    assert private.command_line(words) == "mlflow server --password *** --port 5000"
