"""Logs the generator as MLflow models, none of which is a pickle.

`generator` is code (`served`) with the safetensors file; it takes latents, or a seed and a count. `generator_program`
is an exported program (pt2); it needs no code of this project and takes only latents.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dcgan

SERVED, PROGRAM = "generator", "generator_program"
NAMES = (SERVED, PROGRAM)


def log(run_id: str, generator: Path, names: Sequence[str], tags: Mapping[str, str]) -> None:
    """Logs the models with these names to a run.

    Args:
        run_id: id of the run.
        generator: the generator's safetensors file.
        names: names of the models to log, from NAMES.
        tags: tags of each model.

    Raises:
        UserError: `generator` is not the file of a generator.
    """
    if not names:
        return
    # Imported here, since a sender seldom needs torch.
    import mlflow.pyfunc
    import mlflow.pytorch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    from dcgan.networks import load_generator

    network = load_generator(generator)
    side, nc = network.settings.image_size, network.settings.nc
    latents = TensorSpec(np.dtype(np.float32), (-1, network.settings.nz))
    warnings.filterwarnings("ignore", message=".*An input example was not provided")  # MLflow would run the model on it
    common: dict[str, Any] = {"run_id": run_id, "tags": dict(tags)}
    if SERVED in names:
        inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, -1))])  # (N, nz), or [[]] with `count`
        outputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, side, side, nc))])
        params = ParamSchema([ParamSpec("seed", DataType.long, 1), ParamSpec("count", DataType.long, 0)])
        Model.log(
            None,
            mlflow.pyfunc,
            name=SERVED,
            **common,
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"generator": str(generator)},
            code_paths=[str(Path(str(dcgan.__file__)).parent)],
            signature=ModelSignature(inputs, outputs, params),
            pip_requirements=_pinned("torch", "safetensors", "numpy", "pillow", "mlflow"),
        )
    if PROGRAM in names:
        pictures = TensorSpec(np.dtype(np.float32), (-1, nc, side, side))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No complete tensor found")  # harmless, from torch's pt2 packing
            Model.log(
                None,
                mlflow.pytorch,
                name=PROGRAM,
                **common,
                pytorch_model=network,
                serialization_format="pt2",
                # Two latents, since an example with one would fix the batch size of the exported program at 1.
                input_example=np.zeros((2, network.settings.nz), np.float32),
                signature=ModelSignature(Schema([latents]), Schema([pictures])),
                pip_requirements=_pinned("torch", "mlflow"),
                validate_serving_input=False,
            )


def _pinned(*packages: str) -> list[str]:
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in packages]
