"""The generator for `torch.hub.load(CLONE, "generator", source="local")`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

dependencies = ["torch", "numpy", "safetensors"]


def generator(path: str = "") -> torch.nn.Module:
    """The generator of this clone's run: from latents (N, nz) to pictures (N, nc, H, W) in [-1, 1].

    Args:
        path: a generator.safetensors file; by default models/generator.safetensors of this clone.

    Raises:
        FileNotFoundError: there is no such file.
    """
    root = Path(__file__).resolve().parent
    file = Path(path) if path else root / "models" / "generator.safetensors"
    if not file.is_file():
        remedy = "give the path of a generator.safetensors file" if path else "get it with `dvc pull` or `make repro`"
        raise FileNotFoundError(f"{file}: there is no such file; {remedy}.")
    sys.path.insert(0, str(root / "src"))
    try:
        from dcgan import networks
    finally:
        sys.path.remove(str(root / "src"))
    return networks.load_generator(file).requires_grad_(False)
