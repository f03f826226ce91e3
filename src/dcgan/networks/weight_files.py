"""Weight files: safetensors with the settings in their metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors import torch as safetensors
from torch import nn

from dcgan.networks.dcgan import Generator, Settings
from dcgan.system.errors import UserError
from dcgan.system.files import atomic
from dcgan.system.metadata import read_metadata


def save(path: Path, network: nn.Module, settings: Settings, more: Mapping[str, Any]) -> None:
    """Writes the weights as safetensors, with the settings and `more` in the metadata.

    The metadata is one JSON string, because safetensors writes several keys in no fixed order.
    """
    metadata = {"dcgan": json.dumps({"settings": asdict(settings), **more}, sort_keys=True)}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic(path) as temporary:
        temporary.write_bytes(safetensors.save(state, metadata))  # `save_file` has errors of its own for a full disk


def load_generator(path: Path) -> Generator:
    """Loads a generator from a file that `save` wrote, onto the CPU and in evaluation mode.

    Raises:
        UserError: the file holds no generator, or is damaged.
    """
    generator = Generator(Settings(**read_metadata(path)["settings"]))
    try:
        with safe_open(path, "pt") as file:
            generator.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:
        raise UserError(
            f"{path}: it cannot be read as a generator ({type(error).__name__}); give another file."
        ) from None
    return generator.eval()
