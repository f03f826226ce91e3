"""A series of pictures in a run, one for each step, laid out in files as MLflow's UI looks for them."""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

GRIDS = "animation/fixed_latents"  # MLflow's key; its first part is a section of the UI, the first by name
_FOLDER = "images"  # where the UI looks for series
_START = f"{_FOLDER}/{GRIDS.replace('/', '~')}+step+"
# Of the two files of each picture: the picture itself, and the one that the UI draws, enlarged because it draws no
# pixel larger than it is. MLflow itself reduces it to 256 pixels.
_SUFFIXES = (".png", "+compressed.webp")
_WIDTH = 1400  # pixels, about as wide as the UI's full screen, where eight faces in a row then have 170 each


def logged(client: MlflowClient, run_id: str) -> dict[int, str | None]:
    """A run's pictures by step: None if complete, or the name of one that lacks a file since a sender was killed."""
    grids: dict[int, str | None] = {}
    sizes = {item.path: item.file_size for item in client.list_artifacts(run_id, _FOLDER)}
    for path in sizes:
        name = path.removesuffix(_SUFFIXES[1]).removesuffix(_SUFFIXES[0])
        if name.startswith(_START):
            whole = all(sizes.get(name + suffix) for suffix in _SUFFIXES)
            grids[int(name.split("+")[2])] = None if whole else name
    return grids


def log(client: MlflowClient, run_id: str, step: int, file: Path, name: str | None = None) -> None:
    """Logs a picture.

    Args:
        name: its name, if one of its files is already logged.

    Raises:
        ValueError: the file holds no picture.
    """
    try:
        with Image.open(file) as opened:
            image = opened.copy()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the picture is damaged: {error}") from None
    times = -(-_WIDTH // image.width)
    shown = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    name = name or f"{_START}{step}+timestamp+{time.time_ns() // 1_000_000}+{uuid.uuid4()}"
    with tempfile.TemporaryDirectory() as folder:
        whole, compressed = (Path(folder, Path(name).name + suffix) for suffix in _SUFFIXES)
        image.save(whole)
        shown.save(compressed, method=0)  # the fastest, since a training may run beside it
        for path in (whole, compressed):
            client.log_artifact(run_id, str(path), _FOLDER)
