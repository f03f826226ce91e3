"""Records values that differ between identical runs in the git-ignored file reports/runtime.json."""

from __future__ import annotations

import json
import logging
from typing import Any

import filelock

from dcgan.system.files import write_json
from dcgan.system.project_files import REPORTS
from pipeline.support.stage import MAIN_ROOT

logger = logging.getLogger(__name__)


def record_runtime(stage: str, values: dict[str, Any]) -> None:
    """Writes the values of a stage to reports/runtime.json, replacing its earlier values; on failure only warns."""
    path = MAIN_ROOT / REPORTS / "runtime.json"
    try:
        with filelock.FileLock(path.with_suffix(".lock"), timeout=10):  # experiments can run side by side
            try:
                recorded = json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                recorded = {}
            write_json(path, recorded | {stage: values})
    except OSError as error:  # these values are not worth failing a stage
        logger.warning("Cannot write %s: %s; continuing without it", path, error)
