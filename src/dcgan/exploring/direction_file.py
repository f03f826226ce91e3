"""The file of the directions of a generator: safetensors, with their names and the generator's hash as metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors import torch as safetensors
from torch import Tensor


class Directions(NamedTuple):
    """Unit vectors in latent space."""

    names: list[str]  # of the attributes
    attributes: Tensor  # (A, nz)
    principal: Tensor  # (K, nz)


def save(path: Path, directions: Directions, generator_sha256: str) -> None:
    """Writes the directions of the generator whose file has this hash."""
    metadata = {"dcgan": json.dumps({"names": directions.names, "generator_sha256": generator_sha256})}
    tensors = {"attributes": directions.attributes, "principal": directions.principal}
    path.write_bytes(safetensors.save({name: t.cpu().clone() for name, t in tensors.items()}, metadata))


def load(path: Path, generator_sha256: str) -> Directions | None:
    """Reads the directions; None if there is no such file, or if it is damaged or of another generator."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["dcgan"])
            found = Directions(about["names"], file.get_tensor("attributes"), file.get_tensor("principal"))
    except Exception:  # safetensors raises its own, and others on what is no such file
        return None
    return found if about["generator_sha256"] == generator_sha256 else None


def none(nz: int) -> Tensor:
    """Returns no direction: a tensor (0, nz)."""
    return torch.empty(0, nz)
