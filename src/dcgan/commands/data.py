"""`dcgan data`: the folder outside of the project that holds the user's own pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dcgan.commands.common import add_command, project_root

_MORE = """words:
  link FOLDER  use the pictures of this folder, wherever it is; nothing is written into it
  link         list the linked folder again, after files were added, modified or removed
  unlink       use data/folder again

The pictures are used with `dataset: folder`, a copy of CelebA also with `dataset: celeba`."""

_OF_CELEBA = (".zip", ".csv", ".txt")  # endings of its archive and lists


def add(commands: Any) -> None:
    """Adds the command."""
    data = add_command(
        commands,
        "data",
        _data,
        "use a folder of pictures wherever it is",
        "dcgan data link /path/to/faces",
        _MORE,
    )
    data.add_argument("what", choices=("link", "unlink"), help="see below")
    data.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="folder of pictures, with all below it")


def _data(options: argparse.Namespace) -> None:
    from dcgan.data import links
    from dcgan.data.inventory import passed_over

    root = project_root()
    if options.what == "unlink":
        links.unlink(root)
        print("No folder is linked; `dataset: folder` uses data/folder.")
        return
    linked = links.link(root, options.folder)
    pictures = int((linked.files["problem"] == "").sum())
    print(f"{linked.folder}: {pictures:,} pictures in {len(linked.files):,} files.")
    for kind in passed_over(linked.files):
        lists = "; `dataset: celeba` looks into it" if kind["ending"] in _OF_CELEBA else ""
        print(f"  passed over: {kind['files']:,} ({kind['ending'] or 'no ending'}): {kind['reason']}{lists}")
    print("To use them: dvc exp run -S dataset=folder -S dataset_size= (a copy of CelebA: dataset=celeba)")
