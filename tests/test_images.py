"""Pictures to faces by Pillow's own operations, what is refused and why, packing, grids and animations."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from dcgan import images
from dcgan.datasets.index import write_index, zip_member
from dcgan.errors import UserError
from dcgan.files import atomic

Pixels = npt.NDArray[np.uint8]
MODES = {
    "JPEG": ["1", "L", "RGB", "CMYK"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "WebP": ["RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"],
}
KINDS = [(form, mode) for form, modes in MODES.items() for mode in modes]


def drawn(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours with noise on them, in any of Pillow's modes."""
    random = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    ramp = np.linspace(0, 200, height * width * 4).reshape(height, width, 4)
    values = (ramp + random.integers(0, 56, (height, width, 4))).astype(np.uint8)
    if mode == "CMYK":
        return Image.fromarray(values, "CMYK")
    return Image.fromarray(values, "RGBA").convert(mode)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def plain(data: bytes, crop_size: int | None, image_size: int, nc: int) -> Pixels:
    """The definition of a face, step by step."""
    picture: Image.Image = Image.open(io.BytesIO(data))
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
    if picture.mode == "I;16":
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    picture = picture.convert("L" if nc == 1 else "RGB")
    width, height = picture.size
    side = min(width, height) if crop_size is None else crop_size
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    small = square.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=None)
    return np.asarray(small).reshape(image_size, image_size, nc)


def test_all_formats_can_be_read_here() -> None:
    assert all(features.check(name) for name in ("webp", "jpg", "zlib"))


@pytest.mark.parametrize(("form", "mode"), KINDS)
@settings(deadline=None, max_examples=8)
@given(
    st.tuples(st.integers(8, 90), st.integers(8, 90)),
    st.one_of(st.none(), st.integers(8, 90)),
    st.sampled_from([32, 64]),
    st.sampled_from([1, 3]),
    st.integers(0, 1000),
)
def test_a_face_is_what_pillow_makes_of_the_picture(
    form: str, mode: str, size: tuple[int, int], crop_size: int | None, image_size: int, nc: int, seed: int
) -> None:
    data = encoded(drawn(mode, *size, seed), form)
    if crop_size is not None and crop_size > min(size):
        with pytest.raises(ValueError, match=f"smaller than the crop of {crop_size}"):
            images.face(data, crop_size, image_size, nc)
        return
    face = images.face(data, crop_size, image_size, nc)
    assert face.dtype == np.uint8 and face.shape == (image_size, image_size, nc)
    assert np.array_equal(face, plain(data, crop_size, image_size, nc))


def test_the_crop_is_centred() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[4:36, 14:46] = 200  # a square of 32 in the middle
    data = encoded(Image.fromarray(pixels))
    assert (images.face(data, 32, 32, 3) == 200).all()
    assert not (images.face(data, 34, 32, 3) == 200).all()


def test_celebas_crop_of_178_is_the_tutorials_resize_and_centre_crop() -> None:
    """Resizing 178x218 to 64 on the short side and cropping 64 takes the same rows, up to a half pixel."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[20:198] = np.linspace(0, 255, 178, dtype=np.uint8)[:, None, None]
    face = images.face(encoded(Image.fromarray(pixels)), None, 64, 3)
    assert face[0].max() < 10 and face[-1].min() > 245


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_same_size_changes_no_pixel(mode: str) -> None:
    picture = drawn(mode, 32, 32, 0)
    nc = len(picture.getbands())
    assert np.array_equal(images.face(encoded(picture), None, 32, nc), np.asarray(picture).reshape(32, 32, nc))


def test_shrinking_filters_against_aliasing() -> None:
    board = ((np.indices((256, 256)).sum(axis=0) % 2) * 255).astype(np.uint8)
    face = images.face(encoded(Image.fromarray(board)), None, 32, 1)
    assert np.abs(face.astype(int) - 127).max() <= 3


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """What EXIF means by an orientation, from the standard: where row 0 and column 0 are seen."""
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }
    return np.ascontiguousarray(upright[orientation])


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WebP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_respected(orientation: int, form: str) -> None:
    picture = drawn("RGB", 40, 60, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if form == "WebP" else {}
    face = images.face(encoded(picture, form, exif=exif, **options), 32, 32, 3)
    upright = Image.fromarray(turned(np.asarray(picture), orientation))
    assert np.array_equal(face, plain(encoded(upright), 32, 32, 3))


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("form", ["PNG", "WebP", "TIFF"])
def test_what_is_transparent_becomes_white(form: str, mode: str, nc: int) -> None:
    if (form, mode) == ("WebP", "LA"):
        mode = "RGBA"
    picture = drawn("L", 32, 32, 0).convert(mode)
    picture.putalpha(Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 16, axis=1).repeat(32, axis=0)))
    options = {"lossless": True} if form == "WebP" else {}
    face = images.face(encoded(picture, form, **options), None, 32, nc)
    assert (face[:, :16] == 255).all()
    grey = np.asarray(picture.convert("L"))
    assert np.array_equal(face[:, 16:, 0], grey[:, 16:])


@pytest.mark.parametrize("nc", [1, 3])
def test_what_is_half_transparent_is_mixed_with_white(nc: int) -> None:
    face = images.face(encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 64))), None, 32, nc)
    assert np.abs(face.astype(int) - round(255 * (1 - 64 / 255))).max() <= 1


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_transparent_palette_becomes_white(transparency: int | bytes) -> None:
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(1, (16, 0, 32, 32))
    face = images.face(encoded(picture, transparency=transparency), None, 32, 3)
    assert (face[:, :16] == 255).all() and (face[:, 16:] == [0, 0, 200]).all()


def test_a_transparent_colour_of_an_rgb_picture_becomes_white() -> None:
    picture = Image.new("RGB", (32, 32), (1, 2, 3))
    picture.paste((0, 0, 200), (16, 0, 32, 32))
    face = images.face(encoded(picture, transparency=(1, 2, 3)), None, 32, 3)
    assert (face[:, :16] == 255).all() and (face[:, 16:] == [0, 0, 200]).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight_without_clipping(form: str) -> None:
    levels = np.repeat(np.arange(32, dtype=np.uint16)[None] * 2048, 32, axis=0)
    face = images.face(encoded(Image.fromarray(levels), form), None, 32, 1)
    assert np.array_equal(face[:, :, 0], (levels // 256).astype(np.uint8))


# What is refused.


def reason(data: bytes, crop_size: int | None = None) -> str:
    with pytest.raises(ValueError) as error:
        images.face(data, crop_size, 32, 3)
    text = str(error.value)
    assert text and len(text.splitlines()) == 1 and " at 0x" not in text  # an address would differ in every run
    return text


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"GIF89a", b"\x89PNG\r\n\x1a\n", b"<html>not found</html>"])
def test_what_is_no_picture_is_refused_with_a_reason(data: bytes) -> None:
    reason(data)


@pytest.mark.parametrize(("form", "mode"), KINDS)
def test_a_truncated_picture_is_refused_with_a_reason(form: str, mode: str) -> None:
    data = encoded(drawn(mode, 90, 90, 0), form)
    for share in (0.1, 0.5, 0.8):
        reason(data[: int(len(data) * share)])


def test_a_picture_that_is_too_small_is_refused_with_its_size() -> None:
    assert reason(encoded(drawn("RGB", 40, 30, 0)), crop_size=31) == "40x30 is smaller than the crop of 31"


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_460, 15_000, 1_000_000])
def test_a_decompression_bomb_is_refused_before_it_goes_off(side: int) -> None:
    assert "pixels" in reason(png_header(side, side))


def test_a_bomb_is_refused_even_where_pillow_was_told_to_read_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "9460x9460 pixels" in reason(png_header(9_460, 9_460))


@pytest.mark.parametrize("form", sorted(MODES))
@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8), st.sampled_from([1, 3])
)
def test_damage_gives_a_face_or_a_reason_and_nothing_else(form: str, changes: list[tuple[int, int]], nc: int) -> None:
    data = bytearray(encoded(drawn("RGB", 20, 20, 0), form))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        assert images.face(bytes(data), None, 32, nc).shape == (32, 32, nc)
    except ValueError as error:
        assert str(error)


# Packing.


class Packed(NamedTuple):
    raw: Path
    faces: Path
    report: Path


COUNTS = {"train": 590, "valid": 20, "test": 6}


def colour(i: int) -> tuple[int, int, int]:
    return i % 256, i // 256, 77


def index_of(face: Pixels) -> int:
    return int(face[0, 0, 0]) + 256 * int(face[0, 0, 1])


def build_raw(raw: Path, bad: bool) -> pd.DataFrame:
    """Single-coloured pictures in two archives, their splits mixed; picture i has attribute values of i's bits."""
    random = np.random.default_rng(0)
    splits = random.permutation([split for split, count in COUNTS.items() for _ in range(count)])
    raw.mkdir()
    rows = []
    with zipfile.ZipFile(raw / "a.zip", "w") as a, zipfile.ZipFile(raw / "b.zip", "w") as b:
        for i, split in enumerate(splits):
            archive, name = ("a.zip", a) if i % 3 else ("b.zip", b), f"pictures/{i:04d}.png"
            archive[1].writestr(zip_member(name), encoded(Image.new("RGB", (9, 8), colour(i))))
            rows.append((archive[0], name, str(split), 1 if i & 1 else -1, 1 if i & 2 else -1))
        if bad:
            good = encoded(drawn("RGB", 64, 64, 0))
            for i, split in enumerate(("train", "train", "test", "valid")):
                data = (b"nonsense", good[: len(good) // 2], encoded(drawn("RGB", 30, 4, 0)), None)[i]
                if data is not None:
                    a.writestr(zip_member(f"bad/{i}.png"), data)
                rows.insert(i * 150, ("a.zip", f"bad/{i}.png", split, 1, 1))
    table = pd.DataFrame(rows, columns=["archive", "file", "split", "Odd", "Two"])
    table = table.astype({"Odd": "int8", "Two": "int8"})
    write_index(raw, table)
    return table


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Packed]:
    """The same pictures, four of them bad, packed by one worker and by two, which get them in other portions."""
    folder = tmp_path_factory.mktemp("images")
    build_raw(folder / "raw", bad=True)
    result = {}
    for workers in (1, 2):
        paths = Packed(folder / "raw", folder / f"faces{workers}", folder / f"report{workers}.json")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(images, "_CHUNK", 512 // workers**4)
            images.pack(*paths, 8, 32, 3, 0.01, workers)
        result[workers] = paths
    return result


def test_the_bytes_do_not_depend_on_the_number_of_workers(packed: dict[int, Packed]) -> None:
    one, two = packed[1], packed[2]
    names = sorted(path.name for path in one.faces.iterdir())
    assert names == ["faces.parquet", "test.npy", "train.npy", "valid.npy"]
    assert names == sorted(path.name for path in two.faces.iterdir())
    for name in names:
        assert (one.faces / name).read_bytes() == (two.faces / name).read_bytes(), name
    assert one.report.read_bytes() == two.report.read_bytes()


def test_each_row_of_the_table_is_the_face_at_its_place(packed: dict[int, Packed]) -> None:
    table = pd.read_parquet(packed[2].faces / "faces.parquet")
    assert list(table.columns) == ["file", "split", "Odd", "Two"]
    assert len(table) == sum(COUNTS.values())
    for split, count in COUNTS.items():
        faces, rows = images.open_split(packed[2].faces, split), table[table["split"] == split]
        assert faces.dtype == np.uint8 and faces.shape == (count, 32, 32, 3)
        numbers = [index_of(face) for face in faces]
        assert rows["file"].tolist() == [f"pictures/{i:04d}.png" for i in numbers]
        assert numbers == sorted(numbers)  # the order of the index
        assert rows["Odd"].tolist() == [1 if i & 1 else -1 for i in numbers]
        assert rows["Two"].tolist() == [1 if i & 2 else -1 for i in numbers]
        assert all((face == colour(i)).all() for face, i in zip(faces, numbers, strict=True))


def test_the_report_counts_faces_and_lists_bad_pictures_with_reasons(packed: dict[int, Packed]) -> None:
    report = json.loads(packed[1].report.read_text())
    assert report["faces"] == COUNTS
    assert report["pixels"] == {"crop_size": 8, "image_size": 32, "nc": 3}
    reasons = {row["file"]: row["reason"] for row in report["bad"]}
    assert set(reasons) == {f"bad/{i}.png" for i in range(4)}
    assert "no picture" in reasons["bad/0.png"]
    assert "truncated" in reasons["bad/1.png"]
    assert reasons["bad/2.png"] == "30x4 is smaller than the crop of 8"
    assert "no item named 'bad/3.png'" in reasons["bad/3.png"]
    table = pd.read_parquet(packed[1].faces / "faces.parquet")
    for name in ("Odd", "Two"):
        assert report["attributes"][name] == pytest.approx((table[name] == 1).mean(), abs=1e-4)


def test_too_many_bad_pictures_end_in_one_sentence_and_leave_nothing(packed: dict[int, Packed], tmp_path: Path) -> None:
    total = sum(COUNTS.values()) + 4
    faces, report = tmp_path / "faces", tmp_path / "report.json"
    with pytest.raises(UserError, match=rf"max_bad_fraction: 4 of {total} .*bad/"), atomic(faces) as temporary:
        images.pack(packed[1].raw, temporary, report, 8, 32, 3, 3.9 / total, 1)
    assert not list(tmp_path.iterdir())


def test_as_many_bad_pictures_as_allowed_are_no_error(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        archive.writestr(zip_member("bad.png"), b"nonsense")
        archive.writestr(zip_member("good.png"), encoded(drawn("L", 9, 9, 0)))
    rows = [("a.zip", "bad.png", "train"), ("a.zip", "good.png", "train")]
    write_index(raw, pd.DataFrame(rows, columns=["archive", "file", "split"]))
    images.pack(raw, tmp_path / "faces", tmp_path / "report.json", None, 32, 1, 0.5, 1)
    assert [len(images.open_split(tmp_path / "faces", split)) for split in ("train", "valid", "test")] == [1, 0, 0]
    assert images.open_split(tmp_path / "faces", "all").shape == (1, 32, 32, 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_damage_inside_an_archive_is_listed_like_any_bad_picture(tmp_path: Path, method: int) -> None:
    raw, data = tmp_path / "raw", encoded(drawn("RGB", 40, 40, 0), "BMP")
    raw.mkdir()
    with zipfile.ZipFile(raw / "a.zip", "w", method) as archive:
        for name in ("bad.bmp", "good.bmp"):
            archive.writestr(zip_member(name), data, method)
        start, length = 30 + len("bad.bmp"), archive.getinfo("bad.bmp").compress_size
    content = bytearray((raw / "a.zip").read_bytes())
    content[start : start + length // 2] = b"\xff" * (length // 2)  # to zlib an impossible block
    (raw / "a.zip").write_bytes(content)
    rows = [("a.zip", "bad.bmp", "train"), ("a.zip", "good.bmp", "train")]
    write_index(raw, pd.DataFrame(rows, columns=["archive", "file", "split"]))
    images.pack(raw, tmp_path / "faces", tmp_path / "report.json", None, 32, 3, 0.5, 1)
    assert len(images.open_split(tmp_path / "faces", "train")) == 1
    assert [row["file"] for row in json.loads((tmp_path / "report.json").read_text())["bad"]] == ["bad.bmp"]


def test_a_failed_crop_leaves_the_faces_before_it(tmp_path: Path) -> None:
    raw, faces = tmp_path / "raw", tmp_path / "faces"
    raw.mkdir()
    write_index(raw, pd.DataFrame({"archive": [], "file": [], "split": []}))
    faces.mkdir()
    (faces / "train.npy").write_bytes(b"old")
    with pytest.raises(UserError, match="dataset: it holds no pictures"), atomic(faces) as temporary:
        images.pack(raw, temporary, tmp_path / "report.json", None, 32, 3, 0.0)
    assert (faces / "train.npy").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "raw"]


def test_packed_avatars_are_the_definition_of_a_face(raw: Path, faces: Path) -> None:
    table = pd.read_parquet(faces / "faces.parquet")
    train = images.open_split(faces, "train")
    with zipfile.ZipFile(raw / "img_align_celeba.zip") as archive:
        for i in (0, 1, 100, 191):
            assert np.array_equal(train[i], plain(archive.read(table["file"][i]), None, 64, 3))


def test_splits_are_mapped_into_memory_and_all_is_the_three_in_order(faces: Path) -> None:
    splits = [images.open_split(faces, split) for split in ("train", "valid", "test")]
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in splits)
    assert np.array_equal(images.open_split(faces, "all"), np.concatenate(splits))


# Layout.


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 9),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_a_grid_shows_each_picture_at_its_place_on_white(
    n: int, shape: tuple[int, int, int], columns: int, gap: int
) -> None:
    pictures = np.random.default_rng(n).integers(0, 255, (n, *shape), dtype=np.uint8)
    sheet = images.grid(pictures, columns, gap)
    height, width, channels = shape
    rows = (n + columns - 1) // columns
    assert sheet.shape == (rows * height + (rows + 1) * gap, columns * width + (columns + 1) * gap, channels)
    rest = np.ones(sheet.shape, bool)
    for i in range(n):
        top, left = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        assert np.array_equal(sheet[top : top + height, left : left + width], pictures[i])
        rest[top : top + height, left : left + width] = False
    assert (sheet[rest] == 255).all()


@pytest.mark.parametrize("nc", [1, 3])
def test_two_grids_stand_side_by_side(nc: int) -> None:
    left = np.full((5, 4, 4, nc), 10, np.uint8)
    right = np.full((3, 4, 4, nc), 20, np.uint8)
    both = images.side_by_side(left, right, columns=2)
    a, b = images.grid(left, 2), images.grid(right, 2)
    assert np.array_equal(both[:, : a.shape[1]], a)
    assert np.array_equal(both[: len(b), -b.shape[1] :], b)
    assert (both[len(b) :, -b.shape[1] :] == 255).all()
    assert (both[:, a.shape[1] : -b.shape[1]] == 255).all() and both.shape[1] > a.shape[1] + b.shape[1]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 100))
def test_chosen_faces_are_different_and_in_their_old_order(total: int, count: int, seed: int) -> None:
    faces = np.arange(total, dtype=np.uint8).reshape(-1, 1, 1, 1)
    chosen = images.choose(faces, count, seed).flatten().tolist()
    assert len(chosen) == min(total, count) and chosen == sorted(set(chosen))
    assert chosen == images.choose(faces, count, seed).flatten().tolist()


def test_another_seed_chooses_others() -> None:
    faces = np.arange(250, dtype=np.uint8).reshape(-1, 1, 1, 1)
    assert not np.array_equal(images.choose(faces, 8, 1), images.choose(faces, 8, 2))


@pytest.mark.parametrize("nc", [1, 3])
def test_a_picture_survives_its_file(tmp_path: Path, nc: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, nc), dtype=np.uint8)
    for name in ("a", "b"):
        images.save_png(tmp_path / "new" / f"{name}.png", pixels)
    loaded = Image.open(tmp_path / "new" / "a.png")
    assert loaded.mode == ("L" if nc == 1 else "RGB")
    assert np.array_equal(np.asarray(loaded).reshape(pixels.shape), pixels)
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize(("frames", "most", "shown"), [(1, 60, 1), (2, 60, 2), (7, 60, 7), (61, 60, 60), (50, 5, 5)])
def test_an_animation_has_the_frames_asked_for_from_the_first_to_the_last(
    tmp_path: Path, frames: int, most: int, shown: int, nc: int
) -> None:
    paths = [tmp_path / f"{i:03d}.png" for i in range(frames)]
    for i, path in enumerate(paths):
        images.save_png(path, np.full((8, 8, nc), 4 * i, np.uint8))
    target = tmp_path / "progress.gif"
    images.save_animation(target, paths, most)
    with Image.open(target) as animation:
        assert getattr(animation, "n_frames", 1) == shown
        levels, durations = [], []
        for i in range(shown):
            animation.seek(i)
            levels.append(int(np.asarray(animation.convert("L"))[0, 0]))
            durations.append(animation.info.get("duration"))
    assert levels[0] == 0 and abs(levels[-1] - 4 * (frames - 1)) <= 2
    assert levels == sorted(levels)
    assert shown == 1 or durations == [250] * (shown - 1) + [2500]
    before = target.read_bytes()
    images.save_animation(target, paths, most)
    assert target.read_bytes() == before
