"""The embedded data set: faces drawn by python_avatars, in CelebA's file layout.

Picture i depends only on (seed, i). It has only parts that a person could have, and only parts whose colour can be
chosen, so that the attributes describe what the picture shows.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import python_avatars as pa
import resvg_py
from PIL import Image

from dcgan.data.index import Source, write_index, zip_member
from dcgan.data.request import Request
from dcgan.data.sources import celeba
from dcgan.system.progress import progress
from dcgan.system.worker_pool import worker_pool

SOURCE = Source(
    name="avatars drawn by python_avatars, in CelebA's layout",
    licence="MIT (python_avatars); its parts are from avataaars by Pablo Stanley, free for personal and commercial use",
    citation="",
    url="https://github.com/ibonn/python_avatars",
)
WIDTH, HEIGHT = 178, 218
_VIEW_BOX = 'viewBox="32 0 200 245"'  # a frame around the head, in CelebA's proportions
# The same in every picture: x and y of eyes, nose and corners of the mouth, in pixels.
_LANDMARKS = (66, 99, 112, 99, 89, 118, 77, 138, 101, 138)
_BOX = (38, 31, 102, 131)  # x, y, width, height of the head

_SKINS = list(pa.SkinColor)
_HAIR_COLORS = [c for c in pa.HairColor if c.name != "PASTEL_PINK"]
_SHORT_HAIR = (
    "BUZZCUT CAESAR CAESAR_SIDE_PART FRIZZLE PIXIE POMPADOUR QUIFF SHORT_CURLY SHORT_FLAT SHORT_ROUND SHORT_WAVED"
)
_LONG_HAIR = "BOB BUN CURLY FRO LONG_NOT_TOO_LONG MIA_WALLACE SHAGGY STRAIGHT_1 STRAIGHT_STRAND LOOSE_HAIR BIG_HAIR"
_HAIRS = [pa.HairType[name] for name in f"NONE SIDES {_SHORT_HAIR} {_LONG_HAIR}".split()]
_HATS = [pa.HatType[name] for name in "HAT TURBAN WINTER_HAT_1 WINTER_HAT_3".split()]
_BEARDS = [pa.FacialHairType[name] for name in "BEARD_LIGHT BEARD_MAGESTIC BEARD_MEDIUM WICK_BEARD".split()]
_MUSTACHES = [pa.FacialHairType[name] for name in "MOUSTACHE_FANCY MOUSTACHE_MAGNUM".split()]
_GLASSES = [pa.AccessoryType[name] for name in "PRESCRIPTION_2 ROUND SUNGLASSES WAYFARERS".split()]
_CLOTHES = [pa.ClothingType[n] for n in "BLAZER_SHIRT COLLAR_SWEATER HOODIE SHIRT_CREW_NECK SHIRT_V_NECK".split()]
_EYES = [pa.EyeType[name] for name in "DEFAULT HAPPY SIDE SQUINT CLOSED".split()]
_BROWS = [pa.EyebrowType[f"{name}_NATURAL"] for name in "DEFAULT FLAT RAISED_EXCITED SAD_CONCERNED".split()]
_SMILES = [pa.MouthType[name] for name in "DEFAULT SMILE TWINKLE BIG_SMILE".split()]
_MOUTHS = [*_SMILES, *(pa.MouthType[name] for name in "CONCERNED SAD SERIOUS".split())]
_BACKGROUNDS = ["#d9e4ec", "#f2ead9", "#dcebdc", "#eadcea"]

# CelebA's 40 attributes; those that a drawing does not determine are written as absent.
_ALL_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
).split()


class Face(NamedTuple):
    """The parts of a drawn face."""

    skin: Enum
    top: Enum
    hair_color: Enum
    facial_hair: Enum
    glasses: Enum
    clothing: Enum
    clothing_color: Enum
    eyes: Enum
    brows: Enum
    mouth: Enum
    nose: Enum
    background: str


def face(seed: int, i: int) -> Face:
    """Chooses the parts of picture `i` at random; they depend only on (seed, i)."""
    rng = random.Random(f"avatar {seed} {i}")
    hat, hairy, glasses = rng.random() < 0.1, rng.random(), rng.random() < 0.3
    return Face(
        skin=rng.choice(_SKINS),
        top=rng.choice(_HATS if hat else _HAIRS),
        hair_color=rng.choice(_HAIR_COLORS),
        facial_hair=rng.choice(_BEARDS if hairy < 0.2 else _MUSTACHES if hairy < 0.3 else [pa.FacialHairType.NONE]),
        glasses=rng.choice(_GLASSES) if glasses else pa.AccessoryType.NONE,
        clothing=rng.choice(_CLOTHES),
        clothing_color=rng.choice(list(pa.ClothingColor)),
        eyes=rng.choice(_EYES),
        brows=rng.choice(_BROWS),
        mouth=rng.choice(_MOUTHS),
        nose=rng.choice(list(pa.NoseType)),
        background=rng.choice(_BACKGROUNDS),
    )


def attributes(drawn: Face) -> dict[str, int]:
    """Returns CelebA's 40 attributes of a face: 1 for present, -1 for absent."""
    hat = isinstance(drawn.top, pa.HatType)
    hair = not hat and drawn.top.name not in ("NONE", "SIDES")
    color = drawn.hair_color.name
    present = {
        "Bald": drawn.top is pa.HairType.NONE,
        "Receding_Hairline": drawn.top is pa.HairType.SIDES,
        "Black_Hair": hair and color == "BLACK",
        "Blond_Hair": hair and color in ("BLONDE", "BLONDE_GOLDEN", "PLATINUM"),
        "Brown_Hair": hair and color in ("AUBURN", "BROWN", "BROWN_DARK"),
        "Gray_Hair": hair and color == "SILVER_GRAY",
        "Wavy_Hair": hair and drawn.top.name in ("CURLY", "SHAGGY", "SHORT_WAVED", "LOOSE_HAIR", "BIG_HAIR"),
        "Straight_Hair": hair and drawn.top.name in ("BOB", "MIA_WALLACE", "STRAIGHT_1", "STRAIGHT_STRAND"),
        "Wearing_Hat": hat,
        "Eyeglasses": drawn.glasses is not pa.AccessoryType.NONE,
        "Mustache": drawn.facial_hair in _MUSTACHES,
        "Goatee": drawn.facial_hair is pa.FacialHairType.WICK_BEARD,
        "No_Beard": drawn.facial_hair not in _BEARDS,
        "Smiling": drawn.mouth in _SMILES,
        "Mouth_Slightly_Open": drawn.mouth.name in ("DEFAULT", "SMILE", "BIG_SMILE", "CONCERNED"),
        "Narrow_Eyes": drawn.eyes.name in ("SQUINT", "CLOSED", "HAPPY"),
        "Arched_Eyebrows": drawn.brows.name == "RAISED_EXCITED_NATURAL",
        "Big_Nose": drawn.nose is pa.NoseType.WIDE,
        "Pale_Skin": drawn.skin is pa.SkinColor.PALE,
    }
    return {name: 1 if present.get(name) else -1 for name in _ALL_ATTRIBUTES}


def jpeg(drawn: Face) -> bytes:
    """Draws a face as a JPEG of 178x218 pixels."""
    avatar = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        top=drawn.top,
        hat_color=drawn.clothing_color,
        eyebrows=drawn.brows,
        eyes=drawn.eyes,
        nose=drawn.nose,
        mouth=drawn.mouth,
        facial_hair=drawn.facial_hair,
        skin_color=drawn.skin,
        hair_color=drawn.hair_color,
        facial_hair_color=drawn.hair_color,
        accessory=drawn.glasses,
        clothing=drawn.clothing,
        clothing_color=drawn.clothing_color,
    )
    svg = avatar.render().replace('viewBox="0 0 264 280"', _VIEW_BOX, 1)
    svg = svg.replace('width="264px" height="280px"', f'width="{WIDTH}px" height="{HEIGHT}px"', 1)
    png = resvg_py.svg_to_bytes(svg_string=svg, background=drawn.background, skip_system_fonts=True)
    out = io.BytesIO()
    Image.open(io.BytesIO(bytes(png))).convert("RGB").save(out, "JPEG", quality=95)
    return out.getvalue()


def _draw(seed: int, i: int) -> bytes:
    return jpeg(face(seed, i))


def bring(raw: Path, request: Request) -> None:
    """Prepares the data set; called by the stage `download`."""
    assert request.size is not None, "params.py requires a number"
    prepare(raw, request.size, request.seed)


def prepare(raw: Path, size: int, seed: int, workers: int | None = None) -> None:
    """Draws `size` faces into the new folder `raw`, in CelebA's layout, and indexes them.

    The first 80 % are the train split, the next 10 % valid and the last 10 % test, which are about the shares of
    CelebA. The bytes do not depend on the number of `workers` (processes; None: one per core).
    """
    raw.mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(size)]
    with (
        zipfile.ZipFile(raw / celeba.ARCHIVE, "w") as archive,
        worker_pool(workers) as pool,
    ):
        drawn = pool.map(_draw, [seed] * size, range(size), chunksize=32)
        for name, data in zip(names, progress(drawn, size, "drawing", "avatars"), strict=True):
            archive.writestr(zip_member(f"{celeba.FOLDER}/{name}"), data)

    rows = [attributes(face(seed, i)) for i in range(size)]
    _write_table(raw / celeba.ATTRIBUTES, names, _ALL_ATTRIBUTES, [list(row.values()) for row in rows])
    sides = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    landmarks = [f"{point}_{axis}" for point in sides for axis in "xy"]
    _write_table(raw / celeba.LANDMARKS, names, landmarks, [list(_LANDMARKS)] * size)
    _write_table(raw / celeba.BOXES, names, ["image_id", "x_1", "y_1", "width", "height"], [list(_BOX)] * size)
    parts = ["0" if i < size * 0.8 else "1" if i < size * 0.9 else "2" for i in range(size)]
    _write_lines(raw / celeba.PARTITION, (f"{n} {p}" for n, p in zip(names, parts, strict=True)))
    _write_lines(raw / celeba.IDENTITIES, (f"{name} {i + 1}" for i, name in enumerate(names)))
    write_index(raw, celeba.table(raw), SOURCE)


def _write_table(path: Path, names: list[str], columns: list[str], rows: list[list[int]]) -> None:
    """Writes a list in CelebA's format: the number of pictures, the names of the columns, then one line per picture."""
    lines = (f"{name} {' '.join(f'{v:2d}' for v in row)}" for name, row in zip(names, rows, strict=True))
    _write_lines(path, [str(len(names)), " ".join(columns), *lines])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
