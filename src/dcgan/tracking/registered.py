"""The generator's file of a registered model, such as models:/dcgan-avatars@champion."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dcgan.system.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Run

SCHEME = "models:/"


@contextmanager
def downloaded(root: Path, model: str) -> Iterator[tuple[Path, Run]]:
    """Yields the file of a registered model, which is removed afterwards, and the run in which it was measured.

    Args:
        root: the project's folder; MLFLOW_TRACKING_URI names another store than its own.
        model: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UserError: the store has no such model.
    """
    import mlflow  # here, since it takes seconds
    from mlflow.exceptions import MlflowException

    from dcgan.tracking.connection import connect

    client, _ = connect(root)
    name, at, alias = model.removeprefix(SCHEME).partition("@")
    name, _, number = (name, "", "") if at else name.partition("/")
    bars = os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        try:
            number = client.get_model_version_by_alias(name, alias).version if at else number
            version = client.get_model_version(name, number)
            files = mlflow.artifacts.download_artifacts(f"{SCHEME}{name}/{number}", dst_path=folder)
            run = client.get_run(version.run_id)
            file = next(Path(files).rglob("generator.safetensors"))
        except (MlflowException, StopIteration):
            known = ", ".join(sorted(each.name for each in client.search_registered_models())) or "none"
            raise UserError(
                f"{model}: the store has no such generator; give models:/NAME@ALIAS or models:/NAME/VERSION of a "
                f"registered model (here: {known})."
            ) from None
        finally:
            os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = bars
        yield file, run
