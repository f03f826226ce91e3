"""Moments and distances against mathematics and pytorch-fid; feature networks against damaged faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from pytorch_fid import fid_score, inception
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn
from torchvision.models import inception_v3

from dcgan import images, networks
from dcgan.errors import UserError
from dcgan.files import sha256, significant
from dcgan.metrics import evaluation, feature_networks, reference
from dcgan.metrics.feature_networks import FeatureNetwork
from dcgan.metrics.frechet import Moments, Statistics, frechet_distance, merge
from dcgan.sampling import draw_latents, generate, random_state

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
CPU = torch.device("cpu")
SEEDS = st.integers(0, 2**31)
examples = settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As fast on so few pictures, and not slowed down by whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # numpy's
        yield
    torch.set_num_threads(threads)


def moments(*batches: npt.NDArray[Any]) -> Statistics:
    collected = Moments()
    for batch in batches:
        collected.add(batch)
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
    moments(features, features)
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


# Efficientnet on real faces and damaged ones.


@pytest.fixture(scope="module")
def efficientnet(tmp_path_factory: pytest.TempPathFactory) -> FeatureNetwork:
    return feature_networks.load("efficientnet_lite0", tmp_path_factory.mktemp("downloads"), CPU)


def statistics(network: FeatureNetwork, pictures: Pixels) -> Statistics:
    return reference.statistics(network, reference.in_batches(pictures), len(pictures), "features")


def features(network: FeatureNetwork, pictures: Pixels) -> Array:
    parts = feature_networks.features(network, reference.in_batches(pictures))
    return np.concatenate(list(parts)).astype(np.float64)


@pytest.fixture(scope="module")
def train_features(faces: Path, efficientnet: FeatureNetwork) -> Array:
    return features(efficientnet, np.asarray(images.open_split(faces, "train")))


@pytest.fixture(scope="module")
def distance_to_train(train_features: Array, efficientnet: FeatureNetwork) -> Callable[[Pixels], float]:
    """Taken in the subspace that so few features span: the same number in a tenth of the time."""

    def distance(pictures: Pixels) -> float:
        found = features(efficientnet, pictures)
        axes, _ = np.linalg.qr(np.concatenate([train_features, found]).T)
        return frechet_distance(moments(found @ axes), moments(train_features @ axes))

    return distance


@pytest.fixture(scope="module")
def held_out(faces: Path) -> Pixels:
    return np.asarray(images.open_split(faces, "test"))


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


def shuffled(pictures: Pixels, side: int = 8) -> Pixels:
    """Each picture's blocks in another order: the same colours and textures, and no faces."""
    n, height, width, channels = pictures.shape
    blocks = pictures.reshape(n, height // side, side, width // side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    order = [np.random.default_rng(i).permutation(height * width // side**2) for i in range(n)]
    mixed = np.stack([b.reshape(-1, side, side, channels)[o] for b, o in zip(blocks, order, strict=True)])
    back = mixed.reshape(n, height // side, width // side, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(back.reshape(pictures.shape))


@pytest.mark.parametrize(
    ("damage", "strengths"), [(blurred, (0.5, 1, 2)), (noisy, (5, 15, 40)), (checkered, (5, 15, 40))]
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


def test_the_distance_in_all_dimensions_is_that_in_those_that_are_spanned(
    held_out: Pixels, undamaged: float, train_features: Array, efficientnet: FeatureNetwork
) -> None:
    real = moments(train_features)
    assert real.covariance.shape == (1280, 1280)
    assert frechet_distance(statistics(efficientnet, held_out), real) == pytest.approx(undamaged, rel=1e-4)


def test_what_is_no_face_is_far_worse_than_a_little_blur(
    held_out: Pixels, undamaged: float, distance_to_train: Callable[[Pixels], float]
) -> None:
    excess = distance_to_train(blurred(held_out, 0.5)) - undamaged
    assert distance_to_train(shuffled(held_out)) - undamaged > 5 * excess
    assert distance_to_train(np.full_like(held_out[:2], 128)) - undamaged > 5 * excess


def test_features_do_not_depend_on_the_batches(held_out: Pixels, efficientnet: FeatureNetwork) -> None:
    pictures = held_out[:5]
    (together,) = feature_networks.features(efficientnet, [pictures])
    alone = np.concatenate(list(feature_networks.features(efficientnet, [pictures[:3], pictures[3:]])))
    assert together.shape == (5, 1280) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_grey_pictures_are_shown_in_three_channels(held_out: Pixels, efficientnet: FeatureNetwork) -> None:
    grey = held_out[:2, :, :, :1]
    one, three = (next(feature_networks.features(efficientnet, [x])) for x in (grey, np.repeat(grey, 3, axis=3)))
    np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)


def test_the_feature_network_is_fixed(efficientnet: FeatureNetwork) -> None:
    assert not efficientnet.module.training
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in efficientnet.module.parameters())
    assert efficientnet.weights_sha256 == feature_networks.SHA256["efficientnet_lite0"]


# Inception.


def test_missing_weights_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fid_network: inception needs") as error:
        feature_networks.load("inception", tmp_path, CPU)
    for word in (feature_networks.INCEPTION_FILE, str(tmp_path), "pytorch-fid", "efficientnet_lite0"):
        assert word in str(error.value)


def test_wrong_weights_are_refused_with_their_hash(tmp_path: Path) -> None:
    weights = tmp_path / feature_networks.INCEPTION_FILE
    weights.write_bytes(b"something else")
    with pytest.raises(UserError, match=feature_networks.INCEPTION_FILE) as error:
        feature_networks.load("inception", tmp_path, CPU)
    assert sha256(weights) in str(error.value)
    assert feature_networks.SHA256["inception"] in str(error.value)


def test_the_published_weights_are_pytorch_fids() -> None:
    assert inception.FID_WEIGHTS_URL.endswith(feature_networks.INCEPTION_FILE)
    assert feature_networks.SHA256["inception"].startswith(feature_networks.INCEPTION_FILE[-12:-4])


def test_inceptions_features_are_pytorch_fids_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_out: Pixels
) -> None:
    """From picture files to features by pytorch-fid's own script; the weights are drawn, not published."""
    torch.manual_seed(0)
    state = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5)
    weights = tmp_path / feature_networks.INCEPTION_FILE
    torch.save(state, weights)
    monkeypatch.setitem(feature_networks.SHA256, "inception", sha256(weights))
    ours = feature_networks.load("inception", tmp_path, CPU)
    assert ours.name == "inception" and ours.weights_sha256 == sha256(weights)

    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    theirs = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, face in zip(files, held_out, strict=False):
        images.save_png(file, face)
    expected = fid_score.get_activations(files, theirs, batch_size=3, dims=2048, device=CPU, num_workers=0)
    (found,) = feature_networks.features(ours, [held_out[:3]])
    assert found.shape == (3, 2048) and found.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


# The reference file.


class Means(nn.Module):
    """A feature network that costs nothing: the mean colour of each quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = 0

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen += len(pictures)
        return nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1) * self.weight


def stub(name: feature_networks.Name = "efficientnet_lite0") -> FeatureNetwork:
    return FeatureNetwork(name, "0" * 64, Means())


def means(pictures: Pixels) -> Array:
    """The same, by numpy."""
    n, side, _, channels = pictures.shape
    half = side // 2
    quarters = pictures.reshape(n, 2, half, 2, half, channels).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    return quarters.reshape(n, -1) / 255


def splits(faces: Path) -> dict[str, Statistics]:
    return {name: moments(means(images.open_split(faces, name))) for name in ("train", "valid", "test")}


def test_a_reference_survives_its_file(tmp_path: Path, faces: Path) -> None:
    network, path = stub(), tmp_path / "reference.safetensors"
    expected = {
        name: statistics(network, np.asarray(images.open_split(faces, name))) for name in ("train", "valid", "test")
    }
    reference.save(path, expected, network)
    before = path.read_bytes()
    loaded = reference.load(path, network)
    assert set(loaded) == {"train", "valid", "test", "all"}
    for name, known in expected.items():
        assert loaded[name].count == known.count
        assert np.array_equal(loaded[name].mean, known.mean)
        assert np.array_equal(loaded[name].covariance, known.covariance)
    together = moments(means(images.open_all(faces)[:]))
    assert loaded["all"].count == 240
    np.testing.assert_allclose(loaded["all"].mean, together.mean, rtol=1e-4)
    np.testing.assert_allclose(loaded["all"].covariance, together.covariance, rtol=1e-3)
    reference.save(path, expected, network)
    assert path.read_bytes() == before


def test_statistics_are_numpys(faces: Path) -> None:
    train = np.asarray(images.open_split(faces, "train"))
    ours = statistics(stub(), train)
    expected = means(train)
    np.testing.assert_allclose(ours.mean, expected.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(ours.covariance, np.cov(expected, rowvar=False), rtol=1e-3, atol=1e-8)


def test_a_reference_of_another_network_is_refused(tmp_path: Path, faces: Path) -> None:
    path = tmp_path / "reference.safetensors"
    reference.save(path, splits(faces), stub())
    with pytest.raises(UserError, match=r"reference\.safetensors: it is of the network efficientnet_lite0, not incep"):
        reference.load(path, replace(stub("inception"), weights_sha256="1" * 64))


# The evaluation.


@pytest.fixture(scope="module")
def generator() -> networks.Generator:
    made = networks.Settings(image_size=64, nz=8, ngf=4, ndf=4)
    network, _ = networks.build(made, random_state(3, "weights"))
    networks.estimate_batch_norm(network, [draw_latents(made, 64, random_state(3, "batch norm"))])
    with torch.no_grad():
        list(network.parameters())[-1].mul_(20)
    return network


@pytest.mark.parametrize(("network", "name"), [("inception", "fid"), ("efficientnet_lite0", "frechet_distance")])
def test_only_inceptions_distance_is_called_fid(
    network: feature_networks.Name, name: str, faces: Path, generator: networks.Generator
) -> None:
    known = splits(faces)
    result = evaluation.evaluate(generator, stub(network), known, "train", 70, seed=5)
    distances = {key for key, value in result.items() if isinstance(value, float)}
    assert distances == {name, f"{name}_untrained", f"{name}_grey", f"{name}_floor"}
    assert ("fid" in " ".join(result)) == (network == "inception")
    assert result["network"] == network and result["weights_sha256"] == "0" * 64 and result["precision"] == "fp32"
    assert (result["samples"], result["seed"], result["image_size"]) == (70, 5, 64)
    assert (result["reference_split"], result["reference_count"], result["floor_count"]) == ("train", 192, 24)


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_each_distance_is_what_it_says(split: str, faces: Path, generator: networks.Generator) -> None:
    known = splits(faces)
    known["all"] = merge(known.values())
    network = stub()
    result = evaluation.evaluate(generator, network, known, split, 70, seed=5)
    assert isinstance(network.module, Means) and network.module.seen == 70 + 70 + 2

    real = moments(means(images.open_all(faces)[:] if split == "all" else images.open_split(faces, split)))
    pictures = generate(generator, draw_latents(generator.settings, 70, random_state(5, "evaluation")))
    expected = {
        "frechet_distance": frechet_distance(moments(means(pictures)), real),
        "frechet_distance_grey": frechet_distance(moments(np.full((2, 12), 128 / 255)), real),
        "frechet_distance_floor": frechet_distance(known["test"], known["train"]),
    }
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    for value in result.values():
        assert not isinstance(value, float) or value == float(f"{value:.6g}") == significant(value)
    assert result == evaluation.evaluate(generator, network, known, split, 70, seed=5)
    other = evaluation.evaluate(generator, network, known, split, 70, seed=6)
    assert other["frechet_distance"] != result["frechet_distance"]
    assert other["frechet_distance_floor"] == result["frechet_distance_floor"]


def test_without_test_faces_there_is_no_floor(faces: Path, generator: networks.Generator) -> None:
    known = {name: s for name, s in splits(faces).items() if name != "test"}
    result = evaluation.evaluate(generator, stub(), known, "train", 8, seed=5)
    assert "frechet_distance_floor" not in result and result["floor_count"] is None
    with pytest.raises(UserError, match="fid_split: test has fewer than 2 faces"):
        evaluation.evaluate(generator, stub(), known, "test", 8, seed=5)


def test_the_untrained_generator_is_as_large_and_depends_on_the_seed(generator: networks.Generator) -> None:
    fresh = evaluation.untrained(generator, 5)
    assert fresh.settings == generator.settings and not fresh.training
    latents = draw_latents(generator.settings, 4, random_state(0, "x"))
    pictures = [generate(evaluation.untrained(generator, seed), latents) for seed in (5, 5, 6)]
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    assert np.abs(pictures[0].astype(int) - 128).max() < 64  # nearly grey
