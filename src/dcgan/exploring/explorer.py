"""What the explorer's page shows: faces of a seed, moved along directions, walks, and nearest training faces."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dcgan.data import decoding
from dcgan.data.images import Pixels, open_faces, to_image
from dcgan.exploring import direction_file
from dcgan.exploring.directions import moved
from dcgan.exploring.principal import principal_directions
from dcgan.metrics.collecting import of_faces
from dcgan.metrics.small_pictures import nearest_faces, small_pictures
from dcgan.networks import load_generator
from dcgan.sampling import generate_levels, interpolate, numbered_latents
from dcgan.system import hardware
from dcgan.system.errors import UserError
from dcgan.system.files import sha256
from dcgan.system.metadata import read_metadata

FACES = 16  # in the grid
COLUMNS = 4
NEAREST = 5  # training faces beside a face
STEPS = 24  # pictures of a walk in one direction
PRINCIPAL = 8
_SEEN = 128  # least side of a face on the screen, in pixels
_MILLISECONDS = 80  # for each picture of an animation
_CPU = torch.device("cpu")


class Explorer:
    """A generator and what is known of it.

    Args:
        model: a generator.safetensors file.
        directions: file of the directions that the stage `attributes` found; those of another generator are not used.
        faces: folder of the packed faces, which need not exist.
        card: the data card, which says how pictures are cropped; it need not exist.

    Raises:
        UserError: the model is not the file of a generator.
    """

    def __init__(self, model: Path, directions: Path, faces: Path, card: Path) -> None:
        hardware.prepare()
        self.generator = load_generator(model)
        self.settings = self.generator.settings
        self.train_split = str(read_metadata(model).get("train_split", "train"))
        known = direction_file.load(directions, sha256(model))
        principal = known.principal if known else principal_directions(self.generator, PRINCIPAL)[0]
        self.attributes = known.names if known else []
        self.names = [*self.attributes, *(f"principal {k + 1}" for k in range(len(principal)))]
        self.vectors = torch.cat([known.attributes, principal]) if known else principal
        self._faces, self._card = faces, card

    @property
    def zoom(self) -> int:
        """How many pixels of the screen a side of a pixel of a face takes."""
        return max(1, _SEEN // self.settings.image_size)

    def latents(self, seed: int, amounts: Sequence[float]) -> Tensor:
        """Returns the latents (FACES, nz) of a seed, moved by an amount along each of `names`."""
        latents = numbered_latents(self.settings, seed, slice(0, FACES))
        return moved(self.settings, latents, self.vectors, torch.tensor(amounts, dtype=torch.float32))

    def faces(self, latents: Tensor) -> Pixels:
        """Returns the faces of latents (N, nz), uint8 (N, H, W, C).

        Those of a seed that is moved by nothing are those of `dcgan generate --count 16 --seed SEED`.
        """
        return generate_levels(self.generator, latents).numpy()

    def walk(self, start: Tensor, end: Tensor, steps: int = STEPS) -> Pixels:
        """Returns the faces of a walk from one latent (nz,) to another, both included, uint8 (steps, H, W, C)."""
        share = torch.linspace(0, 1, steps)[:, None]
        return self.faces(interpolate(self.settings.latent, start.expand(steps, -1), end.expand(steps, -1), share))

    @cached_property
    def _training(self) -> tuple[Pixels, np.ndarray]:
        """The training faces, and their small pictures."""
        if not (self._faces / "faces.npy").is_file():
            raise UserError(f"{self._faces}: there are no training faces here; bring them with `dvc pull crop`.")
        training = open_faces(self._faces, self.train_split)
        if training.shape[1:] != (self.settings.image_size, self.settings.image_size, self.settings.nc):
            side, nc = training.shape[2:]
            raise UserError(
                f"{self._faces}: its faces have {side} pixels a side and {nc} channels, unlike this model's."
            )
        return training, small_pictures(of_faces(training), len(training), _CPU)

    def nearest(self, face: Pixels) -> tuple[Pixels, list[float]]:
        """Returns the training faces nearest to a face (H, W, C), nearest first, (NEAREST, H, W, C), and distances.

        They are those of the evaluation, see `dcgan.metrics.small_pictures`.

        Raises:
            UserError: the training faces are not here, or of another size.
        """
        training, small = self._training
        numbers, apart = nearest_faces(of_faces(face[None]), 1, small, NEAREST, _CPU)
        return np.array(training[numbers[0]]), [float(value) for value in apart[0]]

    def read(self, name: str, data: bytes) -> Pixels:
        """Turns an uploaded picture into a face as the pipeline does, uint8 (H, W, C).

        Raises:
            UserError: it cannot be used.
        """
        crop = json.loads(self._card.read_text())["pixels"]["crop_size"] if self._card.is_file() else None
        try:
            return decoding.face(data, crop, self.settings.image_size, self.settings.nc)
        except ValueError as error:
            raise UserError(f"{name}: {error}; give another picture.") from None


def png(picture: Pixels) -> bytes:
    """Returns a picture (H, W, C) as the bytes of a PNG file."""
    out = io.BytesIO()
    to_image(picture).save(out, "PNG", compress_level=1)
    return out.getvalue()


def gif(pictures: Pixels) -> bytes:
    """Returns pictures (N, H, W, C) as the bytes of an animated GIF, which runs forth and back."""
    frames = [to_image(picture).convert("RGB").quantize(256) for picture in [*pictures, *pictures[-2:0:-1]]]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=_MILLISECONDS, loop=0)
    return out.getvalue()
