"""DVC's experiments, as git keeps them, and the result that a commit records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from dcgan.system.errors import UserError
from dcgan.system.project_files import GENERATOR, METRICS
from dcgan.tracking.repository import commit, git
from dcgan.tracking.run_folder import DVC_BASELINE, DVC_EXPERIMENT, evaluation_id


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment; its name is unique only among the experiments of one baseline."""

    name: str
    baseline: str  # the commit that it started from
    revision: str = ""  # the commit that it ended in

    @property
    def tags(self) -> dict[str, str]:
        """The tags of its runs."""
        return {DVC_EXPERIMENT: self.name, DVC_BASELINE: self.baseline}


@dataclass(frozen=True)
class Result:
    """A generator and its evaluation."""

    generator: str  # MD5 of the file
    evaluation: str  # see `evaluation_id`; empty if this generator was not evaluated


def experiments(root: Path) -> list[Experiment]:
    """All experiments that DVC lists, of all baselines, oldest first."""
    form = "--format=%(refname) %(objectname)"
    lines = git(root, "for-each-ref", "--sort=committerdate", form, "refs/exps/??/*/*").stdout.splitlines()
    parts = [line.replace(" ", "/").split("/") for line in lines]  # refs/exps/01/234567.../NAME REVISION
    return [Experiment(name, first + rest, revision) for _, _, first, rest, name, revision in parts]


def resolve(root: Path, what: str) -> tuple[str, Experiment | None]:
    """Finds a commit as DVC does: by git revision, else by the name of an experiment, of HEAD if several have it.

    Returns:
        The commit, empty if `what` is neither; and its experiment, if it is one's.

    Raises:
        UserError: several experiments have this name, and none of them started from HEAD.
    """
    listed = experiments(root)
    parsed = git(root, "rev-parse", "--verify", "--quiet", f"{what}^{{commit}}")
    if parsed.returncode == 0:
        revision = parsed.stdout.strip()
        return revision, next((each for each in listed if each.revision == revision), None)
    named = [each for each in listed if each.name == what]
    head = commit(root)
    chosen = named if len(named) == 1 else [each for each in named if each.baseline == head]
    if named and not chosen:
        those = ", ".join(f"{each.revision[:7]} (from {each.baseline[:7]})" for each in named)
        raise UserError(
            f"{what}: is the name of {len(named)} experiments, none of which started from HEAD; give one's commit "
            f"instead: {those}."
        )
    return (chosen[0].revision, chosen[0]) if chosen else ("", None)


def result_of(root: Path, revision: str) -> Result | None:
    """The result that a commit's dvc.lock and metrics.json record; None if that lists no generator."""
    lock, metrics = (git(root, "show", f"{revision}:./{name}") for name in ("dvc.lock", METRICS))
    stages = yaml.safe_load(lock.stdout)["stages"] if lock.returncode == 0 else {}

    def md5(stage: str, side: str) -> str:
        files = stages.get(stage, {}).get(side, [])
        return next((str(file["md5"]) for file in files if file["path"] == str(GENERATOR)), "")

    generator = md5("train", "outs")
    measured = metrics.returncode == 0 and md5("evaluate", "deps") == generator  # else it was another generator
    return Result(generator, evaluation_id(json.loads(metrics.stdout)) if measured else "") if generator else None


def experiment_with(root: Path, result: Result) -> Experiment | None:
    """The oldest experiment with this result, of HEAD if possible; None if DVC lists none."""
    listed = {each.revision: each for each in experiments(root)}
    if not listed:
        return None
    found = git(root, "grep", "--files-with-matches", "-F", "-e", result.generator, *listed, "--", "dvc.lock").stdout
    candidates, head = [listed[line.partition(":")[0]] for line in found.splitlines()], commit(root)
    candidates.sort(key=lambda each: each.baseline != head)
    return next((each for each in candidates if result_of(root, each.revision) == result), None)


def is_listed(root: Path, name: str, baseline: str) -> bool:
    """Whether DVC lists this experiment; one that was interrupted or removed is not listed."""
    return (name, baseline) in [(each.name, each.baseline) for each in experiments(root)]
