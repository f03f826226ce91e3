"""The champion behind MLflow's own scoring server: pictures for latents, for a seed and a count, and never a crash."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from project import Project
from servers import free_port, running

from dcgan import networks, sampling

NZ = 100


@pytest.fixture(scope="module")
def address(reproduced: Project) -> Iterator[str]:
    port = str(free_port())
    command = ["mlflow", "models", "serve", "-m", "models:/dcgan-avatars@champion", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", port]
    # The model brings its own code.
    env = {key: value for key, value in reproduced.env.items() if key != "PYTHONPATH"}
    env |= {"MLFLOW_TRACKING_URI": f"sqlite:///{reproduced.folder / 'mlflow.db'}"}
    with running(command, f"http://127.0.0.1:{port}/ping", Path("/"), env):
        yield f"http://127.0.0.1:{port}"


def post(address: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def pictures(address: str, body: dict[str, Any]) -> np.ndarray:
    status, answer = post(address, json.dumps(body).encode())
    assert status == 200, answer
    return np.array(json.loads(answer)["predictions"])


def test_a_seed_and_a_count_give_the_pictures_that_generate_writes(
    address: str, reproduced: Project, tmp_path: Path
) -> None:
    out = tmp_path / "generated"
    command = ["python", "-m", "dcgan", "generate", "--seed", "7", "--count", "16", "--out", str(out)]
    reproduced.run(*command, check=True)
    expected = np.stack([np.asarray(Image.open(path)) for path in sorted(out.iterdir())])
    found = pictures(address, {"inputs": [[]], "params": {"seed": 7, "count": 16}})
    assert found.shape == (16, 32, 32, 3)
    np.testing.assert_array_equal(found, expected)


def test_latents_give_their_pictures(address: str, reproduced: Project) -> None:
    generator = networks.load_generator(reproduced.folder / "models" / "generator.safetensors")
    latents = torch.randn(3, NZ, generator=torch.Generator().manual_seed(1))
    found = pictures(address, {"inputs": latents.tolist()})
    np.testing.assert_array_equal(found, sampling.generate(generator, latents))


MALFORMED = {
    "not JSON": b"faces, please",
    "nothing": b"",
    "a list": b"[1, 2]",
    "no inputs": b'{"params": {"count": 2}}',
    "neither latents nor a count": b'{"inputs": [[]]}',
    "too short": json.dumps({"inputs": [[0.0] * (NZ - 1)]}).encode(),
    "too many dimensions": json.dumps({"inputs": [[[0.0] * NZ]]}).encode(),
    "one dimension": json.dumps({"inputs": [0.0] * NZ}).encode(),
    "ragged": json.dumps({"inputs": [[0.0] * NZ, [0.0]]}).encode(),
    "words": json.dumps({"inputs": [["a"] * NZ]}).encode(),
    "NaN": json.dumps({"inputs": [[float("nan")] * NZ]}).encode(),
    "infinite": json.dumps({"inputs": [[1e39] * NZ]}).encode(),
    "a million latents of one number": json.dumps({"inputs": [[0]] * 1_000_000}).encode(),
    "half a thousand too many": json.dumps({"inputs": [[0] * NZ] * 1500}).encode(),
    "a million pictures": b'{"inputs": [[]], "params": {"count": 1000000}}',
    "less than no pictures": b'{"inputs": [[]], "params": {"count": -1}}',
    "a count that is a word": b'{"inputs": [[]], "params": {"count": "many"}}',
    "a seed that is none": b'{"inputs": [[]], "params": {"count": 1, "seed": 1e400}}',
    "both": json.dumps({"inputs": [[0.0] * NZ], "params": {"count": 2}}).encode(),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_is_refused_and_the_server_lives(address: str, what: str) -> None:
    status, answer = post(address, MALFORMED[what])
    assert 400 <= status < 500, (status, answer[:300])
    assert len(pictures(address, {"inputs": [[]], "params": {"count": 1}})) == 1


def test_a_million_latents_are_refused_before_they_are_parsed(address: str) -> None:
    row = b"[" + b",".join([b"0"] * NZ) + b"]"
    status, answer = post(address, b'{"inputs": [' + b",".join([row] * 1_000_000) + b"]}")
    assert status == 413 and b"1024 latents at a time" in answer
    assert len(pictures(address, {"inputs": [[]], "params": {"count": 1}})) == 1


def test_the_most_latents_are_not_too_many_bytes(address: str) -> None:
    latents = np.random.default_rng(1).normal(size=(1024, NZ))
    assert pictures(address, {"inputs": latents.tolist()}).shape == (1024, 32, 32, 3)


def test_another_type_of_content_is_refused(address: str) -> None:
    assert post(address, b"0,1,2", "text/plain")[0] == 415
