"""What a run is known by: code, commit, experiment, parameters. Nothing of it goes into an out."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import Any

from stage import ROOT

import yaml

from dcgan.params import CropParams, DownloadParams, TrainParams, load


def code_digest(stage: str) -> str:
    """A hash of the code that dvc.yaml names as the stage's dependencies."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    sha = hashlib.sha256()
    for path in sorted(dep for dep in deps if dep.endswith(".py")):
        sha.update(path.encode() + b"\0" + (ROOT / path).read_bytes())
    return sha.hexdigest()


def training_params() -> dict[str, Any]:
    """Every parameter that decides a generator, for MLflow alone."""
    params = load(ROOT / "params.yaml")
    names = (*DownloadParams.model_fields, *CropParams.model_fields, *TrainParams.model_fields)
    return {name: getattr(params, name) for name in names}


def run_name() -> str:
    """The DVC experiment's name, or the commit."""
    return os.environ.get("DVC_EXP_NAME") or (_git("rev-parse", "--short", "HEAD") or "no commit")


def run_tags() -> dict[str, str]:
    """The commit, whether code or parameters differ from it, and the DVC experiment."""
    changed = _git("status", "--porcelain", "--", "src", "pipeline", "dvc.yaml", "params.yaml")
    tags = {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": str(bool(changed)).lower(),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc_baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
    }
    return {name: value for name, value in tags.items() if value}


def _git(*words: str) -> str:
    result = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip()
