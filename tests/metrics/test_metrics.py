"""Moments and distances against mathematics and pytorch-fid; feature networks against damaged faces."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from pytorch_fid import fid_score, inception
from standin import StandIn
from torch import Tensor, nn

from dcgan import networks
from dcgan.data import images
from dcgan.data.fetching import File, Patience
from dcgan.metrics import (
    copies,
    evaluation,
    feature_networks,
    kernel,
    least_counts,
    neighbours,
    reference,
    scores,
    small_pictures,
    weights,
)
from dcgan.metrics.collecting import collect, of_faces
from dcgan.metrics.feature_networks import FeatureNetwork
from dcgan.metrics.frechet import Moments, Statistics, frechet_distance, merge
from dcgan.metrics.left_out import left_out
from dcgan.metrics.quick import quick_distance
from dcgan.metrics.reference import References
from dcgan.sampling import draw_latents, generated, random_state
from dcgan.system.choices import FidNetwork
from dcgan.system.errors import UserError
from dcgan.system.files import sha256, significant

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**31)
examples = settings(deadline=None, max_examples=25)


pytestmark = pytest.mark.usefixtures("one_thread")


def moments(*batches: npt.NDArray[Any]) -> Statistics:
    collected = Moments()
    for batch in batches:
        collected.add(torch.from_numpy(batch))
    return collected.statistics()


def assert_same(a: Statistics, b: Statistics) -> None:
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-7, atol=1e-8)


# Moments.


@examples
@given(SEEDS, st.integers(2, 60), st.integers(1, 6), st.data(), st.sampled_from([0.0, 1.0, 1e4, -1e6]))
def test_moments_are_numpys_however_the_features_are_batched(
    seed: int, n: int, d: int, data: st.DataObject, offset: float
) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, d)) @ random.normal(size=(d, d)) + offset
    cuts = sorted(data.draw(st.lists(st.integers(1, n - 1), unique=True, max_size=5)))
    expected = Statistics(n, features.mean(axis=0), np.cov(features, rowvar=False).reshape(d, d))
    assert_same(moments(*np.split(features, cuts)), expected)


def test_single_precision_features_with_a_large_mean_lose_no_digits() -> None:
    """What raw second moments in float32, or even in float64, would get wrong."""
    features = (np.random.default_rng(0).normal(size=(500, 4)) + 5000).astype(np.float32)
    expected = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(moments(*np.split(features, 10)).covariance, expected, rtol=1e-9, atol=1e-12)


def test_collecting_changes_no_features() -> None:
    features = np.random.default_rng(0).normal(size=(5, 3))
    before = features.copy()
    moments(features.astype(np.float64), features)
    assert np.array_equal(features, before)


@examples
@given(SEEDS, st.lists(st.integers(2, 20), min_size=1, max_size=4), st.sampled_from([0.0, 1e4]))
def test_merged_statistics_are_those_of_all_at_once(seed: int, sizes: list[int], offset: float) -> None:
    random = np.random.default_rng(seed)
    parts = [random.normal(i, 1 + i, size=(n, 3)) + offset for i, n in enumerate(sizes)]
    assert_same(merge(moments(part) for part in parts), moments(np.concatenate(parts)))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_features_have_no_covariance(count: int) -> None:
    with pytest.raises(UserError, match=rf"at least 2 pictures, and there are {count}"):
        moments(*[np.zeros((1, 3))] * count)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [True, False])
def test_features_that_are_not_finite_are_refused(value: float, first: bool) -> None:
    broken = np.array([[1.0, value], [0.0, 1.0]])
    good = np.array([[1.0, 2.0], [0.0, 1.0]])
    with np.errstate(invalid="ignore"), pytest.raises(UserError, match="not finite"):
        moments(*([broken, good] if first else [good, broken]))


# The distance.


def gaussian(mean: npt.ArrayLike, covariance: npt.ArrayLike, count: int = 100) -> Statistics:
    return Statistics(count, np.asarray(mean, np.float64), np.asarray(covariance, np.float64))


def drawn(seed: int, d: int, n: int) -> Statistics:
    random = np.random.default_rng(seed)
    return moments(random.normal(size=(n, d)) @ random.normal(size=(d, d)) + random.normal(size=d))


@examples
@given(st.floats(-50, 50), st.floats(0, 20), st.floats(-50, 50), st.floats(0, 20))
def test_two_normal_distributions_on_a_line(m1: float, s1: float, m2: float, s2: float) -> None:
    distance = frechet_distance(gaussian([m1], [[s1**2]]), gaussian([m2], [[s2**2]]))
    assert distance == pytest.approx((m1 - m2) ** 2 + (s1 - s2) ** 2, rel=1e-9, abs=1e-9)


@examples
@given(SEEDS, st.integers(1, 8))
def test_covariances_with_the_same_axes(seed: int, d: int) -> None:
    """They commute: the distance is that of the standard deviations along the axes."""
    random = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(random.normal(size=(d, d)))
    s1, s2, m1, m2 = random.uniform(0.1, 3, (4, d))
    a, b = gaussian(m1, (axes * s1**2) @ axes.T), gaussian(m2, (axes * s2**2) @ axes.T)
    expected = np.sum((m1 - m2) ** 2) + np.sum((s1 - s2) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@examples
@given(SEEDS, st.integers(1, 20), st.integers(2, 40))
def test_the_distance_is_symmetric_zero_to_itself_and_never_negative(seed: int, d: int, n: int) -> None:
    a, b = drawn(seed, d, n), drawn(seed + 1, d, n + 3)
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    scale = float(np.trace(a.covariance) + np.trace(b.covariance)) + 1
    assert there == pytest.approx(back, rel=1e-6, abs=1e-6 * scale)
    assert abs(frechet_distance(a, a)) < 1e-6 * scale
    assert there > 0


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.sampled_from([2, 16, 64]))
def test_the_distance_is_pytorch_fids(seed: int, d: int) -> None:
    a, b = drawn(seed, d, 20 * d), drawn(seed + 1, d, 20 * d)
    theirs = fid_score.calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert frechet_distance(a, b) == pytest.approx(float(theirs), rel=1e-6)


@examples
@given(SEEDS, st.integers(2, 6), st.integers(10, 60))
def test_features_in_a_subspace_have_the_distance_that_they_have_there(seed: int, k: int, d: int) -> None:
    """Fewer samples than dimensions: singular covariances, and a right answer that is known."""
    random = np.random.default_rng(seed)
    into, _ = np.linalg.qr(random.normal(size=(d, k)))
    x, y = random.normal(size=(40, k)), random.normal(1, 2, size=(50, k))
    expected = frechet_distance(moments(x), moments(y))
    assert frechet_distance(moments(x @ into.T), moments(y @ into.T)) == pytest.approx(expected, rel=1e-6)


def test_the_distance_to_a_single_point_is_the_mean_square() -> None:
    """E|x - p|^2, with the unbiased variance: what plain grey pictures get."""
    a = drawn(0, 5, 30)
    point = np.arange(5.0)
    expected = np.trace(a.covariance) + np.sum((a.mean - point) ** 2)
    assert frechet_distance(a, gaussian(point, np.zeros((5, 5)))) == pytest.approx(expected)
    assert frechet_distance(gaussian(point, np.zeros((5, 5))), a) == pytest.approx(expected)


def in_forty_digits(a: Array, b: Array) -> float:
    """The distance of two sets of features: tr (S1 S2)^(1/2) is the nuclear norm of A B^T, of centred features."""
    with mpmath.workdps(40):
        sides = [mpmath.matrix(x.tolist()) for x in (a, b)]
        means = [mpmath.matrix([[mpmath.fsum(x.column(j)) / x.rows for j in range(x.cols)]]) for x in sides]
        for x, mean in zip(sides, means, strict=True):
            for i, j in np.ndindex(x.rows, x.cols):
                x[i, j] = (x[i, j] - mean[j]) / mpmath.sqrt(x.rows - 1)
        nuclear = mpmath.fsum(mpmath.svd_r(sides[0] * sides[1].T, compute_uv=False))
        parts = [mpmath.fsum(y**2 for y in x) for x in (means[0] - means[1], *sides)]
        return float(mpmath.fsum(parts) - 2 * nuclear)


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.integers(2, 8), st.integers(2, 10), st.sampled_from([1e-3, 0.1, 1]), st.booleans())
def test_the_distance_of_few_features_is_exact(seed: int, n: int, m: int, change: float, alike: bool) -> None:
    """Also where one side has more features than dimensions, and of sets that are nearly equal."""
    random, d = np.random.default_rng(seed), 8
    a = random.normal(size=(n, d)) * np.logspace(0, -3, d) + 1
    b = random.normal(size=(m, d)) * np.logspace(0, -3, d) + 1
    if alike:
        b = a.copy()
        b[-1] += change * random.normal(size=d)
    traces = a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum()
    expected = in_forty_digits(a, b)
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=0, abs=1e-13 * traces)
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(expected, rel=0, abs=1e-13 * traces)


@examples
@given(SEEDS, st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_features_are_kept_while_they_are_few(seed: int, sizes: list[int]) -> None:
    parts = [np.random.default_rng(seed + i).normal(size=(n, 8)) for i, n in enumerate(sizes)]
    together = np.concatenate(parts)
    for kept in (moments(*parts).features, merged(parts).features):
        assert (kept is None) == (len(together) > 8)
        assert kept is None or np.array_equal(kept, together)


def merged(parts: list[Array]) -> Statistics:
    collected = [Moments() for _ in parts]
    for one, part in zip(collected, parts, strict=True):
        one.add(torch.from_numpy(part))
    return merge(one.statistics(least=1) for one in collected)


# Efficientnet on real faces and damaged ones.


@pytest.fixture(scope="module")
def efficientnet() -> FeatureNetwork:
    return feature_networks.load("efficientnet_lite0", weights.packaged(), CPU)


@pytest.fixture(scope="module")
def ruler() -> FeatureNetwork:
    """The network that params.yaml names."""
    return feature_networks.load("efficientnet_lite0_dithered", weights.packaged(), CPU)


def statistics(network: FeatureNetwork, pictures: Pixels) -> Statistics:
    return collect(network, of_faces(pictures), len(pictures), "pictures")


def features(network: FeatureNetwork, pictures: Pixels) -> Array:
    found = np.empty((len(pictures), network.dimensions), np.float32)
    collect(network, of_faces(pictures), len(pictures), "pictures", found)
    return found.astype(np.float64)


def shown(network: FeatureNetwork, pictures: Pixels) -> npt.NDArray[np.float32]:
    """The features of one batch."""
    return network.features(torch.from_numpy(np.ascontiguousarray(pictures))).numpy()


@pytest.fixture(scope="module")
def train_features(faces: Path, ruler: FeatureNetwork) -> Array:
    return features(ruler, np.asarray(images.open_faces(faces, "train")))


@pytest.fixture(scope="module")
def distance_to_train(train_features: Array, ruler: FeatureNetwork) -> Callable[[Pixels], float]:
    """Taken in the subspace that so few features span: the same number in a tenth of the time."""

    def distance(pictures: Pixels) -> float:
        found = features(ruler, pictures)
        axes, _ = np.linalg.qr(np.concatenate([train_features, found]).T)
        return frechet_distance(moments(found @ axes), moments(train_features @ axes))

    return distance


@pytest.fixture(scope="module")
def held_out(faces: Path) -> Pixels:
    return np.asarray(images.open_faces(faces, "test"))


@pytest.fixture(scope="module")
def undamaged(held_out: Pixels, distance_to_train: Callable[[Pixels], float]) -> float:
    return distance_to_train(held_out)


def blurred(pictures: Pixels, radius: float) -> Pixels:
    return np.stack([np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(radius))) for p in pictures])


def noisy(pictures: Pixels, levels: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, levels, pictures.shape)
    return (pictures + noise).round().clip(0, 255).astype(np.uint8)


def checkered(pictures: Pixels, levels: float) -> Pixels:
    """The mark that transposed convolutions leave."""
    board = np.where(np.indices(pictures.shape[1:3]).sum(axis=0) % 2, levels, -levels)
    return (pictures + board[..., None]).clip(0, 255).astype(np.uint8)


def shifted(pictures: Pixels, pixels: float) -> Pixels:
    """To the right, the edge repeated."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (int(pixels), 0), (0, 0)), mode="edge")
    return padded[:, :, : pictures.shape[2]]


def cropped(pictures: Pixels, pixels: float) -> Pixels:
    """Without so many pixels on every side, enlarged to the old size."""
    side = pictures.shape[1]
    box = (pixels, pixels, side - pixels, side - pixels)
    enlarged = (Image.fromarray(p).resize((side, side), Image.Resampling.BILINEAR, box) for p in pictures)
    return np.stack([np.asarray(picture) for picture in enlarged])


def shuffled(pictures: Pixels, side: int = 8) -> Pixels:
    """Each picture's blocks in another order: the same colours and textures, and no faces."""
    n, height, width, channels = pictures.shape
    blocks = pictures.reshape(n, height // side, side, width // side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    order = [np.random.default_rng(i).permutation(height * width // side**2) for i in range(n)]
    mixed = np.stack([b.reshape(-1, side, side, channels)[o] for b, o in zip(blocks, order, strict=True)])
    back = mixed.reshape(n, height // side, width // side, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(back.reshape(pictures.shape))


@pytest.mark.parametrize(
    ("damage", "strengths"),
    [
        (blurred, (0.5, 1, 2)),
        (noisy, (5, 15, 40)),
        (checkered, (5, 15, 40)),
        (shifted, (10, 18, 28)),
        (cropped, (4, 10, 18)),
    ],
)
def test_more_damage_is_a_greater_distance(
    damage: Callable[[Pixels, float], Pixels],
    strengths: tuple[float, ...],
    held_out: Pixels,
    undamaged: float,
    distance_to_train: Callable[[Pixels], float],
) -> None:
    distances = [undamaged, *(distance_to_train(damage(held_out, strength)) for strength in strengths)]
    assert all(less * 1.02 < more for less, more in pairwise(distances)), distances


def test_noise_of_one_level_which_nobody_sees_hardly_moves_the_distance(
    held_out: Pixels, undamaged: float, distance_to_train: Callable[[Pixels], float]
) -> None:
    noise = np.random.default_rng(0).integers(-1, 2, held_out.shape)
    distance = distance_to_train((held_out + noise).clip(0, 255).astype(np.uint8))
    assert distance == pytest.approx(undamaged, rel=0.02)  # twice as much without dithering


def test_the_distance_in_all_dimensions_is_that_in_those_that_are_spanned(
    held_out: Pixels, undamaged: float, train_features: Array, ruler: FeatureNetwork
) -> None:
    real = moments(train_features)
    assert real.covariance.shape == (1280, 1280)
    assert frechet_distance(statistics(ruler, held_out), real) == pytest.approx(undamaged, rel=1e-9)


def test_what_is_no_face_is_far_worse_than_a_little_blur(
    held_out: Pixels, undamaged: float, distance_to_train: Callable[[Pixels], float]
) -> None:
    excess = distance_to_train(blurred(held_out, 0.5)) - undamaged
    assert distance_to_train(shuffled(held_out)) - undamaged > 5 * excess
    assert distance_to_train(np.full_like(held_out[:2], 128)) - undamaged > 5 * excess


def test_features_do_not_depend_on_the_batches(held_out: Pixels, efficientnet: FeatureNetwork) -> None:
    pictures = held_out[:5]
    together = shown(efficientnet, pictures)
    alone = np.concatenate([shown(efficientnet, pictures[:3]), shown(efficientnet, pictures[3:])])
    assert together.shape == (5, 1280) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_grey_pictures_are_shown_in_three_channels(held_out: Pixels, efficientnet: FeatureNetwork) -> None:
    grey = held_out[:2, :, :, :1]
    one, three = (shown(efficientnet, x) for x in (grey, np.repeat(grey, 3, axis=3)))
    np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)


def test_the_feature_network_is_fixed(efficientnet: FeatureNetwork) -> None:
    assert not efficientnet.module.training
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in efficientnet.module.parameters())
    assert efficientnet.weights_sha256 == weights.SHA256["efficientnet_lite0"] and not efficientnet.is_fid


def test_folding_changes_no_feature(held_out: Pixels, efficientnet: FeatureNetwork) -> None:
    plain = feature_networks._EfficientNetFeatures(weights.packaged()).eval()
    assert sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules()) == 49
    assert not any(isinstance(m, nn.BatchNorm2d) for m in efficientnet.module.modules())
    pictures = torch.from_numpy(held_out[:4]).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = plain(pictures).numpy()
    np.testing.assert_allclose(shown(efficientnet, held_out[:4]), expected, rtol=1e-3, atol=1e-4)


# Weights.

FAST = Patience(timeout=0.3, pause=lambda seconds: None)
CONTENT = bytes(range(256)) * 300


@pytest.fixture
def server() -> Iterator[StandIn]:
    served = StandIn({"here.pth": CONTENT, "there.pth": CONTENT})
    yield served
    served.close()


def published(server: StandIn) -> File:
    """What stands for Inception's weights: two places, as theirs are."""
    urls = f"{server.url}/releases/here.pth", f"{server.url}/other/there.pth"
    return File(weights.INCEPTION.name, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), urls)


def test_weights_are_fetched_once_and_placed_where_they_are_found(tmp_path: Path, server: StandIn) -> None:
    files = [published(server)]
    for folder in ("a", "b"):
        file = weights.provide("inception", tmp_path / "downloads", files, FAST)
        weights.place("inception", file, tmp_path / folder)
        assert weights.find("inception", tmp_path / folder).read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("whole", [True, False])
def test_what_pytorch_fid_has_downloaded_is_not_fetched_again(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: bool
) -> None:
    """Unless its download was cut off, which pytorch-fid does not notice."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = tmp_path / "hub" / "checkpoints" / weights.INCEPTION.name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(CONTENT if whole else CONTENT[:-1])
    file = weights.provide("inception", tmp_path / "downloads", [published(server)], FAST)
    assert file.read_bytes() == CONTENT and (file == theirs) == whole
    assert len(server.requests) == (0 if whole else 1) and (str(theirs) in capsys.readouterr().err) != whole


def test_the_second_place_is_asked_when_the_first_fails(tmp_path: Path, server: StandIn) -> None:
    server.faults = ["404"]
    file = weights.provide("inception", tmp_path, [published(server)], FAST)
    assert file.read_bytes() == CONTENT
    assert [request.path for request in server.requests] == ["/releases/here.pth", "/other/there.pth"]


def test_truncated_weights_are_never_kept(tmp_path: Path, server: StandIn) -> None:
    server.always = "short"
    with pytest.raises(UserError, match=r"could not be fetched[\s\S]*pytorch-fid"):
        weights.provide("inception", tmp_path, [published(server)], FAST)
    assert not (tmp_path / weights.INCEPTION.name).exists()


def test_weights_that_were_put_there_by_hand_are_verified(tmp_path: Path) -> None:
    (tmp_path / weights.INCEPTION.name).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"it has 14 bytes, not 95,628,359"):
        weights.provide("inception", tmp_path)


def test_efficientnets_weights_need_no_network(tmp_path: Path) -> None:
    weights.place("efficientnet_lite0", weights.provide("efficientnet_lite0", tmp_path), tmp_path / "weights")
    assert weights.verify("efficientnet_lite0", weights.find("efficientnet_lite0", tmp_path / "weights"))


# Inception.


def test_missing_weights_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the weights of inception are missing; run `dvc repro weights`"):
        weights.find("inception", tmp_path)


def test_wrong_weights_are_refused_with_their_hash(tmp_path: Path) -> None:
    file = tmp_path / weights.INCEPTION.name
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=weights.INCEPTION.name) as error:
        weights.verify("inception", file)
    assert sha256(file) in str(error.value) and weights.SHA256["inception"] in str(error.value)
    with pytest.raises(UserError, match="it holds no weights of inception"):
        feature_networks.load("inception", file, CPU)


def test_the_published_weights_are_pytorch_fids() -> None:
    assert weights.INCEPTION.urls[0] == inception.FID_WEIGHTS_URL
    assert weights.SHA256["inception"].startswith(weights.INCEPTION.name[-12:-4])


def test_a_compiled_network_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no C\\+\\+ compiler"):
        feature_networks.load("efficientnet_lite0", weights.packaged(), CPU, compiled=True)


@pytest.mark.long
@pytest.mark.skipif(not any(shutil.which(c) for c in ("c++", "g++", "clang++")), reason="needs a C++ compiler")
def test_a_compiled_network_has_the_same_features(held_out: Pixels, efficientnet: FeatureNetwork) -> None:
    compiled = feature_networks.load("efficientnet_lite0", weights.packaged(), CPU, compiled=True)
    assert compiled.graph is not None
    pictures = held_out[np.arange(feature_networks.BATCH) % len(held_out)]
    np.testing.assert_allclose(shown(compiled, pictures), shown(efficientnet, pictures), rtol=1e-3, atol=1e-4)


def test_inceptions_features_are_pytorch_fids_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_out: Pixels, inception_weights: Path
) -> None:
    """From picture files to features by pytorch-fid's own script; the weights are drawn, not published."""
    ours = feature_networks.load("inception", inception_weights, CPU)
    assert ours.name == "inception" and ours.weights_sha256 == sha256(inception_weights) and not ours.is_fid
    assert replace(ours, weights_sha256=weights.SHA256["inception"]).is_fid

    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: torch.load(inception_weights))
    theirs = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, face in zip(files, held_out, strict=False):
        images.save_png(file, face)
    expected = fid_score.get_activations(files, theirs, batch_size=3, dims=2048, device=CPU, num_workers=0)
    found = shown(ours, held_out[:3])
    assert found.shape == (3, 2048) and found.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


# From pictures to statistics and features.


class Means(nn.Module):
    """A feature network that costs nothing: the mean colour of each quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = 0

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen += len(pictures)
        return nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1) * self.weight


def stub(name: FidNetwork = "efficientnet_lite0") -> FeatureNetwork:
    return FeatureNetwork(name, weights.SHA256[name], Means(), 12)


def means(pictures: Pixels) -> Array:
    """The same, by numpy."""
    n, side, _, channels = pictures.shape
    half = side // 2
    quarters = pictures.reshape(n, 2, half, 2, half, channels).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    return quarters.reshape(n, -1) / 255


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 200), st.data())
def test_the_first_features_are_kept_and_all_counted(count: int, data: st.DataObject) -> None:
    pictures = np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    kept = np.empty((data.draw(st.integers(0, count)), 12), np.float32)
    found = collect(stub(), of_faces(pictures), count, "pictures", kept)
    expected = means(pictures)
    np.testing.assert_allclose(kept, expected[: len(kept)], rtol=1e-5, atol=1e-6)
    assert_close(found, moments(expected))


def assert_close(a: Statistics, b: Statistics) -> None:
    """To the digits of float32 features."""
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-3, atol=1e-6)


def test_what_has_no_statistics_is_named() -> None:
    one = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(UserError, match="holidays: a covariance needs at least 2 pictures, and there are 1"):
        collect(stub(), of_faces(one), 1, "holidays")


# The reference.

SPLITS = ("train", "valid", "test")


def write_reference(folder: Path, faces: Path, *splits: str) -> Path:
    of_splits = {name: images.open_faces(faces, name) for name in splits}
    reference.write(folder, stub(), {name: (of_faces(x), len(x)) for name, x in of_splits.items()})
    return folder


def test_a_reference_survives_its_folder(tmp_path: Path, faces: Path) -> None:
    load = reference.load(write_reference(tmp_path / "a", faces, *SPLITS), stub())
    pictures = {name: images.open_faces(faces, name) for name in SPLITS} | {"all": images.open_faces(faces, "all")}
    for name, of_split in pictures.items():
        expected, found = means(of_split), load(name)
        assert found is not None
        assert_close(found.statistics, moments(expected))
        assert found.statistics.features is None  # there are more than 12
        apart = np.abs(found.features[:, None] - expected[None]).max(axis=2)
        rows = apart.argmin(axis=1)  # every face once, in another order
        assert apart.min(axis=1).max() < 1e-5 and sorted(rows) == list(range(len(expected))) != rows.tolist()
        if name != "all":
            whole = reference.open_features(tmp_path / "a", name)
            np.testing.assert_allclose(np.asarray(whole), expected, rtol=1e-4, atol=1e-6)
    write_reference(tmp_path / "b", faces, *SPLITS)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_what_is_compared_of_all_splits_is_an_even_choice(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "COMPARED", 100)
    load = reference.load(write_reference(tmp_path / "a", faces, *SPLITS), stub())
    found, test = load("all"), load("test")
    assert found is not None and test is not None and found.statistics.count == 240
    assert found.features.shape == (100, 12) and test.features.shape == (24, 12)
    train = means(images.open_faces(faces, "train"))
    of_train = (np.abs(found.features[:, None] - train[None]).max(axis=2).min(axis=1) < 1e-5).sum()
    assert 68 < of_train < 92  # 80 are expected


def test_a_reference_of_some_faces_is_that_of_random_ones(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = reference.load(write_reference(tmp_path / "a", faces, *SPLITS), stub())
    whole, some, enough = load("train"), load("train", 50), load("train", 192)
    assert whole is not None and some is not None and enough is not None
    assert_close(some.statistics, moments(whole.features[:50]))
    assert np.array_equal(some.features, whole.features[:50])
    assert enough.statistics.count == 192 and np.array_equal(enough.statistics.mean, whole.statistics.mean)
    monkeypatch.setattr(reference, "COMPARED", 20)
    fewer = load("train", 50)
    assert fewer is not None and fewer.statistics.count == 50 and len(fewer.features) == 20


def test_a_split_that_has_too_few_faces_counts_among_all_alone(tmp_path: Path, faces: Path) -> None:
    three = np.asarray(images.open_faces(faces, "train"))[:3]
    parts = {"train": three[:0], "valid": three[:1], "test": three[1:]}
    reference.write(tmp_path / "a", stub(), {name: (of_faces(x), len(x)) for name, x in parts.items()})
    load = reference.load(tmp_path / "a", stub())
    assert load("train") is None and load("valid") is None
    test, whole = load("test"), load("all")
    assert test is not None and test.statistics.count == 2
    assert whole is not None and len(whole.features) == 3
    assert_close(whole.statistics, moments(means(three)))
    assert whole.statistics.features is not None  # there are at most 12
    apart = np.abs(whole.statistics.features[:, None] - means(three)[None]).max(axis=2)
    assert sorted(apart.argmin(axis=1)) == [0, 1, 2] and apart.min(axis=1).max() < 1e-5
    assert reference.open_features(tmp_path / "a", "train") is None
    together = reference.open_features(tmp_path / "a", "all")
    np.testing.assert_allclose(np.asarray(together), means(three), rtol=1e-4, atol=1e-6)


def test_a_reference_of_another_network_is_refused(tmp_path: Path, faces: Path) -> None:
    folder = write_reference(tmp_path / "a", faces, "train")
    with pytest.raises(
        UserError,
        match="a: it was computed with the weights of efficientnet_lite0 with SHA-256",
    ):
        reference.load(folder, stub("inception"))


# The evaluation.


@pytest.fixture(scope="module")
def generator() -> networks.Generator:
    made = networks.Settings(image_size=64, nz=8, ngf=4, ndf=4)
    network, _ = networks.build(made, random_state(3, "weights"))
    networks.estimate_batch_norm(network, [draw_latents(made, 64, random_state(3, "batch norm"))])
    with torch.no_grad():
        list(network.parameters())[-1].mul_(20)
    return network


@pytest.fixture(scope="module")
def known(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> References:
    return reference.load(write_reference(tmp_path_factory.mktemp("known") / "a", faces, *SPLITS), stub())


def evaluated(
    generator: networks.Generator, network: FeatureNetwork, known: References, faces: Path, **given: Any
) -> evaluation.Evaluation:
    unseen = [images.open_faces(faces, split) for split in given.pop("unseen", ("valid", "test"))]
    training = copies.Training(images.open_faces(faces, "train"), *(unseen or [np.empty((0, 64, 64, 3), np.uint8)] * 2))
    arguments = {"split": "train", "samples": 70, "repeats": 2, "seed": 5, "training": training, **given}
    result = evaluation.evaluate(generator, network, known, **arguments)
    assert result is not None
    return result


NEIGHBOURS = "sample_precision", "sample_recall", "density", "coverage"
PROTOCOL = {
    "arithmetic": "fp32",
    "samples": 70,
    "repeats": 2,
    "untrained_samples": 70,
    "sampling_seed": 5,
    "resolution": 64,
    "channels": 3,
    "reference_split": "train",
    "reference_count": 192,
    "scores_count": 24,
    "floor_split": "test",
    "floor_reference": "train",
    "floor_count": 24,
    "samples_of_copies": 70,
    "valid_of_copies": 24,
    "test_of_copies": 24,
    "copies_verdict": None,
}


@pytest.mark.parametrize(
    ("network", "name", "of_kernel"),
    [("inception", "fid", "kid"), ("efficientnet_lite0", "frechet_distance", "kernel_distance")],
)
def test_only_published_inceptions_distances_are_called_fid_and_kid(
    network: FidNetwork,
    name: str,
    of_kernel: str,
    faces: Path,
    generator: networks.Generator,
    known: References,
) -> None:
    result = evaluated(generator, stub(network), known, faces).metrics
    measured = {key for key, value in result.items() if isinstance(value, float)}
    assert measured == {
        *(name + beside for beside in ("", "_mean", "_std", "_untrained", "_grey", "_floor", "_at_floor_count")),
        *(f"{score}{beside}" for score in (of_kernel, *NEIGHBOURS) for beside in ("", "_floor")),
        f"{of_kernel}_standard_error",
    }
    assert result["network"] == network and result["weights_sha256"] == weights.SHA256[network]
    assert {key: result[key] for key in PROTOCOL} == PROTOCOL
    other = evaluated(generator, replace(stub("inception"), weights_sha256="0" * 64), known, faces).metrics
    assert not {"fid", "kid"} & set(other) and other["weights_sha256"] == "0" * 64


@pytest.mark.parametrize(
    ("split", "instead", "of", "count"),
    [("train", "test", "train", 24), ("valid", "train", "valid", 70), ("test", "train", "test", 70),
     ("all", "test", "train", 24)],
)  # fmt: skip
def test_each_number_is_what_it_says(
    split: str, instead: str, of: str, count: int, faces: Path, generator: networks.Generator, known: References
) -> None:
    """The floor has `count` faces of the split `instead` in the place of the generated ones."""
    network = stub()
    result = evaluated(generator, network, known, faces, split=split).metrics
    assert isinstance(network.module, Means) and network.module.seen == 70 + 70 + 70 + 2

    real = means(images.open_faces(faces, split))
    drawn = [means(generated(generator, 5, draw)(slice(0, 70)).numpy()) for draw in (0, 1)]
    distances = [frechet_distance(moments(features), moments(real)) for features in drawn]
    some, floor_real = shuffled_features(known, instead), shuffled_features(known, of)
    compared = shuffled_features(known, split)[:24], drawn[0][:24]
    floor = floor_real[:24], some[:24]
    expected = {
        "frechet_distance": distances[0],
        "frechet_distance_mean": np.mean(distances),
        "frechet_distance_std": abs(distances[0] - distances[1]) / math.sqrt(2),
        "frechet_distance_grey": frechet_distance(moments(np.full((2, 12), 128 / 255)), moments(real)),
        "frechet_distance_floor": frechet_distance(moments(some[:count]), moments(floor_real)),
        "frechet_distance_at_floor_count": frechet_distance(moments(drawn[0][:count]), moments(real)),
        "kernel_distance": kernel.kernel_distance(*compared).value,
        "kernel_distance_floor": kernel.kernel_distance(*floor).value,
        **dict(zip(NEIGHBOURS, neighbours.scores(*compared), strict=True)),
        **{f"{name}_floor": v for name, v in zip(NEIGHBOURS, neighbours.scores(*floor), strict=True)},
    }
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, rel=1e-3, abs=1e-6), key
    protocol = {"scores_count": 24, "floor_split": instead, "floor_reference": of, "floor_count": count}
    assert {key: result[key] for key in protocol} == protocol
    for value in result.values():
        assert not isinstance(value, float) or value == float(f"{value:.6g}") == significant(value)


def test_an_evaluation_depends_on_the_seed_alone(faces: Path, generator: networks.Generator, known: References) -> None:
    result, same, other = (evaluated(generator, stub(), known, faces, seed=seed).metrics for seed in (5, 5, 6))
    assert result == same and other["frechet_distance"] != result["frechet_distance"]
    floors = [name for name in result if name.endswith("_floor")]
    assert len(floors) == 6 and all(other[name] == result[name] for name in floors)


def shuffled_features(known: References, split: str) -> npt.NDArray[np.float32]:
    of_split = known(split)
    assert of_split is not None
    return of_split.features


def test_counts_end_at_what_is_compared(
    faces: Path, generator: networks.Generator, known: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the distance, which has its own."""
    expected = evaluated(generator, stub(), known, faces).metrics
    for module in (evaluation, reference, scores):
        monkeypatch.setattr(module, "COMPARED", 10)
    result = evaluated(generator, stub(), known, faces).metrics
    assert result["scores_count"] == 10 and result["sample_precision_floor"] in [i / 10 for i in range(11)]
    for name in ("frechet_distance", "frechet_distance_floor", "frechet_distance_at_floor_count", "floor_count"):
        assert result[name] == expected[name]


def test_what_cannot_be_measured_is_left_out(faces: Path, generator: networks.Generator, known: References) -> None:
    def without(split: str, most: int | None = None) -> reference.Reference | None:
        return None if split == "test" else known(split, most)

    result = evaluated(generator, stub(), without, faces, samples=3, repeats=1).metrics
    assert "frechet_distance_floor" not in result and result["floor_count"] is None
    assert result["frechet_distance_std"] is None and result["frechet_distance_mean"] == result["frechet_distance"]
    assert not {"kernel_distance", "sample_precision", "copies", "frechet_distance_at_floor_count"} & set(result)
    kernel, scores, floor, searched = left_out(result)
    needs = "the kernel distance, since there are 3 generated and 192 real faces, and 4 of each are needed"
    assert kernel == needs and scores.startswith("precision, recall, density and coverage, since there are 3 ")
    assert floor == "the floors, since the split test or train has fewer than 2 faces"
    assert searched.startswith(
        "the search for copies, since there are 3 generated faces and 24 faces of the split valid"
    )
    assert searched.endswith("and 400 of each are needed")

    nothing = evaluated(generator, stub(), without, faces, split="test")
    assert not [key for key, value in nothing.metrics.items() if isinstance(value, float)]
    assert nothing.metrics["reference_count"] is None and nothing.neighbours.shape == (2 + 8 * 66, 2 * 398 + 16, 3)
    distance, *_ = left_out(nothing.metrics)
    assert "since the split test has fewer than 2 faces" in distance and distance.endswith("set `fid_split: all`")
    # So few test faces neither give the scores a floor, nor leave them with as few.
    five = evaluated(generator, stub(), lambda split, most=None: known(split, 5 if split == "test" else most), faces)
    assert five.metrics["frechet_distance_floor"] and five.metrics["floor_count"] == 5
    assert five.metrics["scores_count"] == 70 and not {"sample_precision_floor", "kernel_distance_floor"} & set(
        five.metrics
    )
    floors, _ = left_out(five.metrics)
    assert floors == "the floors of the scores, since the split test or train has fewer than 6 faces"


def test_faces_that_were_trained_on_say_nothing_about_copies(
    faces: Path, generator: networks.Generator, known: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(least_counts, "COPIES", 20)
    assert left_out(evaluated(generator, stub(), known, faces, split="all").metrics) == [
        "the share of copies, since the generated faces are so far from all real faces that copies would be missed"
    ]
    trained_on = evaluated(generator, stub(), known, faces, unseen=()).metrics
    assert "copies" not in trained_on and "there are 70 generated faces and 0 faces" in left_out(trained_on)[0]


def test_the_picture_shows_generated_faces_and_their_nearest_training_faces(
    faces: Path, generator: networks.Generator, known: References
) -> None:
    sheet = evaluated(generator, stub(), known, faces).neighbours
    step, width = 66, 2 + 6 * 66
    assert sheet.shape == (2 + 8 * step, 2 * width + 16, 3)

    def at(row: int, column: int, left: int) -> Pixels:
        return sheet[2 + row * step : 2 + row * step + 64, left + 2 + column * step : left + 2 + column * step + 64]

    drawn = generated(generator, 5)(slice(0, 70)).numpy()
    train = np.asarray(images.open_faces(faces, "train"))
    known_pictures = small_pictures.small_pictures(of_faces(train), len(train), CPU)
    rows, apart = small_pictures.nearest_faces(of_faces(drawn), 70, known_pictures, 5, CPU)
    nearest_of_all = np.argsort(apart[:, 0], kind="stable")
    for row in range(8):
        for left, number in ((0, row), (width + 16, nearest_of_all[row])):
            # In a batch of its own a level can round the other way.
            assert np.abs(at(row, 0, left).astype(int) - drawn[number]).max() <= 1
            for column, face in enumerate(rows[number], 1):
                assert np.array_equal(at(row, column, left), train[face])


def test_copies_are_found_among_all_training_faces(
    faces: Path, generator: networks.Generator, known: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = images.open_faces(faces, "train")
    monkeypatch.setattr(copies, "COMPARED", 20)  # fewer than there are to be copied
    monkeypatch.setattr(least_counts, "COPIES", 20)

    def mirrored(generator: networks.Generator, seed: int, draw: int = 0) -> Callable[[slice], Tensor]:
        return lambda numbers: torch.from_numpy(train[::-1, :, ::-1][numbers].copy())

    monkeypatch.setattr(evaluation, "generated", mirrored)
    result = evaluated(generator, stub(), known, faces, samples=100).metrics
    assert result["copies"] == result["copies_high"] == 1
    assert result["copies_floor"] < 0.2 and (result["valid_of_copies"], result["test_of_copies"]) == (20, 20)
    assert left_out(result) == []


def test_the_untrained_generator_is_as_large_and_depends_on_the_seed(generator: networks.Generator) -> None:
    fresh = evaluation.untrained(generator, 5)
    assert fresh.settings == generator.settings and not fresh.training
    pictures = [generated(evaluation.untrained(generator, seed), 0)(slice(0, 4)).numpy() for seed in (5, 5, 6)]
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    assert np.abs(pictures[0].astype(int) - 128).max() < 64  # nearly grey


def test_the_quick_distance_prefers_the_better_generator(
    faces: Path, generator: networks.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcgan.metrics.quick.SAMPLES", 64)
    train = images.open_faces(faces, "train")
    measure = quick_distance(train, 1, CPU)

    class Copies(networks.Generator):
        """A generator that has learnt some faces by heart."""

        def forward(self, latents: Tensor) -> Tensor:
            return torch.from_numpy(train[: len(latents)]).permute(0, 3, 1, 2) / 127.5 - 1

    poor = measure(generator)
    assert measure(generator) == poor
    assert measure(Copies(generator.settings)) < poor / 2
