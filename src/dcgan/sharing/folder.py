"""Writes the folder that is shared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import torch as safetensors

from dcgan import networks, sampling
from dcgan.data import images
from dcgan.sharing import programs
from dcgan.sharing.model_card import About, render
from dcgan.system.errors import UserError
from dcgan.system.files import atomic

COUNT = 64  # latents in the folder
_COLUMNS = 8
_PARAMS = "# All parameters of this generator: as params.yaml of the project that trained it, they make it again.\n"


def check_new(folder: Path) -> Path:
    """Returns the folder's absolute path.

    Raises:
        UserError: it already exists and is not empty, or its path leads through a file.
    """
    folder = folder.absolute()
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{folder}: {above} is not a folder; give another path.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: it already exists and is not an empty folder; give a new or empty one.")
    return folder


def write(
    folder: Path,
    model: Path,
    seed: int,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    rebuild: Sequence[str],
    commit: str,
) -> float:
    """Writes the folder, complete or not at all.

    Args:
        folder: a new or empty folder.
        model: the generator's file.
        seed: seed of the latents.
        params: all parameters of the generator; empty if they are not known.
        metrics: contents of its metrics.json; empty if it was not measured.
        data: the data card; empty if it is not known.
        rebuild: the commands that train it again in a clone of the project.
        commit: commit of the project; empty if it is not known.

    Returns:
        The largest difference between ONNX Runtime's pictures and PyTorch's, in a range of [-1, 1].

    Raises:
        UserError: the folder exists and is not empty, or the file holds no generator.
    """
    folder = check_new(folder)
    generator = networks.load_generator(model)
    latents = sampling.numbered_latents(generator.settings, seed, slice(0, COUNT))
    with atomic(folder) as new:
        new.mkdir()
        shutil.copyfile(model, new / "generator.safetensors")
        (new / "latents.safetensors").write_bytes(safetensors.save({programs.LATENTS: latents}))
        np.save(new / "latents.npy", latents.numpy())
        images.save_png(new / "samples.png", images.grid(sampling.generate(generator, latents), _COLUMNS))
        difference = programs.save_onnx(new / "generator.onnx", generator, latents)
        programs.save_pt2(new / "generator.pt2", generator)
        if params:
            text = yaml.safe_dump(dict(params), sort_keys=False)
            (new / "params.yaml").write_text(_PARAMS + text)
        if metrics:
            (new / "metrics.json").write_text(json.dumps(dict(metrics), indent=2) + "\n")
        version = torch.__version__.partition("+")[0]
        about = About(generator.settings, seed, COUNT, params, metrics, data, rebuild, commit, version, difference)
        (new / "README.md").write_text(render(about))
    return difference
