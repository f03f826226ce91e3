"""Kernel distance, neighbours' scores and nearest neighbours against published packages and brute force."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch_fidelity import metric_kid, metric_prc

from dcgan.metrics import neighbours
from dcgan.metrics.floors import Floor
from dcgan.metrics.frechet import Statistics
from dcgan.metrics.kernel import LEAST, kernel, kernel_distance
from dcgan.metrics.names import SCORES
from dcgan.metrics.neighbours import Scores, nearest, scores
from dcgan.metrics.reference import Reference
from dcgan.metrics.scores import equal_count
from dcgan.metrics.scores import scores as scores_and_floors

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating]
SEEDS = st.integers(0, 2**31)
KINDS = st.sampled_from([np.float32, np.float64])
OFFSETS = st.sampled_from([0.0, 1.0, 10.0])
examples = settings(deadline=None, max_examples=25)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As fast on so few features, and not slowed down by whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one_job = functools.partial(pairwise_distances, n_jobs=1)  # prdc asks for eight threads each time
    with threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.metrics.pairwise_distances", lambda *x, n_jobs, **more: one_job(*x, **more))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[7, 1000])
def blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Distances in blocks of 7 rows, the last one shorter, and in one block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_ROWS", request.param)
        yield


def drawn(seed: int, n: int, d: int, offset: float = 0.0, spread: float = 1.0, kind: Any = np.float64) -> Features:
    """Normal features, correlated as those of a network are."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, d)) @ (np.eye(d) + random.normal(size=(d, d)) / 2)
    return (mixed * spread + offset).astype(kind)


def in_double(features: Features) -> torch.Tensor:
    return torch.from_numpy(features.astype(np.float64))


# The kernel distance.


def by_pairs(a: Features, b: Features) -> float:
    """The unbiased estimate, pair by pair."""

    def k(x: Features, y: Features) -> float:
        return (sum(float(s) * float(t) for s, t in zip(x, y, strict=True)) / len(x) + 1) ** 3

    of_a, of_b = (np.mean([k(x, y) for x, y in itertools.permutations(side, 2)]) for side in (a, b))
    return float(of_a + of_b - 2 * np.mean([k(x, y) for x in a for y in b]))


def torch_fidelitys(a: Features, b: Features) -> float:
    """Its KID of one subset that is everything."""
    found = metric_kid.kid_features_to_metric(
        in_double(a), in_double(b), kid_subsets=1, kid_subset_size=len(a), verbose=False
    )
    return found[metric_kid.KEY_METRIC_KID_MEAN]


@examples
@given(SEEDS, st.integers(LEAST, 70), st.integers(1, 40), OFFSETS, st.sampled_from([0.0, 0.5, 2.0]), KINDS)
def test_the_kernel_distance_is_torch_fidelitys(
    seed: int, n: int, d: int, offset: float, shift: float, kind: type
) -> None:
    a, b = drawn(seed, n, d, offset, kind=kind), drawn(seed + 1, n, d, offset + shift, kind=kind)
    assert kernel_distance(a, b).value == pytest.approx(torch_fidelitys(a, b), rel=1e-6, abs=1e-6)


@examples
@given(SEEDS, st.integers(LEAST, 70), st.integers(LEAST, 70), st.integers(1, 40), OFFSETS, KINDS)
def test_the_two_sets_may_differ_in_size(seed: int, n: int, m: int, d: int, offset: float, kind: type) -> None:
    """The means of torch-fidelity's kernel, without its diagonal within a set."""
    a, b = drawn(seed, n, d, offset, kind=kind), drawn(seed + 1, m, d, offset, 1.5, kind)
    aa, bb, ab = (
        metric_kid.kernel_poly(x.astype(np.float64), y.astype(np.float64)) for x, y in ((a, a), (b, b), (a, b))
    )
    expected = aa[~np.eye(n, dtype=bool)].mean() + bb[~np.eye(m, dtype=bool)].mean() - 2 * ab.mean()
    assert kernel_distance(a, b).value == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert kernel_distance(b, a).value == pytest.approx(expected, rel=1e-6, abs=1e-6)


@examples
@given(SEEDS, st.integers(LEAST, 9), st.integers(LEAST, 9), st.integers(1, 4), KINDS)
def test_the_kernel_distance_of_tiny_sets_is_that_of_their_pairs(seed: int, n: int, m: int, d: int, kind: type) -> None:
    a, b = drawn(seed, n, d, kind=kind), drawn(seed + 1, m, d, 1.0, kind=kind)
    assert kernel_distance(a, b).value == pytest.approx(by_pairs(a, b), rel=1e-9, abs=1e-9)


def test_the_kernel_of_pairs_that_are_known() -> None:
    x, y = np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
    assert kernel(x, y).tolist() == [[8.0, 64.0, -1.0], [1.0, 1.0, 1.0]]


def test_equal_points_on_both_sides_have_no_kernel_distance() -> None:
    point = np.full((6, 3), 0.3, np.float32)
    found = kernel_distance(point, point)
    assert found.value == pytest.approx(0, abs=1e-12) and found.standard_error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (150, 60), (20, 35)])
def test_samples_of_one_distribution_have_about_no_kernel_distance(n: int, m: int) -> None:
    random = np.random.default_rng(n)
    found = [kernel_distance(random.normal(size=(n, 8)), random.normal(size=(m, 8))) for _ in range(12)]
    assert all(abs(each.value) < 4 * each.standard_error for each in found), found
    assert min(each.value for each in found) < 0 < max(each.value for each in found)  # no bias


@pytest.mark.parametrize(("n", "m", "d", "shift"), [(60, 60, 8, 0.5), (60, 45, 8, 0.5), (30, 90, 4, 0.7)])
def test_the_standard_error_is_the_deviation_over_redraws(n: int, m: int, d: int, shift: float) -> None:
    random = np.random.default_rng(0)
    found = [kernel_distance(random.normal(size=(n, d)), random.normal(shift, size=(m, d))) for _ in range(60)]
    deviation = np.std([each.value for each in found], ddof=1)
    error = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert error == pytest.approx(deviation, rel=0.35)


def test_the_standard_error_is_not_too_small_where_there_is_no_distance() -> None:
    """The estimate is of a higher order there, for which a jackknife says too much, up to the root of 2."""
    random = np.random.default_rng(0)
    found = [kernel_distance(random.normal(size=(60, 8)), random.normal(size=(60, 8))) for _ in range(60)]
    deviation = np.std([each.value for each in found], ddof=1)
    error = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert 0.8 < error / deviation < 1.9


@examples
@given(SEEDS, st.integers(LEAST, 60), st.integers(LEAST, 60))
def test_the_order_of_the_rows_does_not_matter_to_the_kernel_distance(seed: int, n: int, m: int) -> None:
    a, b = drawn(seed, n, 5), drawn(seed + 1, m, 5, 1.0)
    random = np.random.default_rng(seed)
    mixed = kernel_distance(a[random.permutation(n)], b[random.permutation(m)])
    assert mixed.value == pytest.approx(kernel_distance(a, b).value, rel=1e-9, abs=1e-9)


def test_the_kernel_distance_changes_no_features() -> None:
    a, b = drawn(0, 10, 3), drawn(1, 12, 3)
    before = a.copy(), b.copy()
    kernel_distance(a, b)
    scores(a, b)
    nearest(a, b, 3)
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])


# The neighbours' scores.


def assert_scores(found: Scores, expected: Iterable[float], atol: float = 1e-12) -> None:
    np.testing.assert_allclose(found, list(expected), rtol=0, atol=atol)


def by_brute_force(real: Features, generated: Features) -> Scores:
    """Closed balls, by the definitions; a row's nearest is itself, so that the k-th other one is in place k."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    of_real, of_generated = np.sort(cdist(real, real)), np.sort(cdist(generated, generated))
    between = cdist(real, generated)
    within = between <= of_real[:, [5]]
    return Scores(
        precision=float((between <= of_real[:, [3]]).any(axis=0).mean()),
        recall=float((between <= of_generated[:, 3]).any(axis=1).mean()),
        density=float(within.sum(axis=0).mean() / 5),
        coverage=float(within.any(axis=1).mean()),
    )


def published(real: Features, generated: Features) -> Scores:
    three, five = (compute_prdc(real, generated, nearest_k=k) for k in (3, 5))
    return Scores(three["precision"], three["recall"], five["density"], five["coverage"])


def torch_fidelitys_precision_and_recall(real: Features, generated: Features) -> tuple[float, float]:
    found = metric_prc.prc_features_to_metric(
        in_double(generated), in_double(real), prc_neighborhood=3, prc_batch_size=11, verbose=False
    )
    return found["precision"], found["recall"]


def on_no_edge(real: Features, generated: Features) -> bool:
    """No distance is a radius but for rounding, so that open and closed balls, in either precision, hold the same."""
    real, generated = real.astype(np.float64), generated.astype(np.float64)
    between = cdist(real, generated)
    of_real, of_generated = np.sort(cdist(real, real)), np.sort(cdist(generated, generated))
    edges = of_real[:, [3]], of_real[:, [5]], of_generated[:, 3]
    return all(np.abs(between / edge - 1).min() > 1e-5 for edge in edges if edge.all())


@pytest.mark.usefixtures("blocks")
@examples
@given(SEEDS, st.integers(7, 40), st.integers(7, 40), st.integers(1, 40), OFFSETS, st.floats(0, 2), KINDS)
def test_the_scores_are_those_of_the_published_packages(
    seed: int, n: int, m: int, d: int, offset: float, shift: float, kind: type
) -> None:
    real, generated = drawn(seed, n, d, offset, kind=kind), drawn(seed + 1, m, d, offset + shift, 0.8, kind)
    assume(on_no_edge(real, generated))
    found = scores(real, generated)
    assert_scores(found, published(real, generated), 1e-6)
    assert found[:2] == pytest.approx(torch_fidelitys_precision_and_recall(real, generated), abs=1e-6)
    assert_scores(found, by_brute_force(real, generated))


LATTICE = st.tuples(st.integers(6, 30), st.integers(6, 30), st.integers(1, 3), st.integers(1, 6))


def whole(seed: int, n: int, d: int, side: int, kind: Any) -> Features:
    """Whole numbers, whose distances are exact, often equal, and often zero."""
    return np.random.default_rng(seed).integers(0, side + 1, (n, d)).astype(kind)


@pytest.mark.usefixtures("blocks")
@examples
@given(SEEDS, LATTICE, KINDS)
def test_balls_hold_their_edge(seed: int, sizes: tuple[int, int, int, int], kind: type) -> None:
    n, m, d, side = sizes
    real, generated = whole(seed, n, d, side, kind), whole(seed + 1, m, d, side, kind)
    found = scores(real, generated)
    assert_scores(found, by_brute_force(real, generated))
    assert found[:2] == pytest.approx(torch_fidelitys_precision_and_recall(real, generated), abs=1e-6)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(6, 2), (40, 5), (61, 64)])
def test_a_copy_of_the_real_faces_has_all_scores(n: int, d: int, kind: type) -> None:
    """Each ball holds the k-th neighbour on its edge beside the k within, where prdc's open balls have a density of 1.

    So too where the distance and the radius were rounded in different places.
    """
    real = drawn(n, n, d, kind=kind)
    assert_scores(scores(real, real.copy()), (1, 1, 6 / 5, 1))
    assert_scores(scores(real, real[np.random.default_rng(0).permutation(n)]), (1, 1, 6 / 5, 1))
    if n > 6:  # prdc needs one more than the sixth
        open_balls = published(real, real.copy())
        assert (open_balls.precision, open_balls.recall, open_balls.coverage) == (1, 1, 1)
        assert open_balls.density == pytest.approx(1.0, abs=0.21)


@pytest.mark.usefixtures("blocks")
def test_faces_far_from_the_real_ones_have_no_score() -> None:
    assert scores(drawn(0, 30, 6), drawn(1, 25, 6, 1000.0)) == (0, 0, 0, 0)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_real_face_over_and_over_is_precise_and_nothing_else(kind: type) -> None:
    real = drawn(0, 200, 8, kind=kind)
    found = scores(real, np.repeat(real[17:18], 50, axis=0))
    assert found.precision == 1
    assert found.recall == 1 / 200  # itself, in a ball that is a point
    of_real = cdist(real.astype(np.float64), real.astype(np.float64))
    assert found.coverage == np.mean(of_real[:, 17] <= np.sort(of_real)[:, 5]) < 0.2


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -37.7, 12345.6])
def test_one_and_the_same_face_on_both_sides_has_all_scores(value: float, kind: type) -> None:
    """Balls of no radius, which hold their centre however it is rounded."""
    face: Features = np.linspace(value, value * 3, 33).astype(kind)
    real, generated = np.tile(face, (20, 1)), np.tile(face, (15, 1))
    assert_scores(scores(real, generated), (1, 1, 20 / 5, 1))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("d", [2, 64])
@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01])
def test_a_large_mean_loses_nothing(d: int, spread: float, kind: type) -> None:
    real, generated = (drawn(i, n, d, 1e4, spread, kind) for i, n in enumerate((40, 50)))
    assert_scores(scores(real, generated), by_brute_force(real, generated))
    numbers, distances = nearest(generated, real, 4)
    expected = cdist(generated.astype(np.float64), real.astype(np.float64))
    np.testing.assert_allclose(distances, np.sort(expected)[:, :4], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, numbers, axis=1), distances, rtol=1e-5)


# Equal counts.


def reference_of(features: Features) -> Reference:
    return Reference(Statistics(len(features), np.zeros(1), np.zeros((1, 1))), features.astype(np.float32))


SIZES = st.integers(2, 30)


@examples
@given(SEEDS, SIZES, SIZES, SIZES, SIZES)
def test_all_sides_of_scores_and_floors_have_as_many_features(seed: int, n: int, m: int, i: int, j: int) -> None:
    faces, real, instead, other = (drawn(seed + k, rows, 3) for k, rows in enumerate((n, m, i, j)))
    floor = Floor(reference_of(instead), reference_of(other))
    count = min(n, m, i, j) if min(i, j) >= neighbours.LEAST else min(n, m)
    assert equal_count(faces, reference_of(real), floor) == count
    found = scores_and_floors(faces, reference_of(real), floor, "kid", torch.device("cpu"))
    single = faces, real.astype(np.float32), instead.astype(np.float32), other.astype(np.float32)
    faces, real, instead, other = (side[:count] for side in single)
    expected: dict[str, float] = {}
    for at, to, beside in ((faces, real, ""), (instead, other, "_floor")):
        if beside and min(i, j) < neighbours.LEAST:
            continue
        if count >= LEAST:
            expected[f"kid{beside}"] = kernel_distance(at, to).value
        if count >= neighbours.LEAST:
            expected |= {f"{name}{beside}": value for name, value in zip(SCORES, scores(to, at), strict=True)}
    found.pop("kid_standard_error", None)
    assert found == expected


# The nearest faces.


@pytest.mark.usefixtures("blocks")
@examples
@given(SEEDS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), OFFSETS, KINDS)
def test_the_nearest_are_those_of_brute_force(
    seed: int, n: int, m: int, d: int, count: int, offset: float, kind: type
) -> None:
    of, among = drawn(seed, n, d, offset, kind=kind), drawn(seed + 1, m, d, offset, kind=kind)
    numbers, distances = nearest(of, among, count)
    assert numbers.shape == distances.shape == (n, min(count, m))
    assert all(len(set(row)) == len(row) for row in numbers.tolist())
    expected = cdist(of.astype(np.float64), among.astype(np.float64))
    np.testing.assert_allclose(distances, np.sort(expected)[:, :count], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(expected, numbers, axis=1), distances, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("blocks")
@examples
@given(SEEDS, LATTICE, st.integers(1, 35), KINDS)
def test_of_equally_near_faces_the_first_comes_first(
    seed: int, sizes: tuple[int, int, int, int], count: int, kind: type
) -> None:
    """Those that are left out for their equals too."""
    n, m, d, side = sizes
    of, among = whole(seed, n, d, side, kind), whole(seed + 1, m, d, side, kind)
    numbers, distances = nearest(of, among, count)
    expected = cdist(of.astype(np.float64), among.astype(np.float64))
    assert np.array_equal(numbers, np.argsort(expected, axis=1, kind="stable")[:, :count])
    np.testing.assert_allclose(distances, np.sort(expected)[:, :count], rtol=1e-15)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "d"), [(5, 3), (13, 40), (30, 64), (37, 200)])
def test_of_faces_that_are_there_three_times_the_first_comes_first(m: int, d: int, kind: type) -> None:
    """Equal rows are equally near, wherever they lie in a product of matrices."""
    of, once = drawn(0, 11, d, 1.0, kind=kind), drawn(1, m, d, 1.0, kind=kind)
    thrice = np.concatenate([once, once, once])
    numbers, _ = nearest(of, thrice, 3 * m)
    assert (numbers[:, 0::3] < m).all()
    assert np.array_equal(numbers[:, 1::3], numbers[:, 0::3] + m)
    assert np.array_equal(numbers[:, 2::3], numbers[:, 0::3] + 2 * m)
    for count in (1, 2, 5):
        assert np.array_equal(nearest(of, thrice, count)[0], numbers[:, :count])


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_face_that_is_there_is_the_nearest_at_no_distance(offset: float, kind: type) -> None:
    among = drawn(0, 30, 20, offset, kind=kind)
    order = np.random.default_rng(0).permutation(30)
    numbers, distances = nearest(among[order], among)
    assert np.array_equal(numbers[:, 0], order) and not distances.any()
