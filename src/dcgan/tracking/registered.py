"""The file of a generator in MLflow's model registry, by the alias of a version."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException

from dcgan.system.errors import UserError
from dcgan.tracking.connection import connect
from dcgan.tracking.run_folder import MODEL


def generator_file(root: Path, name: str) -> Path:
    """Returns the generator's safetensors file of NAME@ALIAS, fetched if the store is elsewhere.

    Args:
        root: root of the main project.

    Raises:
        UserError: the registry has no such version, or its files cannot be had.
    """
    from mlflow.artifacts import download_artifacts

    connect(root)
    try:
        folder = Path(download_artifacts(f"models:/{name.removeprefix('models:/')}"))
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"{name}: there is no such registered model ({reason}); `make ui` lists those there are."
        ) from None
    found = sorted(folder.rglob(MODEL))
    if not found:
        raise UserError(f"{name}: it holds no {MODEL}; give a model that this project registered.")
    return found[0]
