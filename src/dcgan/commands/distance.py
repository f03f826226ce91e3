"""`dcgan distance`: the Frechet distance of two folders of pictures or of kept statistics, as pytorch-fid's command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dcgan.commands.common import add_command, project_root
from dcgan.system.errors import UserError
from dcgan.system.project_files import DOWNLOADS

if TYPE_CHECKING:
    from dcgan.metrics.feature_networks import FeatureNetwork
    from dcgan.metrics.folders import Folder
    from dcgan.metrics.frechet import Statistics
    from dcgan.metrics.kept import About

_MORE = """Statistics are kept as pytorch-fid keeps them, and either program reads the other's:

  dcgan distance --save-stats real real.npz
  dcgan distance real.npz generated

real.json beside it holds the network, the hash of its weights, the number of pictures, their size and
--crop. Without it, as beside pytorch-fid's own files, the network is not known, and the result is not
called FID."""


class _Side(NamedTuple):
    """One of the two sides: what it was given as, its statistics, and what is known of them."""

    path: Path
    statistics: Statistics
    about: About | None


def add(commands: Any) -> None:
    """Adds the command."""
    distance = add_command(
        commands,
        "distance",
        _distance,
        "print the Frechet distance of two folders of pictures: FID, unless another network or other weights are given",
        "dcgan distance real generated",
        _MORE,
    )
    distance.add_argument(
        "paths",
        type=Path,
        nargs=2,
        metavar="PATH",
        help="folders of PNG, JPEG, ... files (all pictures of a folder have one size), or .npz files",
    )
    distance.add_argument(
        "--save-stats",
        action="store_true",
        help="keep the statistics of the folder given first in the .npz file given second",
    )
    distance.add_argument("--recursive", action="store_true", help="also read the pictures in subfolders")
    distance.add_argument("--crop", metavar="TEXT", help="how the pictures were cropped, to be kept with --save-stats")
    distance.add_argument(
        "--network",
        choices=("inception", "efficientnet_lite0_dithered", "efficientnet_lite0"),
        default="inception",
        help="feature network; default: inception",
    )
    distance.add_argument(
        "--weights", type=Path, metavar="FILE", help="file of other weights; the result is then not FID"
    )
    distance.add_argument(
        "--compile", action="store_true", help="compile the network, on a CPU only; faster for many pictures"
    )


def _distance(options: argparse.Namespace) -> None:
    from dcgan.metrics import folders, frechet, kept
    from dcgan.metrics.names import FRECHET_DISTANCE

    if options.crop and not options.save_stats:
        raise UserError("--crop: it is kept with statistics; add --save-stats, or omit it.")
    if options.save_stats:
        _save(options)
        return
    known = {path: kept.read(path) for path in options.paths if path.suffix == kept.SUFFIX}
    opened = {path: folders.open_folder(path, options.recursive) for path in options.paths if path not in known}
    network = _network(options) if opened else None
    sides = [
        _Side(path, *(_measured(network, path, opened[path]) if network and path in opened else known[path]))
        for path in options.paths
    ]
    _check_alike(*sides)
    names = {side.about.distance_name if side.about else FRECHET_DISTANCE for side in sides}
    value = frechet.frechet_distance(*(side.statistics for side in sides))
    print(f"{names.pop() if len(names) == 1 else FRECHET_DISTANCE}: {value:.10g}")
    _describe(sides)


def _save(options: argparse.Namespace) -> None:
    from dcgan.metrics import folders, kept

    folder, out = options.paths
    kept.check_new(out)
    opened = folders.open_folder(folder, options.recursive)
    statistics, about = _measured(_network(options), folder, opened, options.crop)
    kept.write(out, statistics, about)
    print(f"{out}: statistics of {about.count} pictures, {about.network}, weights {about.weights_sha256}")


def _network(options: argparse.Namespace) -> FeatureNetwork:
    from dcgan.metrics import feature_networks, weights
    from dcgan.system import hardware

    if options.weights and not options.weights.is_file():
        raise UserError(f"{options.weights}: there is no such file; give a file of weights, or omit --weights.")
    file = options.weights or weights.provide(options.network, _downloads())
    device = hardware.default_device()
    hardware.prepare()
    return feature_networks.load(options.network, file, device, options.compile and device.type == "cpu")


def _downloads() -> Path:
    """Returns where fetched weights are kept: in the project, or where pytorch-fid keeps them."""
    from dcgan.metrics import weights

    try:
        return project_root() / DOWNLOADS
    except UserError:
        return weights.pytorch_fids()


def _measured(network: FeatureNetwork, path: Path, folder: Folder, crop: str | None = None) -> tuple[Statistics, About]:
    """Returns the statistics of a folder, and says what was left out."""
    from dcgan.metrics import collecting, kept
    from dcgan.metrics.folders import counted

    if folder.left_out:
        print(f"{path}: left out: {counted(folder.left_out)}", file=sys.stderr)
    if folder.not_theirs:
        print(f"{path}: {folder.not_theirs} of these pictures would be left out by pytorch-fid", file=sys.stderr)
    statistics = collecting.collect(network, folder.read, folder.number, str(path))
    about = kept.About(network.name, network.weights_sha256, network.arithmetic, folder.number, folder.size, crop)
    return statistics, about


def _check_alike(a: _Side, b: _Side) -> None:
    """Raises UserError if the two sides are known to be of different networks."""
    if a.about and b.about and (other := _network_of(a.about)) != (mine := _network_of(b.about)):
        raise UserError(
            f"{a.path}: its statistics are of {other}, but those of {b.path} are of {mine}; give --network or "
            "--weights, or compute them anew with --save-stats."
        )
    if len(a.statistics.mean) != len(b.statistics.mean):
        raise UserError(
            f"{a.path}: its statistics have {len(a.statistics.mean)} dimensions, but those of {b.path} have "
            f"{len(b.statistics.mean)}; compute both with one network."
        )


def _network_of(about: About) -> str:
    return f"{about.network} with the weights {about.weights_sha256}"


def _describe(sides: list[_Side]) -> None:
    """Says what the distance is of, and how exact it is."""
    about = [side.about for side in sides]
    known = next((one for one in about if one), None)
    network = f"{known.network}, weights {known.weights_sha256}, {known.arithmetic}" if known else "not known"
    counts = [f"{one.count} pictures" if one else "an unknown number of pictures" for one in about]
    print(f"network {network}; {counts[0]} against {counts[1].removesuffix(' pictures')}", file=sys.stderr)
    crops = [one.crop if one else None for one in about]
    if all(crops) and crops[0] != crops[1]:
        print(f"{sides[0].path} has the crop {crops[0]}, and {sides[1].path} {crops[1]}", file=sys.stderr)
    for side in sides:
        if side.about is None:
            lacks = "no .json file beside it names its network, so that the distance is not called FID"
            print(f"{side.path}: {lacks}", file=sys.stderr)
    dimensions = len(sides[0].statistics.mean)
    few = any(not side.about or side.about.count <= dimensions for side in sides)
    if few and not any(side.statistics.features is not None for side in sides):
        print(
            f"the .npz files hold no features: the distance is taken from eigenvalues, which for at most {dimensions} "
            "pictures are exact to about 1e-7 of the traces",
            file=sys.stderr,
        )
