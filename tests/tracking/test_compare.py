"""`dcgan compare`: runs that differ in seed alone are one setting, and its spread decides what is a difference."""

from __future__ import annotations

import hashlib
import io
import json
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param
from scipy.stats import ttest_ind, tukey_hsd
from user import as_a_user

from dcgan.__main__ import main
from dcgan.system.errors import UserError
from dcgan.tracking import comparison
from dcgan.tracking.comparison import Comparison, compare, interval
from dcgan.tracking.connection import connect
from dcgan.tracking.measured import Measured, as_texts, of_mlflow, protocol
from dcgan.tracking.metric_groups import plain_names
from dcgan.tracking.repository import commit, git

HOW = {"network": "efficientnet_lite0", "samples": "32"}
# Four settings with three seeds: distances by learning rate and loss.
MEASURED = {
    ("0.001", "bce"): (463.7, 505.8, 485.4),
    ("0.001", "hinge"): (466.5, 513.1, 487.8),
    ("1e-05", "bce"): (609.2, 598.25, 633.125),
    ("1e-05", "hinge"): (596.0, 611.5, 702.75),
}
# Their differences from the first, as scipy's tukey_hsd has them with equal_var=False (Games and Howell).
INTERVALS = {
    ("0.001", "hinge"): (-70.0757997177931, 78.40913305112647),
    ("1e-05", "bce"): (62.826437373397184, 194.29022929326936),
    ("1e-05", "hinge"): (-43.6989390241545, 347.2656056908211),
}
TWELVE = [(lr, loss, seed, d) for (lr, loss), three in MEASURED.items() for seed, d in enumerate(three, 1)]


def run(lr: str, seed: int, distance: float, **changed: Any) -> Measured:
    """A run named after its settings."""
    name = f"lr {lr} seed {seed}"
    about = Measured(name, settings={"lr": lr, "nz": "100"}, seed=str(seed), protocol=HOW)
    return replace(about, **({"metrics": {"frechet_distance": distance}} | changed))


def three(lr: str, *distances: float) -> list[Measured]:
    return [run(lr, seed, distance) for seed, distance in enumerate(distances, 1)]


# Arithmetic.

VALUES = st.floats(-1000, 1000).map(lambda value: round(value, 3))
RUNS = st.lists(
    st.builds(
        lambda lr, loss, seed, value: Measured(
            "name", settings={"lr": lr, "loss": loss, "nz": "100"}, seed=seed, metrics={"fid": value}, protocol=HOW
        ),
        st.sampled_from(["0.001", "0.002"]),
        st.sampled_from(["bce", "hinge"]),
        st.sampled_from(["1", "2", "3", "4"]),
        VALUES,
    ),
    min_size=1,
    max_size=20,
)


def grouped(runs: list[Measured]) -> Comparison:
    """Without intervals: their quantiles take longer than all else, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "interval", lambda *_: (-1.0, 1.0))
        return compare(runs)


@settings(max_examples=40, deadline=None)
@given(RUNS)
def test_settings_are_told_apart_by_all_but_the_seed(runs: list[Measured]) -> None:
    newest = {(run.settings["lr"], run.settings["loss"], run.seed): run.metrics["fid"] for run in runs}
    by_hand: dict[tuple[str, str], list[float]] = {}
    for (lr, loss, _), value in newest.items():
        by_hand.setdefault((lr, loss), []).append(value)
    result = grouped(runs)
    differ = [name for i, name in ((1, "loss"), (0, "lr")) if len({setting[i] for setting in by_hand}) > 1]
    assert result.parameters == differ
    assert result.table["mean"].is_monotonic_increasing and len(result.table) == len(by_hand)
    for _, row in result.table.iterrows():
        (values,) = (
            values
            for setting, values in by_hand.items()
            if all(row[name] == value for name, value in zip(["lr", "loss"], setting, strict=True) if name in differ)
        )
        assert row["seeds"] == len(values) and row["mean"] == pytest.approx(statistics.fmean(values), abs=1e-9)
        if len(values) > 1:
            assert row["std"] == pytest.approx(statistics.stdev(values), abs=1e-9)
        else:
            assert np.isnan(row["std"])


@settings(max_examples=40, deadline=None)
@given(RUNS, st.randoms(use_true_random=False), st.integers(-1000, 1000))
def test_neither_the_order_nor_the_seeds_names_count_and_a_shift_moves_the_means_alone(
    runs: list[Measured], random: Any, shift: int
) -> None:
    runs = list({(*run.settings.values(), run.seed): run for run in runs}.values())
    before = grouped(runs).table
    if not before["mean"].is_unique:  # settings of the same mean stand in the order of their runs
        return
    random.shuffle(runs)
    others = [replace(run, seed=f"other {run.seed}", metrics={"fid": run.metrics["fid"] + shift}) for run in runs]
    after = grouped(others).table[list(before.columns)]
    texts = [name for name in before.columns if name in ("lr", "loss")]
    assert after[texts].equals(before[texts])
    moved = before.drop(columns=texts).astype(float)
    moved["mean"] += shift
    np.testing.assert_allclose(after.drop(columns=texts).astype(float), moved, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=2, max_size=5, unique=True), st.lists(VALUES, min_size=2, max_size=5, unique=True))
def test_the_interval_of_two_settings_is_welchs(a: list[float], b: list[float]) -> None:
    # After Welch 1947, the quantile by the incomplete beta function's inverse.
    from scipy.special import stdtrit

    of_a, of_b = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    half = stdtrit(freedom, 0.975) * (of_a + of_b) ** 0.5
    difference = statistics.fmean(a) - statistics.fmean(b)
    assert interval(a, b, 2) == pytest.approx((difference - half, difference + half), rel=1e-6, abs=1e-6)


@pytest.mark.long
def test_the_intervals_of_more_settings_are_those_of_games_and_howell() -> None:
    theirs = tukey_hsd(*MEASURED.values(), equal_var=False).confidence_interval(0.95)
    low, high = np.array(theirs.low)[1:, 0], np.array(theirs.high)[1:, 0]
    assert np.array(list(INTERVALS.values())) == pytest.approx(np.stack([low, high], axis=1), rel=1e-9)


# What is said.


def test_a_best_setting_is_named_only_if_there_is_one() -> None:
    near, far = three("2", 101, 111, 119), three("3", 901, 910, 922)
    best = three("1", 100, 110, 120)
    assert compare(best + near).verdict[0] == "No difference beyond the seeds."
    assert compare(best + far).verdict[0] == (
        "Best: lr 1; its frechet_distance differs from that of every other setting by more than the seeds explain."
    )
    assert compare(best + near + far).verdict[0] == (
        "No winner: no difference beyond the seeds between lr 1 and lr 2. Worse than lr 1: lr 3."
    )
    assert "all pairs of the 3 settings at once" in compare(best + near + far).verdict[1]


def test_what_is_better_is_known_or_asked_for() -> None:
    def precise(lr: str, *values: float) -> list[Measured]:
        return [run(lr, i, 0, metrics={"sample_precision": v, "copies": v}) for i, v in enumerate(values)]

    runs = precise("1", 0.1, 0.2, 0.15) + precise("2", 0.9, 0.8, 0.85)
    assert compare(runs, "sample_precision").verdict[0].startswith("Best: lr 2")
    with pytest.raises(UserError, match="copies: it is not known which side is better; add --best lowest"):
        compare(runs, "copies")
    assert compare(runs, "copies", "lowest").verdict[0].startswith("Best: lr 1")


def test_a_single_seed_is_shown_and_never_judged() -> None:
    result = compare([run("1", 1, 10.0), *three("2", 100, 110, 120), *three("3", 900, 910, 920)])
    assert result.table["lr"].tolist() == ["1", "2", "3"] and result.table["difference"].tolist() == [-100, 0, 800]
    assert result.verdict[0].startswith("Best: lr 2; its frechet_distance differs from that of lr 3 by more")
    assert result.verdict[-1] == "No interval, which takes two seeds of different results: lr 1."
    alone = compare([run("1", 1, 10.0), run("2", 1, 20.0)])
    assert alone.verdict == ["No interval, which takes two seeds of different results: lr 2."]
    assert compare(three("1", 5, 5, 5) + three("2", 6, 6, 6)).verdict == alone.verdict


def test_one_setting_is_a_mean_with_its_spread_beside_the_floor() -> None:
    measured = {"frechet_distance_floor": 52.0}
    runs = [replace(run, metrics={**run.metrics, **measured}) for run in three("1", 417, 420, 429)]
    result = compare(runs)
    assert result.table.to_dict("records") == [
        {"seeds": 3, "mean": 422.0, "std": pytest.approx(39**0.5), "floor": 52.0}
    ]
    assert result.verdict == [] and result.title.startswith("frechet_distance (lowest is best): 3 runs, 1 setting;")


def test_what_is_not_counted_is_named() -> None:
    good = three("1", 100, 110, 120)
    bad = [
        run("1", 4, 0, name="died", state="failed"),
        run("1", 5, 0, name="busy", state="running"),
        run("1", 6, 0, name="waits", state="queued"),
        run("1", 7, 0, name="bare", metrics={}),
        run("1", 8, 0, name="otherwise", protocol=HOW | {"samples": "24"}),
        run("1", 9, 0, name="unsaid", protocol={"network": "efficientnet_lite0"}),
    ]
    result = compare([run("1", 1, 999, name="older"), *bad, *good])
    assert result.notes == [
        "Not counted: 1 failed (died).",
        "Not counted: 1 running (busy).",
        "Not counted: 1 queued (waits).",
        "Not counted, since the distance was not measured: bare.",
        "Not compared, since measured otherwise than the other 4: otherwise (samples 24, not 32); unsaid (samples "
        "unknown, not 32).",
        "Counted once, since another run has the same settings and seed: older.",
    ]
    assert result.table["seeds"].tolist() == [3] and result.table["mean"].tolist() == [110]
    with pytest.raises(UserError, match=r"the distance: none of the 4 runs has it\. Not counted: 1 failed"):
        compare(bad[:4])


def test_a_distance_by_another_network_is_another_protocol() -> None:
    fid = [run("1", 4, 0, name="fid", metrics={"fid": 20.0}, protocol={"network": "inception", "samples": "32"})]
    result = compare(three("1", 100, 110, 120) + fid)
    assert result.title.startswith("frechet_distance") and "fid (network inception" in result.notes[0]


def test_values_are_equal_that_mean_the_same() -> None:
    dvc = {"lr": "1e-05", "nz": 100, "mirror": False, "crop_size": None, "loss": "bce", "beta1": 0.0}
    mlflow = {"lr": "1e-05", "nz": "100", "mirror": "False", "crop_size": "", "loss": "bce", "beta1": "0.0"}
    assert as_texts(dvc) == as_texts(mlflow) == as_texts(dvc | {"lr": 1e-5, "nz": 100.0})


# DVC's experiments.

PIPELINE = {
    "train": {"cmd": "true", "params": ["lr", "loss", "seed"], "deps": ["src/loop.py"], "outs": ["generator"]},
    "evaluate": {
        "cmd": "true",
        "params": ["seed", "fid_samples"],
        "deps": ["generator", "pipeline/evaluate.py"],
        "metrics": [{"reports/metrics.json": {"cache": False}}],
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with the twelve experiments, one that is queued, and three that cannot be compared with them."""
    root = tmp_path_factory.mktemp("compare") / "project"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        as_a_user(patch)
        files = {
            "params.yaml": "lr: 0.5\nloss: bce\nseed: 1\nfid_samples: 32\n",
            "dvc.yaml": yaml.safe_dump({"stages": PIPELINE}),
            ".gitignore": "/generator\n/ml*\n",
            "src/loop.py": "",
            "pipeline/evaluate.py": "",
        }
        for name, content in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(content)
        git(root, "init", "-q", "-b", "main")
        subprocess.run(["dvc", "init", "-q"], cwd=root, check=True)
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "project")
        subprocess.run(["dvc", "exp", "run", "--queue", "-n", "waits", "-S", "seed=9"], cwd=root, check=True)
        for lr, loss, seed, distance in TWELVE:
            experiment(root, f"lr{lr}-{loss}-{seed}", lr, loss, seed, distance)
        experiment(root, "few", "0.001", "bce", 4, 470.0, samples=24)
        experiment(root, "stale", "0.001", "bce", 5, 470.0, evaluated="another")
        experiment(root, "edited", "0.001", "bce", 6, 470.0, metrics_md5="other")
        experiment(root, "code", "0.001", "bce", 7, 470.0, evaluation="other")
        yield root


def experiment(
    root: Path,
    name: str,
    lr: str,
    loss: str,
    seed: int,
    distance: float,
    samples: int = 32,
    evaluated: str = "",
    metrics_md5: str = "",
    evaluation: str = "same",
) -> None:
    """Commits what `dvc exp run` would."""
    generator = hashlib.md5(f"{lr} {loss} {seed}".encode()).hexdigest()
    metrics: dict[str, Any] = {"frechet_distance": distance, "precision": 0.5, "recall": None}
    metrics |= {"network": "efficientnet_lite0", "samples": samples, "seed": seed, "crop_size": None}
    text = json.dumps(metrics)
    lock = {
        "train": {
            "params": {"params.yaml": {"lr": lr, "loss": loss, "seed": seed}},
            "deps": [{"path": "src/loop.py", "md5": "0"}],
            "outs": [{"path": "generator", "md5": generator}],
        },
        "evaluate": {
            "params": {"params.yaml": {"seed": seed, "fid_samples": samples}},
            "deps": [
                {"path": "generator", "md5": evaluated or generator},
                {"path": "pipeline/evaluate.py", "md5": evaluation},
            ],
            "outs": [{"path": "reports/metrics.json", "md5": metrics_md5 or hashlib.md5(text.encode()).hexdigest()}],
        },
    }
    stages = {stage: {"cmd": "true", **entry} for stage, entry in lock.items()}
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports" / "metrics.json").write_text(text)
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    git(root, "add", "-A")
    tree = git(root, "write-tree").stdout.strip()
    head = commit(root)
    made = git(root, "commit-tree", tree, "-p", head, "-m", name).stdout.strip()
    git(root, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", made)
    git(root, "reset", "-q", "--hard")


def by_hand() -> pd.DataFrame:
    """What pandas makes of the twelve, by lr and loss."""
    frame = pd.DataFrame(TWELVE, columns=["lr", "loss", "seed", "distance"])
    return frame.groupby(["lr", "loss"])["distance"].agg(["count", "mean", "std"]).sort_values("mean")


def check(text: str) -> None:
    """Compares a table in CSV with pandas' and with scipy's, to the last digit."""
    table, wanted = pd.read_csv(io.StringIO(text), dtype={"lr": str}), by_hand()
    assert list(table.columns) == ["loss", "lr", "seeds", "mean", "std", "difference", "low", "high"]
    assert [*zip(table["lr"], table["loss"], strict=True)] == list(wanted.index)
    for column, name in (("seeds", "count"), ("mean", "mean"), ("std", "std")):
        assert table[column].tolist() == wanted[name].tolist()
    assert table["difference"].tolist() == (wanted["mean"] - wanted["mean"].iloc[0]).tolist()
    ends = [INTERVALS[setting] for setting in wanted.index[1:]]
    assert table[["low", "high"]].values[1:] == pytest.approx(np.array(ends), rel=1e-9)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `dcgan compare` prints in a project: the output, and the sentences where these are printed apart."""

    def said(root: Path, *words: str) -> tuple[str, str]:
        monkeypatch.chdir(root)
        main(["compare", *words])
        read = capsys.readouterr()
        return read.out, read.err

    return said


def test_twelve_experiments_of_dvc_are_four_settings(project: Path, said: Any) -> None:
    table, about = said(project, "--format", "csv")
    check(table)
    assert about.startswith("frechet_distance (lowest is best): 12 runs, 4 settings; network efficientnet_lite0")
    assert "beyond the seeds between loss bce, lr 0.001 and loss hinge, lr 0.001; loss hinge, lr 1e-05. Worse" in about
    assert "Not counted: 1 queued (waits)." in about
    assert "few (samples 24, not 32)" in about and "code (evaluation_code " in about
    assert "since the distance was not measured: edited, stale." in about


# MLflow's runs.


def test_metrics_of_older_versions_are_read_by_the_names_that_they_have_now() -> None:
    old = {"scores/precision": 0.5, "recall_floor": 0.25, "distance/fid": 7.0}
    assert plain_names(old) == {"sample_precision": 0.5, "sample_recall_floor": 0.25, "fid": 7.0}
    was = {"image_size": 64, "nc": 3, "dataset": "drawn", "crop_size": 178, "seed": 1, "samples": 50}
    now = {"resolution": 64, "channels": 3, "data_source": "drawn", "crop": 178, "sampling_seed": 2, "samples": 50}
    assert protocol(was, {}) == protocol(now, {}) and "64" in protocol(now, {}).values()


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, empty_store: bytes) -> Path:
    """A project whose store has the twelve runs, three without a result, and one of another version."""
    root = tmp_path_factory.mktemp("logged")
    (root / "dvc.yaml").touch()
    (root / "mlflow.db").write_bytes(empty_store)
    client, experiment = connect(root)
    how = {"network": "efficientnet_lite0", "samples": 32, "frechet_distance": 1.0, "seed": 1}

    def log(name: str, lr: str, loss: str, seed: int, distance: float | None, status: str = "FINISHED") -> None:
        tags = {"protocol": json.dumps(protocol(how, {}))}
        made = client.create_run(experiment, tags=tags if name != "old" else {}, run_name=name)
        settings = {"lr": lr, "loss": loss, "seed": str(seed), "fid_samples": "32", "fid_network": how["network"]}
        metric = "frechet_distance" if seed == 3 else "distance/frechet_distance"  # older versions have no groups
        metrics = [Metric(metric, distance, 0, 0)] if distance else []
        client.log_batch(made.info.run_id, metrics, [Param(key, str(value)) for key, value in settings.items()])
        client.set_terminated(made.info.run_id, status)

    for lr, loss, seed, distance in TWELVE:
        log(f"{lr} {loss} {seed}", lr, loss, seed, distance)
    log("died", "0.001", "bce", 4, None, "FAILED")
    log("stopped", "0.001", "bce", 4, 1.0, "KILLED")
    log("bare", "0.001", "bce", 4, None)
    log("old", "0.001", "bce", 3, 485.4)  # of a version that told MLflow less, but nothing else
    return root


def test_twelve_runs_of_mlflow_are_the_same_settings(logged: Path) -> None:
    result = compare(of_mlflow(logged))
    check(result.table.to_csv(index=False))
    assert result.notes[:3] == [
        "Not counted: 1 failed (died).",
        "Not counted: 1 killed (stopped).",
        "Not counted, since the distance was not measured: bare.",
    ]


def test_names_choose_and_no_difference_is_said(logged: Path, said: Any) -> None:
    names = [f"0.001 {loss} {seed}" for loss in ("bce", "hinge") for seed in (1, 2, 3)]
    text, about = said(logged, *names, "--source", "mlflow", "--format", "markdown")
    assert about == "" and "\nNo difference beyond the seeds.\n" in text and "Not " not in text
    head, _, first, second = (line for line in text.splitlines() if line.startswith("|"))
    assert head.split("|")[1].strip() == "loss" and "lr" not in head
    assert [cell.strip() for cell in first.split("|")[1:7]] == ["bce", "3", "484.967", "21.0533", "0", ""]
    ends = ttest_ind(MEASURED["0.001", "hinge"], MEASURED["0.001", "bce"], equal_var=False).confidence_interval(0.95)
    assert [cell.strip() for cell in second.split("|")[6:8]] == [f"{ends.low:.6g}", f"{ends.high:.6g}"]
    with pytest.raises(SystemExit, match="nobody: it is none of the"):
        said(logged, "--source", "mlflow", "nobody")
