"""Distances between pictures that hardly change if one of them is altered: of an altered copy to its original.

They are those between small blurred pictures of equal brightness and contrast, which noise, compression and a change of
brightness hardly alter. A distance is the smallest over both orientations of a picture, and over small shifts and blurs
of it (a tangent distance, Simard et al. 1993).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dcgan.metrics.collecting import Pictures
from dcgan.metrics.feature_networks import BATCH
from dcgan.metrics.neighbours import Features, nearest

Array = npt.NDArray[np.float64]
_SIDE = 12  # pixels of a small picture
_BLUR = 0.5  # standard deviation of the weights of its pixels, in its pixels
_CANDIDATES = 32  # the nearest without shifts and blurs, in each orientation, among which the nearest are searched


def nearest_faces(
    pictures: Pictures, count: int, training: Features, wanted: int, device: torch.device
) -> tuple[npt.NDArray[np.intp], Array]:
    """Returns numbers and distances (count, wanted) of the training faces nearest to pictures, nearest first.

    They are those of a picture as it is or mirrored, whichever is nearer to any.

    Args:
        training: (M, D), the small pictures of the training faces.
    """
    view = torch.cat([_with_tangents(pictures(numbers).to(device)) for numbers in _batches(count)])
    mirrored = view.unflatten(1, (_SIDE, _SIDE, -1)).flip(2).flatten(1, 3)
    (rows, apart), (of_mirrored, apart_mirrored) = (_search(one, training, wanted) for one in (view, mirrored))
    nearer = apart_mirrored[:, :1] < apart[:, :1]
    return np.where(nearer, of_mirrored, rows), np.where(nearer, apart_mirrored, apart)


def small_pictures(pictures: Pictures, count: int, device: torch.device) -> Features:
    """Returns the small pictures (count, D) of pictures, float32, computed on a device."""
    return torch.cat([small(pictures(numbers).to(device)).cpu() for numbers in _batches(count)]).numpy()


def small(pictures: Tensor, right: float = 0, down: float = 0, blur: float = 1) -> Tensor:
    """Returns pictures (N, H, W, C), of any range of levels, as blurred ones of 12x12 with mean 0 and length 1, (N, D).

    Args:
        right: moves them, in pixels of the pictures, as does `down`.
        blur: factor of the blur's width.
    """
    (height, width), levels = pictures.shape[1:3], pictures.float()
    across, along = (
        _weights(pixels, moved, blur).to(pictures.device) for pixels, moved in ((width, right), (height, down))
    )
    means = torch.einsum("jw,nhwc->nhjc", across, levels)
    means = torch.einsum("ih,nhjc->nijc", along, means).flatten(1)
    return normalize(means - means.mean(dim=1, keepdim=True))


def _weights(pixels: int, moved: float, blur: float) -> Tensor:
    """Returns the weights (_SIDE, pixels) of the pixels along a line, Gaussian around each pixel of a small picture."""
    step = pixels / _SIDE
    centres = (torch.arange(_SIDE) + 0.5) * step - moved
    apart = (torch.arange(pixels) + 0.5 - centres[:, None]) / (step * _BLUR * blur)
    return torch.softmax(-apart.square() / 2, dim=1)


def _with_tangents(pictures: Tensor) -> Tensor:
    """Returns small pictures, and beside them an orthonormal basis of how shifts and blurs change them, (N, D, 4)."""
    pictures = pictures.float()
    one = small(pictures)
    changes = [
        small(pictures, right=1) - small(pictures, right=-1),
        small(pictures, down=1) - small(pictures, down=-1),
        small(pictures, blur=1.2) - one,
    ]
    return torch.cat([one[:, :, None], torch.linalg.qr(torch.stack(changes, dim=2)).Q], dim=2)


def _search(pictures: Tensor, training: Features, wanted: int) -> tuple[npt.NDArray[np.intp], Array]:
    """Returns numbers and distances (N, wanted) of the nearest training faces, given `_with_tangents` (N, D, 4)."""
    one, tangents = pictures[:, :, 0], pictures[:, :, 1:]
    candidates, _ = nearest(one.cpu().numpy(), training, _CANDIDATES, one.device)
    numbers, distances = [], []
    for rows in _batches(len(one)):
        apart = torch.from_numpy(training[candidates[rows]]).to(one.device) - one[rows, None]
        squared = apart.square().sum(dim=2) - (apart @ tangents[rows]).square().sum(dim=2)
        first = squared.clamp(min=0).topk(min(wanted, squared.shape[1]), largest=False)
        numbers.append(np.take_along_axis(candidates[rows], first.indices.cpu().numpy(), axis=1))
        distances.append(first.values.double().sqrt().cpu().numpy())
    return np.concatenate(numbers), np.concatenate(distances)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))
