"""The code of the MLflow model `generator`: latents, or a seed and a count, to pictures."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model

from dcgan import networks, sampling
from dcgan.system import hardware

MOST = 1024  # pictures for one request
_BYTES = 64  # of a request for each number of a latent, and as many kB for all else
warnings.filterwarnings("ignore", message=".*Add type hints")  # MLflow would take them for the signature


class FaceModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Pictures, uint8 (N, H, W, C).

    They are those of the given latents (N, nz); or, with `count` and no latents (`[[]]`), the first `count` of the
    list that `seed` stands for, as `python -m dcgan generate --seed SEED --count COUNT` writes them.
    """

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        hardware.prepare()
        self.generator = networks.load_generator(Path(context.artifacts["generator"]))
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:
            _limit_requests(_BYTES * (MOST * self.generator.settings.nz + 1000))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        latents, count = np.asarray(model_input), (params or {}).get("count", 0)
        if count and latents.size:
            raise _refusal('give latents, or "count" with the inputs [[]], not both')
        if not 1 <= (count or len(latents)) <= MOST:
            raise _refusal(f"{count or len(latents)} pictures are asked for; ask for 1 to {MOST} at a time")
        if count:
            seed = (params or {}).get("seed", 1)
            return sampling.generated(self.generator, seed)(slice(0, count)).numpy()
        nz = self.generator.settings.nz
        if latents.shape[1:] != (nz,):
            raise _refusal(f'the latents have the shape {latents.shape}, not (N, {nz}); without latents give "count"')
        if not np.isfinite(latents).all():
            raise _refusal("a latent is not finite")
        return sampling.generate(self.generator, torch.from_numpy(np.ascontiguousarray(latents)))


def _limit_requests(limit: int) -> None:
    """Has MLflow's scoring server answer a request of more bytes with 413.

    It has no limit of its own, and parses a request twice and copies it before `predict` could refuse anything: a
    million latents hold it up for minutes. The model requires this very version of MLflow.
    """
    from mlflow.pyfunc import scoring_server

    unlimited = scoring_server.invocations

    def invocations(data: bytes, *others: Any) -> Any:
        if len(data) > limit:
            sentence = f"the request has {len(data)} bytes; send at most {limit}, {MOST} latents at a time"
            return scoring_server.InvocationsResponse(response=sentence, status=413, mimetype="text/plain")
        return unlimited(data, *others)

    scoring_server.invocations = invocations


def _refusal(sentence: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(sentence)


set_model(FaceModel())
