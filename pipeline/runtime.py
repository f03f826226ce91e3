"""What differs between two identical runs, in the git-ignored reports/runtime.json."""

from __future__ import annotations

import json
from typing import Any

from stage import MAIN_ROOT, REPORTS

import filelock

from dcgan.files import write_json


def record_runtime(stage: str, values: dict[str, Any]) -> None:
    """Notes the values of a stage."""
    path = MAIN_ROOT / REPORTS / "runtime.json"
    with filelock.FileLock(MAIN_ROOT / "mlflow.lock"):  # experiments can run side by side
        try:
            recorded = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            recorded = {}
        write_json(path, recorded | {stage: values})
