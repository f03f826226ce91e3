"""Which trainings may still be gone on with, and by which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from dcgan.params import load, overrides, parse, validate
from dcgan.schema import CropParams, DownloadParams, Params, TrainParams
from dcgan.system.errors import UserError
from dcgan.tracking.repository import commit, git
from dcgan.tracking.trainings import Training
from pipeline.support.dvc_working import FAILED, QUEUED, copies, reflog, working

_TRAINING = {key for section in (DownloadParams, CropParams, TrainParams) for key in section.model_fields}


def seekers(root: Path) -> Callable[[Training | None], str]:
    """Returns a function that names what has the settings of a training, and would go on with it; empty if nothing has.

    These are params.yaml, and the experiments that DVC runs now or has in its queue, including those that failed.
    """
    wanted = {"params.yaml": load(root / "params.yaml")}
    texts = {_name(message): _shown(root, commit) for ref in (QUEUED, FAILED) for commit, message in reflog(root, ref)}
    running = [path / "params.yaml" for path in copies(root) if working(path)]
    texts |= {f"an experiment in {path.parent}": path.read_text() for path in running if path.exists()}
    for who, text in texts.items():
        try:
            wanted[who] = parse(text)
        except UserError:  # of an older version of the project, which cannot go on with anything
            continue

    def seeker(training: Training | None) -> str:
        asked = _params(wanted["params.yaml"], training)
        return next((who for who, params in wanted.items() if asked and _same(params, asked)), "")

    return seeker


def how_to_resume(root: Path, training: Training | None) -> str:
    """The command that goes on with a training, as the end of a sentence; empty if its settings are not known."""
    present = load(root / "params.yaml")
    params = _params(present, training)
    if params is None or training is None:
        return "; its settings are not known"
    command = " ".join(["dvc exp run", *(f"-S {override}" for override in overrides(present, params))])
    code = f" with the code of commit {training.commit[:7]}" if training.commit not in ("", commit(root)) else ""
    return f"; `{command}`{code} resumes it"


def _name(message: str) -> str:
    """The name of an experiment in DVC's queue, by its commit's message: `commit: dvc-exp:HEAD:BASELINE:NAME`."""
    return f"the experiment {(message.split(':') + [''] * 4)[4]} in DVC's queue"


def _shown(root: Path, revision: str) -> str:
    return git(root, "show", f"{revision}:./params.yaml").stdout


def _params(present: Params, training: Training | None) -> Params | None:
    """The parameters of a training, those of the evaluation as in `present`; None if they are not known."""
    if training is None:
        return None
    said: Mapping[str, Any] = {key: yaml.safe_load(text) for key, text in training.params.items() if key in _TRAINING}
    try:
        return validate(present.model_dump() | dict(said))
    except UserError:  # of another version of the project
        return None


def _same(one: Params, other: Params) -> bool:
    return one.model_dump(include=_TRAINING) == other.model_dump(include=_TRAINING)
