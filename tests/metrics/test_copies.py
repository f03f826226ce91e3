"""Copies of training faces: the count against simulations, and the search on altered copies of pictures."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from dcgan.metrics.collecting import of_faces
from dcgan.metrics.copies import Search, Training, count_copies, search, threshold
from dcgan.metrics.neighbours import Features
from dcgan.metrics.small_pictures import nearest_faces, small, small_pictures

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**31)
pytestmark = pytest.mark.usefixtures("one_thread")


# The count.


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 300), st.integers(400, 800), st.floats(0, 1))
def test_the_share_is_that_of_the_faces_up_to_the_threshold_and_in_its_interval(
    seed: int, n: int, m: int, copied: float
) -> None:
    random = np.random.default_rng(seed)
    unseen, made = random.gamma(9, size=m), random.gamma(9, size=n) * (random.random(n) > copied)
    found = count_copies(made, unseen)
    if found.share is None or found.low is None or found.high is None:
        assert found == (None, None, None, "cannot tell")
        return
    assert found.share == np.mean(made <= threshold(unseen))
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert found.verdict == ("copies" if found.low > 0.01 else "no copies found")


def test_the_interval_holds_the_share_of_a_perfect_generator() -> None:
    random = np.random.default_rng(0)
    found = [count_copies(random.gamma(9, size=600), random.gamma(9, size=500)) for _ in range(60)]
    told = [each for each in found if each.low is not None and each.high is not None]
    assert len(told) >= 57
    assert sum(each.low <= 0.01 <= each.high for each in told) >= 57  # type: ignore[operator]
    assert np.mean([each.share for each in told]) == pytest.approx(0.01, abs=0.002)


@pytest.mark.parametrize(
    ("share", "factor", "verdict"),
    [(0, 1, "no copies found"), (0.1, 1, "copies"), (0, 2, "cannot tell"), (0.1, 2, "copies"), (1, 1, "copies")],
)
def test_far_faces_are_not_called_safe_and_do_not_hide_copies(share: float, factor: float, verdict: str) -> None:
    random = np.random.default_rng(1)
    made = random.gamma(9, size=1000) * factor * (np.arange(1000) >= 1000 * share)
    assert count_copies(made, random.gamma(9, size=1000)).verdict == verdict


# The search.


def scenes(count: int, seed: int, channels: int = 3) -> Pixels:
    """Pictures of 64x64 of four rectangles of random colours on another."""
    random = np.random.default_rng(seed)
    pictures = np.empty((count, 64, 64, channels), np.uint8)
    for picture in pictures:
        picture[:] = random.integers(0, 256, channels)
        for top, left, height, width in random.integers((0, 0, 10, 10), (50, 50, 40, 40), (4, 4)):
            picture[top : top + height, left : left + width] = random.integers(0, 256, channels)
    return pictures


def noisy(pictures: Pixels, levels: int) -> Pixels:
    noise = np.random.default_rng(0).integers(-levels, levels + 1, pictures.shape)
    return (pictures + noise).clip(0, 255).astype(np.uint8)


def one_by_one(change: Callable[[Image.Image], Image.Image]) -> Callable[[Pixels], Pixels]:
    return lambda pictures: np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file)


ALTERED: dict[str, Callable[[Pixels], Pixels]] = {
    "exact": lambda x: x,
    "noise of 1 level": lambda x: noisy(x, 1),
    "noise of 4 levels": lambda x: noisy(x, 4),
    "blur of 1": one_by_one(lambda image: image.filter(ImageFilter.GaussianBlur(1))),
    "blur of 2": one_by_one(lambda image: image.filter(ImageFilter.GaussianBlur(2))),
    "JPEG 75": one_by_one(jpeg),
    "shifted": lambda x: np.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)), "edge")[:, :-1, :-1],
    "mirrored": lambda x: x[:, :, ::-1],
    "a tenth darker": lambda x: (x * 0.9).round().astype(np.uint8),
}
TRAINING = Training(scenes(600, 0), scenes(450, 1), scenes(450, 2))


def searched(made: Pixels) -> Search:
    return search(of_faces(made), len(made), TRAINING, 3, CPU)


@pytest.fixture(scope="module")
def known() -> Features:
    return small_pictures(of_faces(TRAINING.faces), 600, CPU)


@pytest.fixture(scope="module")
def limit(known: Features) -> float:
    return threshold(nearest_faces(of_faces(TRAINING.valid), 450, known, 1, CPU)[1][:, 0])


@pytest.mark.parametrize("kind", ALTERED)
def test_altered_copies_are_found_beside_their_originals(kind: str, known: Features, limit: float) -> None:
    altered = ALTERED[kind](TRAINING.faces[:100])
    rows, apart = nearest_faces(of_faces(altered), 100, known, 3, CPU)
    assert np.array_equal(rows[:, 0], np.arange(100))
    assert (apart[:, 0] <= limit).mean() >= 0.9
    assert (np.diff(apart, axis=1) >= 0).all()


@pytest.mark.parametrize(("kind", "share"), [("shifted", 0.4), ("blur of 2", 0.4), ("mirrored", 0.01)])
def test_shifts_blurs_and_mirroring_count_little(kind: str, share: float, known: Features) -> None:
    altered = ALTERED[kind](TRAINING.faces[:100])
    plain = np.linalg.norm(small_pictures(of_faces(altered), 100, CPU) - known[:100], axis=1)
    apart = nearest_faces(of_faces(altered), 100, known, 1, CPU)[1][:, 0]
    assert np.median(apart / plain) < share


def test_half_of_a_half_copying_generators_faces_are_copies() -> None:
    found = searched(np.concatenate([noisy(TRAINING.faces[:225], 2), scenes(225, 3)]))
    assert found.metrics["copies"] == pytest.approx(0.5, abs=0.05)
    assert found.metrics["copies_floor"] == pytest.approx(0.01, abs=0.015)
    assert found.protocol == {
        "samples_of_copies": 450, "valid_of_copies": 450, "test_of_copies": 450, "copies_verdict": "copies"
    }  # fmt: skip


def test_a_generator_far_from_all_data_is_not_called_safe() -> None:
    found = searched(np.random.default_rng(0).integers(0, 256, (400, 64, 64, 3), np.uint8))
    assert found.protocol["copies_verdict"] == "cannot tell" and found.metrics["copies"] is None


def test_too_few_faces_have_no_number_and_still_neighbours() -> None:
    found = searched(TRAINING.faces[:399])
    assert found.metrics == {} and found.protocol["copies_verdict"] is None
    assert np.array_equal(found.rows[:, 0], np.arange(399)) and found.rows.shape == (399, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_without_contrast_are_as_far_from_all(channels: int) -> None:
    known = small_pictures(of_faces(scenes(40, 0, channels)), 40, CPU)
    flat = np.full((5, 64, 64, channels), 77, np.uint8)
    assert not small(torch.from_numpy(flat)).isnan().any()
    assert np.isfinite(nearest_faces(of_faces(flat), 5, known, 50, CPU)[1]).all()


@pytest.mark.parametrize("size", [32, 128])
def test_small_pictures_of_other_sizes_are_about_the_same(size: int) -> None:
    pictures = scenes(20, 0)
    resized = one_by_one(lambda image: image.resize((size, size), Image.Resampling.BOX))(pictures)
    known = small_pictures(of_faces(pictures), 20, CPU)
    rows, apart = nearest_faces(of_faces(resized), 20, known, 1, CPU)
    assert np.array_equal(rows[:, 0], np.arange(20)) and apart.max() < 0.02
