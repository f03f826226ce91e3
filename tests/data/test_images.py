"""Packed pictures: mapped into memory, laid out as grids, saved, animated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dcgan.data import images
from dcgan.data.index import SPLITS
from dcgan.system.errors import UserError

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


# Too few to train on.


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[st.integers(0, 4)] * 3).filter(any), st.sampled_from(["train", "all"]), st.integers(2, 14))
def test_what_is_said_of_too_few_pictures_helps(
    tmp_path: Path, counts: tuple[int, int, int], split: str, batch_size: int
) -> None:
    np.save(tmp_path / "faces.npy", np.zeros((sum(counts), 2, 2, 1), np.uint8))
    of_all = [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    pd.DataFrame({"split": of_all}).to_parquet(tmp_path / "faces.parquet")
    chosen = sum(counts) if split == "all" else counts[0]
    if chosen >= batch_size:
        assert len(images.open_for_training(tmp_path, split, batch_size)) == chosen
        return
    with pytest.raises(UserError) as error:
        images.open_for_training(tmp_path, split, batch_size)
    said, remedy = str(error.value).split("; ")
    assert said.startswith(
        f"train_split: {split} has {chosen} of the {sum(counts)} pictures (train {counts[0]}, valid "
    )
    if sum(counts) < 2:
        assert remedy == "add pictures to the data set."
        return
    for way in remedy.split(" or "):
        lowered = re.search(r"batch_size to at most (\d+)", way)
        split = "all" if "train_split: all" in way else split
        batch_size = int(lowered[1]) if lowered else batch_size
        assert batch_size >= 2 and len(images.open_for_training(tmp_path, split, batch_size)) >= batch_size
