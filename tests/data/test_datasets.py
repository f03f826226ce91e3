"""Every source of pictures ends in the same contract, byte for byte the same each time, or in one sentence."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pandas as pd
import pytest
import python_avatars as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from published_files import contents, encoded, moved, published, stand_in
from standin import StandIn
from torchvision.datasets import CelebA

from dcgan.data import card as data_card
from dcgan.data import decoding, links, packing
from dcgan.data.fetching import DRIVE, File, Patience
from dcgan.data.index import SPLITS, cut_off, link_or_copy, read_index, read_left_out, split_by_name, take
from dcgan.data.inventory import NOT_A_PICTURE
from dcgan.data.sources import avatars, celeba, cifar10, folder
from dcgan.data.sources import lsun_church as lsun
from dcgan.system.errors import UserError

NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), unique=True, max_size=40)
examples = settings(deadline=None, max_examples=30)


@pytest.fixture
def server() -> Iterator[StandIn]:
    server = StandIn({})
    yield server
    server.close()


# Waits for no server.
HASTY = Patience(timeout=0.3, pause=lambda seconds: None)


def contract(raw: Path) -> pd.DataFrame:
    """Checks what the crop relies on, and returns the index."""
    table, source = read_index(raw)
    assert source.name and source.licence
    assert list(table.columns[:4]) == ["archive", "file", "split", "problem"] and set(table["problem"]) == {""}
    assert set(table["split"]) <= set(SPLITS) and table["file"].is_unique
    for name in table.columns[4:]:
        assert table[name].dtype == np.int8 and set(table[name]) <= {-1, 1}
    for archive, rows in table.groupby("archive"):
        with zipfile.ZipFile(raw / str(archive)) as opened:
            for name in rows["file"]:
                # CelebA's own zip is kept as it is; what is written here bears no time.
                assert archive == celeba.ARCHIVE or opened.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)
                assert decoding.face(opened.read(name), None, 32, 3).shape == (32, 32, 3)
    return table


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


# The contract's helpers.


@examples
@given(NAMES, NAMES)
def test_a_picture_stays_in_its_split_when_others_come(names: list[str], more: list[str]) -> None:
    alone = dict(zip(names, split_by_name(names), strict=True))
    everything = [*more, *names]
    together = dict(zip(everything, split_by_name(everything), strict=True))
    assert all(together[name] == split for name, split in alone.items())


def test_names_are_split_about_ninety_five_five() -> None:
    counts = Counter(split_by_name([f"picture {i}.jpg" for i in range(20_000)]))
    assert counts["train"] == pytest.approx(18_000, abs=200)
    assert counts["valid"] == pytest.approx(1_000, abs=150)
    assert counts["test"] == pytest.approx(1_000, abs=150)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_only_training_pictures_are_cut_off(split: str) -> None:
    names = [f"{i}.jpg" for i in range(8_000)]
    other = "test" if split == "valid" else "valid"
    table = pd.DataFrame({"file": names, "split": ["train", other] * 4_000})
    result = cut_off(split, table)
    assert all(new == old for new, old in zip(result, table["split"], strict=True) if old == other)
    counts = Counter(result)
    assert counts[other] == 4_000 and counts[split] == pytest.approx(200, abs=70)
    assert counts["train"] + counts[split] == 4_000


@examples
@given(NAMES, st.integers(1, 40))
def test_taking_keeps_the_order_and_more_only_adds(names: list[str], most: int) -> None:
    table = pd.DataFrame({"file": pd.Series(names, dtype="str"), "number": range(len(names))})
    fewer, more = take(table, most), take(table, most + 1)
    assert len(fewer) == min(most, len(names))
    assert set(fewer["file"]) <= set(more["file"])
    assert fewer["number"].tolist() == sorted(fewer["number"]) and list(fewer.index) == list(range(len(fewer)))
    shuffled = take(table.sample(frac=1, random_state=1).reset_index(drop=True), most)
    assert set(shuffled["file"]) == set(fewer["file"])
    assert take(table, None).equals(table)


def test_what_is_taken_is_no_beginning() -> None:
    table = pd.DataFrame({"file": [f"{i:06d}.jpg" for i in range(1000)]})
    numbers = [int(name[:6]) for name in take(table, 100)["file"]]
    assert np.mean(numbers) == pytest.approx(500, abs=100)


def test_what_is_taken_has_the_shares_of_all() -> None:
    """The hash that chooses is not the hash that splits."""
    taken = take(pd.DataFrame({"file": [f"{i}.jpg" for i in range(20_000)]}), 2_000)
    counts = Counter(split_by_name(taken["file"].tolist()))
    assert counts["train"] == pytest.approx(1_800, abs=60)
    assert counts["valid"] == pytest.approx(100, abs=45) and counts["test"] == pytest.approx(100, abs=45)


# Avatars.


@pytest.fixture(scope="module")
def drawn_twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same ten faces, drawn by one worker and by two."""
    root = tmp_path_factory.mktemp("drawn")
    for workers in (1, 2):
        avatars.prepare(root / f"raw{workers}", 10, 1, workers)
    return root / "raw1", root / "raw2"


def test_drawn_bytes_do_not_depend_on_the_number_of_workers(drawn_twice: tuple[Path, Path]) -> None:
    one, two = (contents(raw) for raw in drawn_twice)
    assert set(one) == {file.name for file in celeba.published()} | {"pictures.parquet", "source.json"}
    assert one == two
    with zipfile.ZipFile(drawn_twice[0] / celeba.ARCHIVE) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert Counter(contract(drawn_twice[0])["split"]) == {"train": 8, "valid": 1, "test": 1}


def test_a_face_depends_on_the_seed_and_its_number_alone(raw: Path, drawn_twice: tuple[Path, Path]) -> None:
    few, many = members(drawn_twice[0] / celeba.ARCHIVE), members(raw / celeba.ARCHIVE)
    assert all(many[name] == data for name, data in few.items())
    assert few["img_align_celeba/000004.jpg"] == avatars.jpeg(avatars.face(1, 3))
    columns = [name for name in read_index(raw)[0].columns if name != "split"]
    assert read_index(raw)[0][columns].head(10).equals(read_index(drawn_twice[0])[0][columns])


def test_faces_differ_by_seed_and_by_number() -> None:
    assert len({avatars.face(seed, i) for seed in range(3) for i in range(100)}) == 300
    assert avatars.jpeg(avatars.face(1, 0)) != avatars.jpeg(avatars.face(2, 0))


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    random.seed(1)
    expected = random.random()
    random.seed(1)
    first = avatars.face(7, 7)
    assert random.random() == expected and avatars.face(7, 7) == first


def test_a_face_is_a_jpeg_of_celebas_size() -> None:
    with Image.open(io.BytesIO(avatars.jpeg(avatars.face(1, 0)))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (178, 218))


def test_torchvision_reads_the_drawn_faces_as_celeba(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / CelebA.base_folder
    shutil.copytree(raw, base)
    with zipfile.ZipFile(base / celeba.ARCHIVE) as archive:
        archive.extractall(base)
    monkeypatch.setattr(CelebA, "_check_integrity", lambda self: True)  # it wants the MD5s of the real files
    kinds = ["attr", "identity", "bbox", "landmarks"]
    sizes = {split: len(CelebA(tmp_path, split, kinds, download=False)) for split in ("train", "valid", "test", "all")}
    assert sizes == {"train": 192, "valid": 24, "test": 24, "all": 240}

    table, _ = read_index(raw)
    for split, number in (("train", 5), ("valid", 0), ("test", 23)):
        data = CelebA(tmp_path, split, kinds, download=False)
        picture, (attributes, identity, box, landmarks) = data[number]
        row = table[table["split"] == split].iloc[number]
        i = int(Path(row["file"]).stem) - 1
        expected = avatars.attributes(avatars.face(1, i))
        assert dict(zip(data.attr_names, (2 * attributes - 1).tolist(), strict=False)) == expected
        assert row[4:].to_dict() == expected
        assert identity.item() == i + 1
        assert picture.size == (178, 218)
        x, y, width, height = box.tolist()
        points = landmarks.reshape(5, 2)
        assert all(x < px < x + width and y < py < y + height for px, py in points.tolist())
    assert list(data.attr_names[:40]) == list(expected)


def test_the_hashes_names_and_drive_ids_are_torchvisions() -> None:
    ours = [(file.urls[0].removeprefix(DRIVE), file.digest, file.name) for file in celeba.published()]
    assert sorted(ours) == sorted(CelebA.file_list)


def test_the_users_own_mirror_is_asked_first() -> None:
    for file in celeba.published("http://127.0.0.1:8000/celeba/"):
        assert file.urls[0] == f"http://127.0.0.1:8000/celeba/{file.name}"
        assert file.urls[1].startswith(DRIVE) and len(file.urls) == 2 + len(celeba.MIRRORS)


HAIR = {
    "Black_Hair": {"BLACK"},
    "Blond_Hair": {"BLONDE", "BLONDE_GOLDEN", "PLATINUM"},
    "Brown_Hair": {"AUBURN", "BROWN", "BROWN_DARK"},
    "Gray_Hair": {"SILVER_GRAY"},
}


@pytest.mark.parametrize("seed", [1, 2])
def test_attributes_say_what_is_drawn(seed: int) -> None:
    for i in range(400):
        face = avatars.face(seed, i)
        has = {name for name, value in avatars.attributes(face).items() if value == 1}
        hat, bare = isinstance(face.top, pa.HatType), face.top in (pa.HairType.NONE, pa.HairType.SIDES)
        assert ("Wearing_Hat" in has) == hat
        assert ("Bald" in has) == (face.top is pa.HairType.NONE)
        assert ("Eyeglasses" in has) == (face.glasses is not pa.AccessoryType.NONE)
        assert ("No_Beard" in has) == ("BEARD" not in face.facial_hair.name)
        assert ("Mustache" in has) == ("MOUSTACHE" in face.facial_hair.name)
        assert ("Goatee" in has) <= ("No_Beard" not in has)
        assert ("Smiling" in has) == (face.mouth.name not in ("CONCERNED", "SAD", "SERIOUS"))
        for name, colors in HAIR.items():
            assert (name in has) == (face.hair_color.name in colors and not hat and not bare)


def test_attributes_vary_and_are_celebas_forty() -> None:
    table = pd.DataFrame([avatars.attributes(avatars.face(1, i)) for i in range(2000)])
    assert table.shape[1] == 40 and set(table.to_numpy().ravel()) == {-1, 1}
    shares = (table == 1).mean()
    drawn = shares[shares > 0]
    assert len(drawn) == 19
    assert drawn.between(0.01, 0.9).all()


def pixels(face: avatars.Face) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(Image.open(io.BytesIO(avatars.jpeg(face)))).astype(np.int16)


BARE = avatars.face(1, 0)._replace(
    glasses=pa.AccessoryType.NONE, facial_hair=pa.FacialHairType.NONE, top=pa.HairType.NONE, mouth=pa.MouthType.SERIOUS
)


@pytest.mark.parametrize(
    "part",
    [
        {"glasses": pa.AccessoryType.ROUND},
        {"glasses": pa.AccessoryType.WAYFARERS},
        {"top": pa.HatType.HAT},
        {"top": pa.HatType.TURBAN},
        {"top": pa.HairType.BOB},
        {"top": pa.HairType.SIDES},
        {"facial_hair": pa.FacialHairType.WICK_BEARD},
        {"facial_hair": pa.FacialHairType.MOUSTACHE_FANCY},
        {"mouth": pa.MouthType.SMILE},
        {"nose": pa.NoseType.WIDE},
        {"skin": pa.SkinColor.PALE},
        {"background": "#000000"},
    ],
    ids=lambda part: str(next(iter(part.values()))),
)
def test_what_an_attribute_says_is_seen(part: dict[str, Any]) -> None:
    bare = BARE._replace(nose=pa.NoseType.DEFAULT, skin=pa.SkinColor.BROWN)
    assert np.abs(pixels(bare._replace(**part)) - pixels(bare)).max() > 30


def test_hair_shows_its_colour() -> None:
    for top in (pa.HairType.BOB, pa.HairType.CAESAR, pa.HairType.FRO):
        black, blond = (pixels(BARE._replace(top=top, hair_color=pa.HairColor[n])) for n in ("BLACK", "BLONDE"))
        assert (np.abs(black - blond).max(axis=2) > 50).mean() > 0.02


def where(one: avatars.Face, other: avatars.Face) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Columns and rows of the pixels in which two faces differ."""
    rows, columns = np.nonzero(np.abs(pixels(one) - pixels(other)).max(axis=2) > 40)
    return columns, rows


def middle(values: np.ndarray[Any, Any]) -> float:
    return (int(values.min()) + int(values.max())) / 2


def listed(path: Path) -> list[int]:
    return [int(value) for value in path.read_text().splitlines()[2].split()[1:]]


def test_landmarks_are_where_the_parts_are(raw: Path) -> None:
    points = np.reshape(listed(raw / celeba.LANDMARKS), (5, 2))
    columns, rows = where(BARE._replace(eyes=pa.EyeType.DEFAULT), BARE._replace(eyes=pa.EyeType.SIDE))
    seen = [(middle(columns[side]), middle(rows[side])) for side in (columns < 89, columns >= 89)]
    columns, rows = where(BARE._replace(nose=pa.NoseType.DEFAULT), BARE._replace(nose=pa.NoseType.WIDE))
    seen += [(middle(columns), middle(rows))]
    columns, rows = where(BARE, BARE._replace(mouth=pa.MouthType.DEFAULT))
    seen += [(float(x), middle(rows)) for x in (columns.min(), columns.max())]
    assert np.abs(points - seen).max() < 8, f"listed {points.tolist()}, drawn at {seen}"


def test_the_box_is_around_the_head(raw: Path) -> None:
    left, top, width, height = listed(raw / celeba.BOXES)
    columns, rows = where(BARE._replace(skin=pa.SkinColor.PALE), BARE._replace(skin=pa.SkinColor.BLACK))
    assert abs(top - rows.min()) < 8
    forehead = columns[rows < top + height / 3]
    assert abs(left - forehead.min()) < 8 and abs(left + width - forehead.max()) < 8
    _, mouth = where(BARE, BARE._replace(mouth=pa.MouthType.BIG_SMILE))
    assert mouth.max() < top + height


# CelebA.


def links_work(folder: Path) -> bool:
    """Whether the system has hard links there; else files are copied."""
    (folder / "one").touch()
    try:
        os.link(folder / "one", folder / "two")
    except OSError:
        return False
    return True


NEEDED = {celeba.ARCHIVE, celeba.ATTRIBUTES, celeba.PARTITION}
OTHERS = {file.name for file in celeba.published()} - NEEDED


def test_celeba_is_linked_and_indexed_with_its_own_splits(tmp_path: Path) -> None:
    known = stand_in(tmp_path / "downloads")
    for name in ("a", "b"):
        celeba.prepare(tmp_path / "downloads", tmp_path / name, None, known)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with_links = links_work(tmp_path)
    needed = [file for file in known if file.name in NEEDED]
    assert set(contents(tmp_path / "a")) == {*NEEDED, "pictures.parquet", "source.json"}
    for file in needed:
        linked, kept = tmp_path / "a" / file.name, tmp_path / "downloads" / file.name
        assert linked.samefile(kept) == with_links and not (tmp_path / "b" / file.name).samefile(kept)
        assert linked.read_bytes() == kept.read_bytes()
    table = contract(tmp_path / "a")
    assert table["file"].tolist() == [f"img_align_celeba/{i + 1:06d}.jpg" for i in range(12)]
    assert table["split"].tolist() == ["train", "valid", "test"] * 4
    assert list(table.columns[4:]) == ["Smiling", "Young", "5_o_Clock_Shadow"]
    assert table["Smiling"].tolist() == [1, -1] * 6 and table["Young"].tolist() == [-1, 1] * 6


def test_no_more_pictures_are_taken_than_asked_for(tmp_path: Path) -> None:
    known = stand_in(tmp_path / "downloads")
    celeba.prepare(tmp_path / "downloads", tmp_path / "raw", 5, known)
    assert len(contract(tmp_path / "raw")) == 5


def test_celeba_is_fetched_where_it_is_missing(server: StandIn, tmp_path: Path) -> None:
    known = stand_in(tmp_path / "downloads")
    celeba.prepare(tmp_path / "downloads", tmp_path / "a", None, known)
    server.faults = ["500", "cut", "none", "stall"]
    celeba.prepare(tmp_path / "new", tmp_path / "b", None, moved(tmp_path / "downloads", server), HASTY)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("absent", sorted(NEEDED))
def test_a_missing_file_of_celeba_that_nobody_has_is_named(tmp_path: Path, absent: str) -> None:
    known = stand_in(tmp_path / "downloads", 1)
    (tmp_path / "downloads" / absent).unlink()
    with pytest.raises(UserError, match=absent.replace(".", r"\.")) as error:
        celeba.prepare(tmp_path / "downloads", tmp_path / "raw", None, known, HASTY)
    assert all(name not in str(error.value) for name in (NEEDED | OTHERS) - {absent})
    assert celeba.SOURCE.url in str(error.value) and not (tmp_path / "raw").exists()
    for way in ("`dcgan data link FOLDER`", "Kaggle's", "`dataset: folder`"):
        assert way in str(error.value)


def test_what_the_pipeline_does_not_read_may_be_missing_or_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = stand_in(tmp_path / "downloads", 3)
    celeba.prepare(tmp_path / "downloads", tmp_path / "a", None, known)
    (tmp_path / "downloads" / celeba.LANDMARKS).unlink()
    (tmp_path / "downloads" / celeba.BOXES).write_text("<html><title>Quota</title></html>")
    capsys.readouterr()
    celeba.prepare(tmp_path / "downloads", tmp_path / "b", None, known, HASTY)
    said = [line for line in capsys.readouterr().err.splitlines() if "the pipeline does not need it" in line]
    assert len(said) == 2 and any(celeba.LANDMARKS in line for line in said) and any("“Quota”" in line for line in said)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("wrong", sorted(NEEDED))
def test_a_file_that_is_not_celebas_is_named(tmp_path: Path, wrong: str) -> None:
    known = stand_in(tmp_path / "downloads", 1)
    content = (tmp_path / "downloads" / wrong).read_bytes()
    (tmp_path / "downloads" / wrong).write_bytes(content[:-1] + b"!")
    with pytest.raises(UserError, match=rf"{wrong}: it is not the published file .its MD5 is "):
        celeba.prepare(tmp_path / "downloads", tmp_path / "raw", None, known)


def test_a_stand_in_is_not_taken_for_celeba(tmp_path: Path) -> None:
    stand_in(tmp_path / "downloads", 1)
    with pytest.raises(UserError, match=r"it has .* bytes, not 1,443,490,838"):
        celeba.prepare(tmp_path / "downloads", tmp_path / "raw", None, celeba.published())


@pytest.mark.parametrize("name", [celeba.ATTRIBUTES, celeba.PARTITION])
@pytest.mark.parametrize("change", ["less", "more"])
def test_rows_and_pictures_that_do_not_match_are_named_and_not_used(tmp_path: Path, name: str, change: str) -> None:
    stand_in(tmp_path / "downloads")
    path = tmp_path / "downloads" / name
    lines = path.read_text().splitlines()
    lines = lines[:-1] if change == "less" else [*lines, lines[-1].replace("000012.jpg", "000013.jpg")]
    path.write_text("\n".join(lines) + "\n")
    celeba.prepare(tmp_path / "downloads", tmp_path / "raw", None, published(tmp_path / "downloads"))
    found = packing.pack(tmp_path / "raw", tmp_path / "faces", None, 32, 3, 0.1)
    card = data_card.describe(tmp_path / "raw", tmp_path / "faces", found, {})
    odd, place = ("000012", name) if change == "less" else ("000013", celeba.ARCHIVE)
    assert card["bad"] == [{"file": f"img_align_celeba/{odd}.jpg", "reason": f"it is not in {place}"}]
    assert sum(card["faces"].values()) == (11 if change == "less" else 12)


# The user's own folder.


def own_pictures(root: Path) -> Path:
    for i, name in enumerate(["b.JPG", "a.png", "deep/er/c.webp", "deep/a.bmp", "Ünïcödé ☺.tiff"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        form = {"jpg": "JPEG", "tiff": "TIFF"}.get(name.rpartition(".")[2].lower(), name.rpartition(".")[2])
        (root / name).write_bytes(encoded(form, i))
    (root / ".gitkeep").touch()
    (root / "table.csv").write_text("1")
    return root


def test_the_inventory_lists_pictures_with_their_hashes(tmp_path: Path) -> None:
    pictures, inventory = own_pictures(tmp_path / "folder"), tmp_path / "folder.parquet"
    folder.write_inventory(pictures, inventory)
    table = pd.read_parquet(inventory)
    (other,) = table[table["problem"] != ""].to_dict("records")
    assert other == {"file": "table.csv", "sha256": "", "problem": NOT_A_PICTURE}
    table = table[table["problem"] == ""]
    assert set(table["file"]) == {"a.png", "b.JPG", "deep/a.bmp", "deep/er/c.webp", "Ünïcödé ☺.tiff"}
    for name, found in zip(table["file"], table["sha256"], strict=True):
        assert found == hashlib.sha256((pictures / name).read_bytes()).hexdigest()
    before = inventory.read_bytes()
    folder.write_inventory(pictures, inventory)
    assert inventory.read_bytes() == before


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer"])
def test_a_changed_picture_changes_the_inventory_and_no_other_file_does(tmp_path: Path, change: str) -> None:
    pictures, inventory = own_pictures(tmp_path / "folder"), tmp_path / "folder.parquet"
    folder.write_inventory(pictures, inventory)
    before = inventory.read_bytes()
    (pictures / ".gitkeep").write_text("changed")
    (pictures / "table.csv").write_text("another table")
    folder.write_inventory(pictures, inventory)
    assert inventory.read_bytes() == before
    match change:
        case "content":
            (pictures / "a.png").write_bytes(encoded("PNG", 99))
        case "name":
            (pictures / "a.png").rename(pictures / "z.png")
        case "more":
            (pictures / "z.png").write_bytes(encoded("PNG", 99))
        case "fewer":
            (pictures / "a.png").unlink()
    folder.write_inventory(pictures, inventory)
    assert inventory.read_bytes() != before


def test_another_data_set_has_an_empty_inventory(tmp_path: Path) -> None:
    links.write_list(tmp_path / "folder.parquet", None)
    assert pd.read_parquet(tmp_path / "folder.parquet").empty and links.read_list(tmp_path / "folder.parquet") is None


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".gitkeep").touch()
    with pytest.raises(UserError, match=r"folder needs pictures in .*folder.*PNG"):
        folder.write_inventory(tmp_path / "folder", tmp_path / "folder.parquet")
    assert not (tmp_path / "folder.parquet").exists()


def test_own_pictures_are_packed_byte_for_byte(tmp_path: Path) -> None:
    pictures, inventory = own_pictures(tmp_path / "folder"), tmp_path / "folder.parquet"
    folder.write_inventory(pictures, inventory)
    for name in ("a", "b"):
        folder.prepare(pictures, inventory, tmp_path / name, None)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    table = contract(tmp_path / "a")
    assert table["split"].tolist() == split_by_name(table["file"].tolist())
    packed = members(tmp_path / "a" / folder.ARCHIVE)
    assert packed == {name: (pictures / name).read_bytes() for name in table["file"]} and len(packed) == 5


def test_a_name_that_is_no_text_is_counted(tmp_path: Path) -> None:
    pictures = own_pictures(tmp_path / "folder")
    (pictures / os.fsdecode(b"caf\xe9.jpg")).write_bytes(encoded("JPEG", 9))
    folder.write_inventory(pictures, tmp_path / "inventory.parquet")
    folder.prepare(pictures, tmp_path / "inventory.parquet", tmp_path / "raw", None)
    assert len(contract(tmp_path / "raw")) == 5
    (counted,) = [kind for kind in read_left_out(tmp_path / "raw").passed_over if kind["ending"] == ".jpg"]
    assert counted["files"] == 1 and "not UTF-8" in counted["reason"] and counted["first"] == r"caf\xe9.jpg"


def test_a_picture_that_has_gone_is_named(tmp_path: Path) -> None:
    own = own_pictures(tmp_path / "folder")
    folder.write_inventory(own, tmp_path / "inventory.parquet")
    (own / "a.png").unlink()
    with pytest.raises(UserError, match=r"a\.png: it was changed or removed"):
        folder.prepare(own, tmp_path / "inventory.parquet", tmp_path / "raw", None)


def test_own_pictures_that_are_not_taken_are_not_packed(tmp_path: Path) -> None:
    pictures, inventory = own_pictures(tmp_path / "folder"), tmp_path / "folder.parquet"
    folder.write_inventory(pictures, inventory)
    folder.prepare(pictures, inventory, tmp_path / "raw", 2)
    table = contract(tmp_path / "raw")
    assert len(table) == 2 and set(members(tmp_path / "raw" / folder.ARCHIVE)) == set(table["file"])


def test_a_file_that_is_a_link_to_somewhere_else_is_taken(tmp_path: Path) -> None:
    known = stand_in(tmp_path / "downloads")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "downloads" / celeba.ARCHIVE).rename(tmp_path / "elsewhere" / celeba.ARCHIVE)
    (tmp_path / "downloads" / celeba.ARCHIVE).symlink_to(Path("..") / "elsewhere" / celeba.ARCHIVE)
    celeba.prepare(tmp_path / "downloads", tmp_path / "deep" / "raw", None, known)
    assert len(contract(tmp_path / "deep" / "raw")) == 12
    assert not (tmp_path / "deep" / "raw" / celeba.ARCHIVE).is_symlink()


@pytest.mark.parametrize(
    "mirror",
    ["me:hush@host/x", "hush", "http://u:hu/sh@h", "http://u:hu?sh@h/x", "http://[hush", "ftp://hush", "http:///hush"],
)
def test_a_mirror_that_is_no_address_is_named_and_not_shown(mirror: str) -> None:
    with pytest.raises(UserError, match="CELEBA_MIRROR: it must be") as error:
        celeba.published(mirror)
    assert "hu" not in str(error.value).replace("unset", "")


# CIFAR-10.


def cifar(downloads: Path, each: int = 40) -> tuple[dict[str, Any], File]:
    """A tar of the published form with random pictures; they, and the tar."""
    downloads.mkdir()
    rng = np.random.default_rng(0)
    known: dict[str, Any] = {}
    with tarfile.open(downloads / cifar10.PUBLISHED.name, "w:gz") as tar:
        for name in ("data_batch_2", "data_batch_1", "test_batch"):
            labels = rng.integers(0, 10, each, dtype=np.uint8)
            planes = rng.integers(0, 256, (each, 3, 32, 32), dtype=np.uint8)
            data = np.concatenate([labels[:, None], planes.reshape(each, -1)], axis=1).tobytes()
            known[name] = labels, planes
            add(tar, f"cifar-10-batches-bin/{name}.bin", data)
        add(tar, "cifar-10-batches-bin/batches.meta.txt", "\n".join(cifar10.CLASSES).encode())
        add(tar, "cifar-10-batches-bin/readme.html", b"<html></html>")
    return known, published(downloads)[0]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def test_cifar10_keeps_every_pixel_and_label(tmp_path: Path) -> None:
    known, file = cifar(tmp_path / "downloads")
    for name in ("a", "b"):
        cifar10.prepare(tmp_path / "downloads", tmp_path / name, None, file)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    table = contract(tmp_path / "a")
    assert list(table.columns[4:]) == cifar10.CLASSES
    packed = members(tmp_path / "a" / cifar10.ARCHIVE)
    assert len(table) == len(packed) == 120
    for row in table.to_dict("records"):
        batch, number = row["file"].removesuffix(".png").split("/")
        labels, planes = known[batch]
        i = int(number)
        picture = Image.open(io.BytesIO(packed[row["file"]]))
        assert np.array_equal(np.asarray(picture).transpose(2, 0, 1), planes[i])
        assert [name for name in cifar10.CLASSES if row[name] == 1] == [cifar10.CLASSES[labels[i]]]
        assert (row["split"] == "test") == (batch == "test_batch")
    counts = Counter(table["split"])
    assert counts["test"] == 40 and 0 < counts["valid"] < 12


def test_cifar10_takes_no_more_than_asked_for(tmp_path: Path) -> None:
    _, file = cifar(tmp_path / "downloads", each=4)
    cifar10.prepare(tmp_path / "downloads", tmp_path / "raw", 5, file)
    assert len(contract(tmp_path / "raw")) == 5


def test_cifar10_is_fetched_where_it_is_missing(server: StandIn, tmp_path: Path) -> None:
    _, file = cifar(tmp_path / "downloads", each=4)
    cifar10.prepare(tmp_path / "downloads", tmp_path / "a", None, file)
    server.faults = ["cut"]
    cifar10.prepare(tmp_path / "new", tmp_path / "b", None, moved(tmp_path / "downloads", server)[0], HASTY)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_wrong_cifar10_is_named(tmp_path: Path) -> None:
    cifar(tmp_path / "downloads", each=1)
    with pytest.raises(UserError, match=r"tar\.gz: it is not the published file \(it has .* bytes, not 170,052,171\)"):
        cifar10.prepare(tmp_path / "downloads", tmp_path / "raw", None)
    assert not (tmp_path / "raw").exists()


# LSUN.


def lsun_zip(path: Path, pictures: dict[str, bytes]) -> None:
    """A zip of an LMDB, as the authors publish it."""
    database = path.parent / path.stem
    with lmdb.open(str(database), map_size=2**22) as environment, environment.begin(write=True) as write:
        for key, data in pictures.items():
            write.put(key.encode(), data)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}/", b"")
        for name in ("data.mdb", "lock.mdb"):
            archive.write(database / name, f"{path.stem}/{name}")
    shutil.rmtree(database)


def churches(downloads: Path) -> tuple[dict[str, dict[str, bytes]], dict[str, File]]:
    """Zips of the published form; their pictures, and they."""
    downloads.mkdir()
    pictures = {
        "train": {hashlib.sha1(bytes([i])).hexdigest(): encoded("WebP", i) for i in range(60)},
        "valid": {hashlib.sha1(bytes([i])).hexdigest(): encoded("WebP", i) for i in range(100, 105)},
    }
    for split, file in lsun.PUBLISHED.items():
        lsun_zip(downloads / file.name, pictures[split])
    return pictures, by_split(published(downloads))


def by_split(files: list[File]) -> dict[str, File]:
    return {split: next(f for f in files if f.name == file.name) for split, file in lsun.PUBLISHED.items()}


def test_lsun_is_copied_byte_for_byte(tmp_path: Path) -> None:
    pictures, files = churches(tmp_path / "downloads")
    for name in ("a", "b"):
        lsun.prepare(tmp_path / "downloads", tmp_path / name, None, files)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert set(contents(tmp_path / "a")) == {lsun.ARCHIVE, "pictures.parquet", "source.json"}  # the database is gone
    expected = {f"{split}/{key}.webp": data for split, some in pictures.items() for key, data in some.items()}
    assert members(tmp_path / "a" / lsun.ARCHIVE) == expected
    table = contract(tmp_path / "a")
    assert set(table["file"]) == set(expected)
    in_train = table["file"].str.startswith("train/")
    assert (table["split"][~in_train] == "valid").all() and "valid" not in set(table["split"][in_train])
    assert table["split"][in_train].tolist() == cut_off("test", table.assign(split="train"))[: in_train.sum()]


def test_lsun_takes_no_more_than_asked_for(tmp_path: Path) -> None:
    _, files = churches(tmp_path / "downloads")
    lsun.prepare(tmp_path / "downloads", tmp_path / "raw", 7, files)
    assert len(contract(tmp_path / "raw")) == 7


def test_lsun_is_fetched_where_it_is_missing(server: StandIn, tmp_path: Path) -> None:
    _, files = churches(tmp_path / "downloads")
    lsun.prepare(tmp_path / "downloads", tmp_path / "a", None, files)
    server.faults = ["none", "429"]
    lsun.prepare(tmp_path / "new", tmp_path / "b", None, by_split(moved(tmp_path / "downloads", server)), HASTY)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_damaged_file_of_lsun_is_named(tmp_path: Path, split: str) -> None:
    _, files = churches(tmp_path / "downloads")
    path = tmp_path / "downloads" / files[split].name
    content = path.read_bytes()
    path.write_bytes(content[:200] + b"\xff" * 300 + content[500:])
    with pytest.raises(UserError, match=rf"{path.name}: it is not the published file \(its MD5 is"):
        lsun.prepare(tmp_path / "downloads", tmp_path / "raw", None, files)
    assert not (tmp_path / "raw").exists()


def test_the_published_hashes_are_hashes() -> None:
    for file in (*lsun.PUBLISHED.values(), cifar10.PUBLISHED, *celeba.published()):
        assert len(bytes.fromhex(file.digest)) in (16, 32) and file.size > 10**6
        assert all(url.endswith(file.name) or url.startswith(DRIVE) for url in file.urls)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_file_that_is_also_elsewhere_is_copied(tmp_path: Path, kind: str) -> None:
    """DVC may make the new file read-only, and every other name of the same file with it."""
    (tmp_path / "mine").write_bytes(b"bytes")
    kept = tmp_path / "kept"
    if kind == "symbolic":
        kept.symlink_to(tmp_path / "mine")
    elif not links_work(tmp_path):
        pytest.skip("needs hard links")
    else:
        os.link(tmp_path / "mine", kept)
    link_or_copy(kept, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"bytes" and not (tmp_path / "target").is_symlink()
    assert not (tmp_path / "target").samefile(tmp_path / "mine")
