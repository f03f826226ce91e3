"""A name leads to the right run: in `dcgan runs` as in MLflow's search, and as DVC lists it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev
from mlflow import MlflowClient
from mlflow.entities import Run as Found
from project import Project
from user import as_a_user

from dcgan.system.errors import Interrupted, UserError
from dcgan.system.files import sha256
from dcgan.system.project_files import GENERATOR, METRICS
from dcgan.tracking.connection import connect
from dcgan.tracking.experiments import Experiment, Result, experiment_with, experiments, result_of
from dcgan.tracking.repository import commit, git
from dcgan.tracking.reproduce import runs_of
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import (
    EVALUATION,
    FINGERPRINT,
    GENERATOR_SHA256,
    Description,
    evaluation_id,
    spool_of,
    waiting,
)
from dcgan.tracking.sender import send
from dcgan.tracking.store import Store

PIPELINE = """
stages:
  train:
    cmd: mkdir -p models && grep lr params.yaml > models/generator.safetensors
    params: [lr]
    outs: [models/generator.safetensors]
  evaluate:
    cmd: mkdir -p reports && sed -n 's/\\(samples\\)/{"\\1"/; s/$/}/; 2p' params.yaml > reports/metrics.json
    params: [samples]
    deps: [models/generator.safetensors]
    metrics: [{reports/metrics.json: {cache: false}}]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of two commits, each with an experiment `same`; in the second, `measured` only evaluates anew."""
    root = tmp_path_factory.mktemp("names") / "project"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        as_a_user(patch)
        files = {"params.yaml": "lr: 1\nsamples: 32\n", "dvc.yaml": PIPELINE, ".gitignore": "/ml*\n/models\n"}
        for name, content in files.items():
            (root / name).write_text(content)
        git(root, "init", "-q", "-b", "main")
        dvc(root, "init", "-q")
        dvc(root, "repro", "-q")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "first")
        log(root, commit(root, 7), {"git_commit": commit(root)})
        experiment(root, "same", "lr=2")
        git(root, "commit", "-q", "--allow-empty", "-m", "second")
        experiment(root, "same", "lr=3")
        experiment(root, "measured", "samples=24")
        yield root


def dvc(root: Path, *words: str) -> None:
    subprocess.run(["dvc", *words], cwd=root, check=True, capture_output=True)


def experiment(root: Path, name: str, setting: str) -> None:
    """Runs an experiment, logs its result as the stages do, and returns to the commit."""
    dvc(root, "exp", "run", "--name", name, "-S", setting)
    (ran,) = [each for each in experiments(root) if (each.name, each.baseline) == (name, commit(root))]
    log(root, name, ran.tags)
    git(root, "checkout", "-q", ".")


def log(root: Path, name: str, tags: dict[str, str]) -> None:
    generator = sha256(root / GENERATOR)
    with training(root, generator, name, tags).open() as run:
        finish(run, generator, hashlib.md5((root / GENERATOR).read_bytes()).hexdigest())
    evaluate(root, generator, evaluation_id(json.loads((root / METRICS).read_bytes())), name, tags)
    assert send(root)


def training(root: Path, fingerprint: str, name: str, tags: dict[str, str], patch: str = "") -> Run:
    about = Description({FINGERPRINT: fingerprint}, name, {}, opened_with=tags)
    return Run(spool_of(root), about, {"lineage/uncommitted.patch": patch.encode()} if patch else {})


def finish(run: Run, generator: str, md5: str = "") -> None:
    run.describe(tags={GENERATOR_SHA256: generator, "generator_md5": md5})


def evaluate(root: Path, generator: str, evaluation: str, name: str, tags: dict[str, str]) -> None:
    identity = {GENERATOR_SHA256: generator, EVALUATION: evaluation}
    with Run(spool_of(root), Description(identity, name, {}, opened_with=tags)).open():
        pass


def searched(root: Path, query: str) -> list[Found]:
    """What MLflow's search finds."""
    client, of = connect(root)
    return list(client.search_runs([of], query))


def ids(runs: list[Found]) -> list[str]:
    return [run.info.run_id for run in runs]


def test_a_name_of_two_baselines_leads_to_that_of_head_and_says_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (each for each in experiments(root) if each.name == "same")
    query = "tags.dvc_experiment = 'same' and tags.dvc_baseline = '{}'"
    older, right = (searched(root, query.format(each.baseline)) for each in (first, second))
    assert len(older) == len(right) == 1 and second.baseline == commit(root)
    assert ids(runs_of(root, "same")) == ids(right)
    assert f"is also the name of {older[0].info.run_id} (from {first.baseline[:7]})" in capsys.readouterr().err
    assert resolve_rev(Repo(str(root)).scm, "same") == second.revision
    for each, run in ((first, older), (second, right)):
        assert ids(runs_of(root, each.revision[:7])) == ids(run)


def test_a_name_of_other_baselines_alone_is_refused_with_the_commits_to_give(root: Path) -> None:
    first, second = (each for each in experiments(root) if each.name == "same")
    git(root, "commit", "-q", "--allow-empty", "-m", "third")
    try:
        with pytest.raises(UserError, match=f"2 experiments.*{first.revision[:7]} .*{second.revision[:7]} "):
            runs_of(root, "same")
        with pytest.raises(DvcException):
            resolve_rev(Repo(str(root)).scm, "same")
    finally:
        git(root, "reset", "-q", "--hard", "HEAD~")


def test_an_evaluation_of_its_own_has_its_own_name(root: Path) -> None:
    (trained,) = runs_of(root, "HEAD")
    (measured,) = runs_of(root, "measured")
    assert measured.data.tags["trained_in"] == trained.info.run_id and measured.info.run_name == "measured"
    assert ids(searched(root, "tags.dvc_experiment = 'measured'")) == [measured.info.run_id]
    assert "dvc_experiment" not in trained.data.tags and trained.info.run_name == trained.data.tags["git_commit"][:7]


def test_a_second_name_of_a_result_leads_to_the_run_of_the_first(root: Path) -> None:
    dvc(root, "exp", "run", "--name", "again", "-S", "lr=3")
    git(root, "checkout", "-q", ".")
    assert ids(runs_of(root, "again")) == ids(runs_of(root, "same"))


def test_the_name_of_a_run_leads_to_it_where_dvc_and_git_do_not_know_it(root: Path) -> None:
    with training(root, "by name", "seed 2, lr 0.5", {}).open() as run:
        finish(run, "by name")
    assert send(root)
    assert [run.data.tags[FINGERPRINT] for run in runs_of(root, "seed 2, lr 0.5")] == ["by name"]
    for unknown in ("seed 2", "it's"):
        with pytest.raises(UserError, match="leads to no generator; give a file, "):
            runs_of(root, unknown)


def test_the_same_bytes_trained_from_another_commit_are_a_run_of_their_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC evaluates them once."""
    (first,) = runs_of(root, "HEAD")
    like_head = git(root, "commit-tree", "-m", "like HEAD", "HEAD^{tree}").stdout.strip()
    git(root, "update-ref", f"refs/exps/11/{'1' * 38}/twice", like_head)
    with training(root, "twice", "twice", Experiment("twice", "1" * 40).tags).open() as run:
        finish(run, first.data.tags[GENERATOR_SHA256], first.data.tags["generator_md5"])
    assert send(root)
    (found,) = runs_of(root, "twice")
    assert found.data.tags[FINGERPRINT] == "twice"
    assert "the run lacks its evaluation; restore this result and run `dcgan sync`" in capsys.readouterr().err


def test_a_result_leads_to_the_experiment_that_has_all_of_it(root: Path) -> None:
    second = next(each for each in experiments(root) if (each.name, each.baseline) == ("same", commit(root)))
    result = result_of(root, second.revision)
    assert result and result.evaluation and experiment_with(root, result) == second
    assert experiment_with(root, Result(result.generator, "another evaluation")) is None


A, B = Experiment("a", "a" * 40).tags, Experiment("b", "b" * 40).tags
PLAIN: dict[str, str] = {}


def killed(root: Path, fingerprint: str) -> None:
    with pytest.raises(Interrupted), training(root, fingerprint, "a", A | {"command": "a's"}, "a's").open():
        raise Interrupted(15)


@pytest.mark.parametrize(("name", "tags"), [("b", B), ("lr 2", PLAIN)])
def test_a_training_is_named_after_who_finished_it(root: Path, name: str, tags: dict[str, str]) -> None:
    """With all that says how it was made; and it keeps that, whoever comes to it later."""
    fingerprint = f"finished by {name}"
    killed(root, fingerprint)
    for _ in range(2):
        with training(root, fingerprint, name, tags | {"command": "b's"}, "b's").open() as run:
            assert send(root)
            finish(run, fingerprint)
    with training(root, fingerprint, "later", A, "later").open() as run:
        finish(run, fingerprint)
    killed(root, fingerprint)
    evaluate(root, fingerprint, "e1", name, tags)
    evaluate(root, fingerprint, "e1", "later", A)
    assert send(root)
    (found,) = searched(root, f"tags.{FINGERPRINT} = '{fingerprint}'")
    assert found.info.run_name == name and found.info.status == "FINISHED" and found.data.tags["command"] == "b's"
    assert {key: value for key, value in found.data.tags.items() if key.startswith("dvc_")} == tags
    patch = Path(MlflowClient().download_artifacts(found.info.run_id, "lineage/uncommitted.patch"))
    assert patch.read_text() == "b's"


def test_a_training_that_another_machine_interrupted_later_is_still_of_who_finished_it(root: Path) -> None:
    store = Store(root)
    with training(root, "two machines", "b", B).open() as run:
        assert run.folder and not store.upload(run.folder)
        killed(root, "two machines")
        assert store.upload(waiting(spool_of(root))[-1])
        finish(run, "two machines")
        store.upload(run.folder)
    assert send(root)
    (found,) = searched(root, f"tags.{FINGERPRINT} = 'two machines'")
    assert found.info.run_name == "b" and B.items() <= found.data.tags.items()


@pytest.mark.parametrize(("name", "tags"), [("b", B), ("lr 2", PLAIN)])
def test_a_run_is_named_after_who_evaluated_it_if_its_experiment_is_dead(
    root: Path, name: str, tags: dict[str, str]
) -> None:
    listed = Experiment("same", commit(root)).tags
    for fingerprint, trained_by in (("dead", A), ("listed", listed)):
        with training(root, fingerprint + name, "trained", trained_by).open() as run:
            finish(run, fingerprint + name)
        for evaluation in ("e1", "e2"):
            evaluate(root, fingerprint + name, evaluation, name, tags)
    assert send(root)
    found = {
        fingerprint: searched(root, f"tags.{FINGERPRINT} = '{fingerprint}{name}'") for fingerprint in ("dead", "listed")
    }
    (dead,), (kept,) = found["dead"], found["listed"]
    assert dead.info.run_name == name and kept.info.run_name == "trained"
    assert {key: value for key, value in dead.data.tags.items() if key.startswith("dvc_")} == tags
    assert listed.items() <= kept.data.tags.items()


NAMES = """
import json, sys
from pathlib import Path
from pipeline.support.run_name import name_and_tags
from pipeline.support.stage import all_params

for text in json.load(sys.stdin):
    Path("params.yaml").write_text(text)
    all_params.cache_clear()
    print(name_and_tags(restored=False)[0])
"""
DIFFERENCES = [
    ({"lr": "1e-3"}, ""),
    ({"lr": "4e-4", "seed": "2"}, "seed 2, lr 0.0004"),
    ({"lr_discriminator": "", "crop_size": "100"}, "crop_size 100, lr_discriminator empty"),
    ({"keep": "best", "distance_kimg": "1", "augment": "true"}, "augment true, distance_kimg 1.0, keep best"),
    (
        {"r1_gamma": "1", "ngf": "16", "ndf": "16", "beta1": "0.5", "beta2": "0.9", "seed": "2", "epochs": "1"},
        "ngf 16, ndf 16, seed 2, epochs 1, beta1 0.5 and 2 more",
    ),
]


def test_a_run_without_an_experiment_is_named_after_what_differs_from_the_commit(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "dcgan")
    project.set(("lr_discriminator", "0.002"))
    project.run("git", "commit", "-qam", "another rate", check=True)
    committed = (project.folder / "params.yaml").read_text()

    def names(texts: list[str]) -> list[str]:
        command = [sys.executable, "-c", NAMES]
        done = subprocess.run(
            command, input=json.dumps(texts), cwd=project.folder, env=project.env, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    texts = [changed(committed, values) for values, _ in DIFFERENCES]
    assert names(texts) == [name or commit(project.folder, 7) for _, name in DIFFERENCES]
    (project.folder / "params.yaml").write_text("lr: 1\n")  # a file of another version
    project.run("git", "commit", "-qam", "other keys", check=True)
    assert names(texts[1:2]) == [commit(project.folder, 7)]


def changed(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key}:[^#\n]*", f"{key}: {value} ", text)
        assert count == 1, key
    return text
