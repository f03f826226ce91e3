"""Generators that other programs trained: checkpoints with the layers of the PyTorch DCGAN example.

The settings are found from the shapes. Only tensors are read, so that a file cannot run code.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from dcgan.networks.dcgan import Generator, Settings
from dcgan.system.choices import MOST_NGF, MOST_NZ, Latent
from dcgan.system.errors import UserError

State = Mapping[str, Tensor]
SIDES = {4 + n: 32 << n for n in range(4)}  # image_size by number of convolutions: 4 for 32, 5 for 64, ...
DEEPEST = 4  # dicts in dicts; a file can hold a dict that contains itself
# What wraps the layers of the example: DataParallel and torch.compile, around the network or inside it.
_LAYER = re.compile(r"(?P<around>(?:[^.]+\.)*?)(?P<layer>\d+\.\w+)")


def load(path: Path, key: str | None = None, latent: Latent = "normal") -> Generator:
    """Loads a generator from a checkpoint of another program, onto the CPU, in float32 and in evaluation mode.

    The file holds a state dict, or dicts that hold state dicts, as torch.save or safetensors writes them. The keys are
    `main.0.weight`, ..., or have another name before the number of the layer, as DataParallel and torch.compile do.

    Args:
        key: which state dict to take, if the file holds several: the keys that lead to it, joined by dots.
        latent: distribution of the latents that the generator was trained with, which no checkpoint says.

    Raises:
        UserError: the file cannot be read, holds objects other than tensors, or no generator of this architecture.
    """
    state = _layers(_choose(_read(path), key, path), path)
    settings = _settings(state, latent, path)
    with torch.device("meta"):
        wanted = Generator(settings).state_dict()
    for name in sorted({*wanted, *state}):
        if name not in state and not name.endswith("num_batches_tracked"):  # PyTorch 0.4 and older has no such counts
            raise _other(path, f"missing key {name}")
        if name in state and name not in wanted:
            raise _other(path, f"unexpected key {name}")
        if name in state and state[name].shape != wanted[name].shape:
            shapes = f"{list(state[name].shape)} in the checkpoint, {list(wanted[name].shape)} in the generator"
            raise _other(path, f"size mismatch for {name}: {shapes}")
    generator = Generator(settings)
    generator.load_state_dict({name: _float32(tensor, name, path) for name, tensor in state.items()}, strict=False)
    return generator.eval()


def _read(path: Path) -> Any:
    """Reads the tensors in a file of torch.save or of safetensors."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: there is no such file; give a checkpoint, for example netG.pth.") from None
    safetensors = head[8:] == b"{"
    try:
        if safetensors:
            with safe_open(path, "pt") as tensors:
                ours = "dcgan" in (tensors.metadata() or {})
                state = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        else:
            with warnings.catch_warnings(action="ignore"):  # about the format of files that are damaged
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly any exception, and torch's advice is not for this file
        if type(error).__name__ == "UnpicklingError" and head.startswith((b"PK", b"\x80")):
            raise UserError(
                f"{path}: it holds Python objects, such as a whole module or an argparse.Namespace, which are not read "
                "because unpickling them can run any code; where it was trained, save only the weights with "
                "`torch.save(netG.state_dict(), FILE)`, and give that file."
            ) from None
        raise UserError(
            f"{path}: it is damaged, or not a checkpoint of PyTorch or safetensors ({type(error).__name__}); "
            "give another file."
        ) from None
    if ours:
        raise UserError(f"{path}: this project saved it; use it as it is, for example with `dcgan generate --model`.")
    return state


def _choose(content: Any, key: str | None, path: Path) -> State:
    """Returns the state dict with the name `key`, or the only one."""
    found = dict(_state_dicts(content))
    if not found:
        raise UserError(f"{path}: it holds no state dict of a network; give another file.")
    if key is None and len(found) == 1:
        return next(iter(found.values()))
    names = ", ".join(sorted(filter(None, found)))
    if key is None:
        raise UserError(f"{path}: it holds several state dicts; choose one of them with --key: {names}.")
    if key not in found:
        remedy = f"give one of {names}" if names else "omit --key"
        raise UserError(f"--key: {path} holds no state dict {key}; {remedy}.")
    return found[key]


def _state_dicts(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Yields the state dicts in nested dicts, by the keys that lead to them, joined by dots."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if any(key.endswith("weight") for key in tensors):
        yield name, tensors
    for key, value in content.items():
        yield from _state_dicts(value, f"{name}.{key}" if name else str(key), depth + 1)


def _layers(state: State, path: Path) -> dict[str, Tensor]:
    """Renames the layers to `main.0.weight`, ..., whatever is around them."""
    matches = {name: _LAYER.fullmatch(name) for name in state}
    around = {match["around"] for match in matches.values() if match}
    if len(around) != 1 or None in matches.values():
        odd = next((name for name, match in matches.items() if match is None), next(iter(state)))
        raise _other(path, f"unexpected key {odd}, where all should be like main.0.weight")
    return {f"main.{match['layer']}": state[name] for name, match in matches.items() if match}


def _settings(state: State, latent: Latent, path: Path) -> Settings:
    """Finds the settings of the generator from the shapes of its convolutions."""
    names = [name for name, tensor in state.items() if name.endswith(".weight") and tensor.dim() == 4]
    weights = [state[name].shape for name in sorted(names, key=lambda name: int(name.split(".")[1]))]
    if not weights:
        raise _other(path, "it has no convolutions")
    first, last = weights[0], weights[-1]
    if first[1] in (1, 3) and last[0] == 1:
        raise UserError(f"{path}: it holds a discriminator; give the generator's file, in the PyTorch example netG.")
    if len(weights) not in SIDES:
        raise _other(path, f"it has {len(weights)} convolutions, not {min(SIDES)} to {max(SIDES)}")
    settings = Settings(image_size=SIDES[len(weights)], nc=last[1], nz=first[0], ngf=last[0], latent=latent)
    for name, most in (("nz", MOST_NZ), ("ngf", MOST_NGF)):
        if not 1 <= getattr(settings, name) <= most:
            raise _other(path, f"its {name} is {getattr(settings, name)}, not 1 to {most}")
    if settings.nc not in (1, 3):
        raise _other(path, f"its pictures have {settings.nc} channels, not 1 or 3")
    return settings


def _float32(tensor: Tensor, name: str, path: Path) -> Tensor:
    """Converts half, bfloat16 and double weights; raises UserError if a value is lost."""
    if name.endswith("num_batches_tracked"):
        return tensor
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = f"{tensor.dtype} ({tensor.layout}, {tensor.device})"
        raise UserError(f"{path}: {name} is not a dense floating-point tensor, but {kind}; give another file.")
    converted = tensor.float()
    if not converted.isfinite().all():
        raise UserError(f"{path}: {name} holds NaN, infinity or a number too large for float32; give another file.")
    return converted


def _other(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: it is not a generator with the layers of the PyTorch DCGAN example ({why}); give another file."
    )
