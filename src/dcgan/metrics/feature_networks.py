"""The networks whose features are compared, always in float32.

`inception` is pytorch-fid's InceptionV3. Only its distance, with its published weights, may be called FID.
`efficientnet_lite0_dithered` is EfficientNet-Lite0 with a little noise on the pictures, so that it sees less of what
nobody sees.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from unittest import mock

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dcgan.metrics import dithering
from dcgan.metrics.names import FID, FRECHET_DISTANCE
from dcgan.metrics.weights import SHA256
from dcgan.system.choices import FidNetwork
from dcgan.system.errors import UserError
from dcgan.system.files import sha256

BATCH = 64  # pictures per batch
_DIMENSIONS = {"inception": 2048, "efficientnet_lite0": 1280, "efficientnet_lite0_dithered": 1280}
_EFFICIENTNET_SIDE = 128  # pixels; at 224 the network hardly reacts to blur, and is three times as slow


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that maps pictures to features, and the hash of its weights."""

    name: FidNetwork
    weights_sha256: str
    module: nn.Module  # maps (N, 3, H, W) in [0, 1] to (N, D)
    dimensions: int  # D
    graph: nn.Module | None = None  # `module`, compiled for batches of BATCH pictures

    @property
    def is_fid(self) -> bool:
        """Whether this is the network, with the weights, that FID and KID are defined by."""
        return self.name == "inception" and self.weights_sha256 == SHA256["inception"]

    @property
    def distance_name(self) -> str:
        """The name in metrics.json of the Frechet distance between features of this network."""
        return FID if self.is_fid else FRECHET_DISTANCE

    @property
    def dithering_levels(self) -> int:
        """The largest noise on the pictures, in levels; 0: none."""
        return dithering.LEVELS if self.name == "efficientnet_lite0_dithered" else 0

    @property
    def arithmetic(self) -> str:
        """The arithmetic that the features depend on."""
        return "fp32" if self.graph is None else "fp32, compiled"

    @torch.inference_mode()
    def features(self, pictures: Tensor, first: int = 0) -> Tensor:
        """Returns the features (N, D), float32, of pictures, uint8 (N, H, W, C).

        Grey pictures are repeated in three channels.

        Args:
            first: number of the first picture in its set, which dithering depends on.
        """
        device = next(self.module.parameters()).device
        # The graph takes only batches of BATCH pictures, since each further size would have to be compiled.
        module = self.module if self.graph is None or len(pictures) != BATCH else self.graph
        levels = pictures.to(device).permute(0, 3, 1, 2).float()
        if self.dithering_levels:
            levels += dithering.noise(slice(first, first + len(levels)), *levels.shape[1:]).to(device)
        features: Tensor = module(levels.div_(255).expand(-1, 3, -1, -1))
        return features


class _InceptionFeatures(nn.Module):
    """pytorch-fid's network, which resizes bilinearly to 299x299 without antialiasing, scales to [-1, 1] and pools."""

    def __init__(self, weights: Path) -> None:
        from pytorch_fid import inception  # here, since it imports torchvision, which takes seconds

        def read(url: str, progress: bool = True) -> dict[str, Tensor]:
            state: dict[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
            return state

        super().__init__()
        block = inception.InceptionV3.BLOCK_INDEX_BY_DIM[_DIMENSIONS["inception"]]
        # pytorch-fid has no argument for the file, so its download is replaced by a safe read (weights_only).
        with mock.patch.object(inception, "load_state_dict_from_url", read):
            self.network = inception.InceptionV3([block])

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network(pictures)[0]
        return features.flatten(1)


class _EfficientNetFeatures(nn.Module):
    """EfficientNet-Lite0, which resizes bilinearly to 128x128, scales to [-1, 1] and pools."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=_EFFICIENTNET_SIDE)
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, pictures: Tensor) -> Tensor:
        resized = nn.functional.interpolate(pictures, (_EFFICIENTNET_SIDE,) * 2, mode="bilinear", align_corners=False)
        features: Tensor = self.network.extract_features(resized * 2 - 1)
        return features.mean(dim=(2, 3))


# Attribute names of convolutions and of the BatchNorms that follow them, in the modules of both networks.
_FOLLOWS = {
    "conv": "bn", "_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2",
    "_conv_head": "_bn1",
}  # fmt: skip


def fold_batch_norm(network: nn.Module) -> None:
    """Merges each BatchNorm into the convolution before it: the function is the same, with less memory traffic."""
    for module in list(network.modules()):
        for convolution, norm in _FOLLOWS.items():
            if hasattr(module, convolution) and isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
                setattr(module, norm, nn.Identity())


def load(name: FidNetwork, weights: Path, device: torch.device, compiled: bool = False) -> FeatureNetwork:
    """Loads a feature network onto `device`.

    Args:
        weights: file of the weights; the caller checks whether it is the published one (`weights.verify`).
        compiled: for the CPU: also compile the network with torch.compile, which needs a C++ compiler, takes a minute,
            and rounds differently.

    Raises:
        UserError: the file holds no weights of this network, or there is no C++ compiler.
    """
    if compiled and not any(shutil.which(c) for c in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        raise UserError("fid_compile: no C++ compiler was found; install g++, or set fid_compile to false.")
    try:
        module: nn.Module = (_InceptionFeatures if name == "inception" else _EfficientNetFeatures)(weights)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch.load and load_state_dict raise many exceptions on a wrong file
        raise UserError(
            f"{weights}: it holds no weights of {name} ({type(error).__name__}); give another file."
        ) from None
    module.eval().requires_grad_(False)
    fold_batch_norm(module.double())  # in float64, to round only once, at the end
    module.float().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    graph = (
        cast(nn.Module, torch.compile(module, options={"freezing": True, "deterministic": True})) if compiled else None
    )
    return FeatureNetwork(name, sha256(weights), module, _DIMENSIONS[name], graph)
