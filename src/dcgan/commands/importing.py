"""`dcgan import`: makes a generator of this project from a checkpoint of another program."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from dcgan.commands.common import add_command
from dcgan.system.choices import Latent
from dcgan.system.errors import UserError
from dcgan.system.files import sha256

_MORE = """The file is one of torch.save or safetensors: a state dict with the layers of the PyTorch DCGAN example
(main.0.weight, ...), for 32x32 to 256x256 pictures, or a dict that holds it. The size and the channels
are found from the shapes; half, bfloat16 and double weights become float32."""


def add(commands: Any) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "import",
        _run,
        "make a generator for `dcgan generate --model` from a checkpoint that another program trained",
        "dcgan import netG.pth --out models/imported.safetensors",
        _MORE,
    )
    command.add_argument("file", type=Path, metavar="FILE", help="the checkpoint, for example netG_epoch_24.pth")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the safetensors file to write")
    command.add_argument("--key", metavar="NAME", help="which state dict to take, if the file holds several")
    command.add_argument(
        "--latent", choices=get_args(Latent), default="normal", help="distribution of the latents; default: normal"
    )
    command.add_argument("--force", action="store_true", help="replace the file given with --out if it exists")


def _run(options: argparse.Namespace) -> None:
    out: Path = options.out
    if out.is_dir() or (out.exists() and not options.force):
        raise UserError(f"{out}: it already exists; give another name" + ("." if out.is_dir() else ", or add --force."))
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{out}: {above} is not a folder; give another path.")

    from dcgan import networks
    from dcgan.networks import foreign

    generator = foreign.load(options.file, options.key, options.latent)
    s = generator.settings
    networks.save(out, generator, s, {"imported": {"file": options.file.name, "sha256": sha256(options.file)}})
    print(f"{out}: {s.image_size}x{s.image_size} pictures, nc {s.nc}, nz {s.nz}, ngf {s.ngf}, latent {s.latent}")
