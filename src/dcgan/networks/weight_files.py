"""Weight files: safetensors with the settings in their metadata, and checkpoints of the PyTorch examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors import torch as safetensors
from torch import nn

from dcgan.networks.dcgan import Discriminator, Generator, Settings
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


def load_example_checkpoint(path: Path, network: Generator | Discriminator) -> None:
    """Loads a checkpoint of the PyTorch DCGAN example (`netG_epoch_24.pth`) into a `conv` network for 64x64 pictures.

    The keys are `main.0.weight`, ..., with or without the prefix `module.` of DataParallel. The file is read with
    `weights_only=True`, so that it cannot run code.

    Raises:
        UserError: the file cannot be read, or its keys or shapes are not those of `network`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: it cannot be loaded into this {type(network).__name__.lower()}: {reason}.") from None
