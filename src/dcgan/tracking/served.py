"""The code of the MLflow model `generator`: generates pictures from latents, or from a seed and a count."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model

from dcgan import networks, sampling
from dcgan.data.images import Pixels
from dcgan.system import hardware

MOST = 1024  # pictures per request
_BYTES = 64  # of a request per number of a latent, plus 64 kB for the rest


class FaceModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Generates pictures, uint8 (N, H, W, C).

    With latents (N, nz), it returns their pictures. With `count` and no latents (`[[]]`), it returns the same pictures
    as `python -m dcgan generate --seed SEED --count COUNT`: the first `count` of the sequence defined by `seed`.
    """

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        hardware.prepare()
        self.generator = networks.load_generator(Path(context.artifacts["generator"]))
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:
            _limit_requests(_BYTES * (MOST * self.generator.settings.nz + 1000))

    def predict(
        self,
        context: mlflow.pyfunc.PythonModelContext,
        model_input: np.ndarray,  # MLflow accepts no other array type
        params: dict[str, Any] | None = None,
    ) -> Pixels:
        latents, count = np.asarray(model_input), (params or {}).get("count", 0)
        if count and latents.size:
            raise _refusal('both latents and "count" are given; give latents, or "count" with the inputs [[]]')
        if not 1 <= (count or len(latents)) <= MOST:
            raise _refusal(f"{count or len(latents)} pictures are requested; request 1 to {MOST} at a time")
        if count:
            seed = (params or {}).get("seed", 1)
            return sampling.generated(self.generator, seed)(slice(0, count)).numpy()
        nz = self.generator.settings.nz
        if latents.shape[1:] != (nz,):
            raise _refusal(f'the latents have shape {latents.shape}, not (N, {nz}); without latents, give "count"')
        if not np.isfinite(latents).all():
            raise _refusal("the latents contain a value that is not finite")
        return sampling.generate(self.generator, torch.from_numpy(np.ascontiguousarray(latents)))


def _limit_requests(limit: int) -> None:
    """Makes MLflow's scoring server answer requests of more than `limit` bytes with status 413.

    The server has no limit of its own. It parses a request twice and copies it before `predict` can refuse it, so that
    a million latents block the server for minutes. The function replaced here is that of the MLflow version that
    the model requires.
    """
    from mlflow.pyfunc import scoring_server

    unlimited = scoring_server.invocations

    def invocations(data: bytes, *others: Any) -> Any:
        if len(data) > limit:
            sentence = f"the request has {len(data)} bytes; send at most {limit}, that is {MOST} latents at a time"
            return scoring_server.InvocationsResponse(response=sentence, status=413, mimetype="text/plain")
        return unlimited(data, *others)

    scoring_server.invocations = invocations


def _refusal(sentence: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(sentence)


set_model(FaceModel())
