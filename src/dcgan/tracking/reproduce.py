"""Finds the runs of a result, and rebuilds the result of a run, with git, DVC and MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from dcgan.metrics.names import SETTINGS, distance_name
from dcgan.system.errors import UserError
from dcgan.system.files import sha256, significant
from dcgan.system.project_files import DOWNLOADS, FOLDER, GENERATOR, LINKS, METRICS
from dcgan.tracking.connection import EXPERIMENT, connect
from dcgan.tracking.experiments import Result, resolve, result_of
from dcgan.tracking.metric_groups import plain_names
from dcgan.tracking.private import hidden
from dcgan.tracking.repository import git, patch_name
from dcgan.tracking.run_folder import DVC_BASELINE, EVALUATION, GENERATOR_SHA256, TRAINED_IN

# Copies the files of a folder, and the targets of links to files. Links to folders are skipped.
_FILES = "'(' -type f -o -type l -exec test -f '{{}}' ';' ')'"
_LEND = f"find {{0}}/ {_FILES} -print0 | tar -cf - -h --null -T - | tar -xf - -C {{1}}"


@dataclass(frozen=True)
class Plan:
    """All that is needed to rebuild the result of a run."""

    run: Run
    trained: Run  # the run that trained the generator: `run` itself, unless that only evaluated it
    root: Path
    folder: Path  # a worktree that does not exist yet
    patched: bool  # whether the run has a patch of uncommitted changes
    store: str  # address of the tracking store

    @property
    def commit(self) -> str:
        """The commit that the run was computed from."""
        return self.run.data.tags["git_commit"]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the rebuild: the training's number of threads, and no logging to MLflow."""
        threads = self.trained.data.tags.get("threads")
        return {"DCGAN_TRACKING": "0"} | ({"OMP_NUM_THREADS": threads} if threads else {})

    @property
    def lent(self) -> list[Path]:
        """Folders with files that come from neither git nor a stage: downloads and the user's own pictures."""
        places = DOWNLOADS, FOLDER, LINKS
        return [folder for folder in places if git(self.root, "ls-files", "--others", str(folder)).stdout]

    def commands(self) -> list[str]:
        """The shell commands that rebuild the result, to be run in the project's folder."""
        name, folder = patch_name(self.commit), str(self.folder)
        fetch = ["mlflow", "artifacts", "download", "-r", self.run.info.run_id, "-a", name, "-d", folder]
        patch = [fetch, ["git", "-C", folder, "apply", Path(name).name]] if self.patched else []
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return [
            shlex.join(["git", "worktree", "add", "--detach", folder, self.commit]),
            *(shlex.join(command) for command in patch),
            *(_LEND.format(path, shlex.quote(folder)) for path in self.lent),
            " ".join(["cd", shlex.quote(folder), "&&", *variables, "dvc", "repro", "--force"]),
        ]


def plan(root: Path, run_id: str, folder: Path | None = None) -> Plan:
    """Plans how to rebuild the result of a run.

    Args:
        root: the project's folder.
        run_id: id of the run.
        folder: the new worktree; by default beside the project, named after the project and the run.

    Raises:
        UserError: MLflow cannot be reached, the run does not exist or cannot be rebuilt, or the folder exists.
    """
    with asking():
        client, _ = connect(root)
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            store = hidden(str(client.tracking_uri))
            raise UserError(
                f"{run_id}: {store} has no such run; copy an id from the UI, or set MLFLOW_TRACKING_URI to its store."
            ) from None
    tags = run.data.tags
    if GENERATOR_SHA256 not in tags:
        raise UserError(f"{run_id}: the run did not finish and has no generator; give a finished run.")
    if "git_commit" not in tags:
        raise UserError(f"{run_id}: the run has no git commit, so that its code is not recorded; it cannot be rebuilt.")
    folder = (folder or root.resolve().parent / f"{root.resolve().name}-{run_id[:8]}").resolve()
    if folder.exists():
        raise UserError(f"{folder}: already exists; remove it (`git worktree remove --force`), or use --into.")
    if git(root, "cat-file", "-e", f"{tags['git_commit']}^{{commit}}").returncode:
        raise UserError(f"{run_id}: the run's commit {tags['git_commit']} is not in this repository; fetch it first.")
    patched, trained = False, run
    if TRAINED_IN in tags:
        with asking():
            trained = client.get_run(tags[TRAINED_IN])
    if tags.get("git_dirty") != "false":  # a clean run may hold the patch of a later stage
        with contextlib.suppress(MlflowException, OSError), tempfile.TemporaryDirectory() as temporary:
            patch = Path(client.download_artifacts(run_id, patch_name(tags["git_commit"]), temporary))
            patched = patch.stat().st_size > 0
    if tags.get("git_dirty") in ("true", "unknown") and not patched:
        raise UserError(f"{run_id}: its code differed from the commit, and the patch is missing; it cannot be rebuilt.")
    return Plan(run, trained, root.resolve(), folder, patched, str(client.tracking_uri))


def go(wanted: Plan) -> None:
    """Runs the plan's `commands` and compares the result with the run.

    Raises:
        UserError: a command failed, or the result is different.
    """
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = os.environ | {"PATH": programs, "MLFLOW_TRACKING_URI": wanted.store}
    for command in wanted.commands():
        done = subprocess.run(["sh", "-c", command], cwd=wanted.root, env=environment, check=False)
        if done.returncode:
            raise UserError(f"`{command}` ended with status {done.returncode}; its error is above.")
    compare(wanted)


def compare(wanted: Plan) -> None:
    """Compares the rebuilt generator and distance with those of the run, and prints the outcome.

    The distances are compared only if both were measured with the same settings.

    Raises:
        UserError: the generator or the distance is different.
    """
    tags, expected = wanted.run.data.tags, plain_names(wanted.run.data.metrics)
    digest = sha256(wanted.folder / GENERATOR)
    if digest != tags[GENERATOR_SHA256]:
        names = ("processor", "device", "instructions", "precision", "torch")
        known = wanted.trained.data.tags
        made = ", ".join(known[name] for name in names if name in known) if "device" in known else "an unknown machine"
        raise UserError(
            f"{wanted.folder / GENERATOR}: its SHA-256 is {digest}, but that of the run's generator is "
            f"{tags[GENERATOR_SHA256]}; the same bytes are guaranteed only on the same kind of machine, and the run "
            f"was computed on: {made}."
        )
    print(f"{GENERATOR}: the same bytes, SHA-256 {digest}")
    metrics = json.loads((wanted.folder / METRICS).read_text())
    name = distance_name(metrics)
    params = wanted.run.data.params
    other = [
        key for key, name in SETTINGS.items() if name in metrics and params.get(key) not in (None, str(metrics[name]))
    ]
    if other:
        print(f"{METRICS}: the run was evaluated with a different {', '.join(other)}; the distances are not compared")
    elif name in expected:
        if significant(expected[name]) != metrics[name]:
            here = f"{wanted.folder / METRICS}: {name} is {metrics[name]:g}"
            raise UserError(f"{here}, but the run's is {expected[name]:g}.")
        print(f"{METRICS}: the same {name}, {metrics[name]:g}")


def runs_of(root: Path, what: str) -> list[Run]:
    """The runs of a result, oldest first; prints to standard error what `what` leaves open.

    Args:
        root: the project's folder.
        what: a generator's file, for all its runs; or a DVC experiment or a git revision, for the runs of the generator
            and the evaluation that it records, see `_of_result`; or the name of a run, if it is none of these.

    Raises:
        UserError: `what` is none of these, or the store has no run of the result.
    """
    with asking():
        client, experiment = connect(root)

        def search(key: str, value: str) -> list[Run]:
            return list(client.search_runs([experiment], f"{key} = '{value}'", order_by=["start_time"]))

        if Path(what).is_file():
            runs = search(f"tags.{GENERATOR_SHA256}", sha256(Path(what)))
        else:
            named = search("attributes.run_name", what) if "'" not in what else []
            revision, of = resolve(root, what)
            result = result_of(root, revision) if revision else None
            if result is None and not named:
                raise UserError(
                    f"{what}: leads to no generator; give a file, a DVC experiment, or a git revision whose dvc.lock "
                    "lists one, or the name of a run."
                )
            runs = _of_result(search, what, result, of.tags if of else {}) if result else named
            chosen = {run.info.run_id for run in runs}
            others = [f"{run.info.run_id} (from {started_from(run)})" for run in named if run.info.run_id not in chosen]
            if others:
                print(f"{what}: is also the name of {', '.join(others)}.", file=sys.stderr)
    if not runs:
        store = hidden(str(client.tracking_uri))
        raise UserError(
            f"{what}: {store} has no run of this generator in the experiment {EXPERIMENT}; set MLFLOW_TRACKING_URI to "
            "the store that has it, or log this project's present result with `dcgan sync`."
        )
    return runs


def _of_result(search: Callable[[str, str], list[Run]], what: str, result: Result, own: Mapping[str, str]) -> list[Run]:
    """The runs of a result: with its evaluation, else of its generator; and if any of them have the tags `own`, those.

    A run of its own that was not evaluated counts as well: if the same bytes were trained twice, DVC evaluates once.
    """
    digests = {run.data.tags[GENERATOR_SHA256] for run in search("tags.generator_md5", result.generator)}
    runs = [run for digest in digests for run in search(f"tags.{GENERATOR_SHA256}", digest)]
    wanted = result.evaluation
    if wanted:
        runs = [run for run in runs if run.data.tags.get(EVALUATION, wanted) == wanted] or runs
    runs = [run for run in runs if own and own.items() <= run.data.tags.items()] or runs
    measured = [run for run in runs if run.data.tags.get(EVALUATION) == wanted]
    if runs and wanted and not measured:
        print(f"{what}: the run lacks its evaluation; restore this result and run `dcgan sync`.", file=sys.stderr)
    return measured or runs


def started_from(run: Run) -> str:
    """The baseline of the run's experiment, or its commit, in short."""
    return next(
        (run.data.tags[name][:7] for name in (DVC_BASELINE, "git_commit") if name in run.data.tags), "no commit"
    )


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Turns an error of MLflow in the block, such as a server that cannot be reached, into a UserError."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, filelock.Timeout) as error:
        reason = hidden(str(error).splitlines()[0][:200])
        raise UserError(
            f"MLflow cannot be reached ({reason}); start its server, or set MLFLOW_TRACKING_URI to its address."
        ) from None
