"""All that touches MLflow. It cannot change an out, and its failing never costs a training.

One run for each combination of settings that was computed. The training opens it, known by the training's
fingerprint while it goes on and by the generator's SHA-256 afterwards; later stages find it by that hash,
so that no run's id is kept in an output. A second evaluation of the same generator, with other settings,
is a run of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import filelock
import numpy as np

from dcgan.errors import Interrupted
from dcgan.images import Pixels, to_image

if TYPE_CHECKING:
    from dcgan.networks import Generator

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# With the server down MLflow would retry every call for about four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
import mlflow.pytorch
from mlflow.entities import Run
from mlflow.models import infer_signature

logger = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

EXPERIMENT = "dcgan"
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # a training, not a chat
FINGERPRINT, GENERATOR, EVALUATION, TRAINED_IN, RESTORED = (
    "fingerprint",
    "generator_sha256",
    "evaluation",
    "trained_in",
    "restored",
)
T = TypeVar("T")


class Tracker:
    """The tracking store, or a silent stand-in once it has failed: then one warning is printed.

    Args:
        root: of the main project; the default store is the SQLite file `mlflow.db` there, with its
            artifacts in `mlartifacts/`. MLFLOW_TRACKING_URI names another.
    """

    def __init__(self, root: Path) -> None:
        self._works = True
        self._try(lambda: self._connect(root.resolve()))

    def _connect(self, root: Path) -> None:
        named = os.environ.get("MLFLOW_TRACKING_URI")  # read first: set_tracking_uri writes it
        mlflow.set_tracking_uri(named or f"sqlite:///{root / 'mlflow.db'}")
        # Two processes that create the database at the same time would break each other.
        with filelock.FileLock(root / "mlflow.lock", timeout=60):
            if mlflow.get_experiment_by_name(EXPERIMENT) is None:
                mlflow.create_experiment(EXPERIMENT, None if named else (root / "mlartifacts").as_uri(), _KIND)
        mlflow.set_experiment(EXPERIMENT)

    def _try(self, action: Callable[[], T]) -> T | None:
        if not self._works:
            return None
        try:
            return action()
        except Exception as error:  # whatever it is, the training is worth more
            self._works = False
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            logger.warning("MLflow could not record, and this stage goes on without it: %s", reason)
            return None

    def _find(self, **tags: str) -> list[Run]:
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs: list[Run] = mlflow.search_runs(
            experiment_names=[EXPERIMENT], filter_string=where, output_format="list", order_by=["start_time"]
        )
        return runs

    @contextlib.contextmanager
    def _active(self, live: bool = False, **start: Any) -> Iterator[None]:
        """An active run around the block; `live` samples the machine's load meanwhile."""
        run = self._try(lambda: mlflow.start_run(log_system_metrics=live, **start))
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except (SystemExit, Interrupted):
            status = "KILLED"
            raise
        finally:
            if run:
                self._works = True  # an end that fails is tried once all the same
                self._try(lambda: mlflow.end_run(status))

    @contextlib.contextmanager
    def training(
        self, name: str, fingerprint: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> Iterator[bool]:
        """The run of a training: a new one, or the one that was interrupted.

        Yields:
            Whether curves and grids are wanted: not where a finished run of this very training has them.
        """
        known = self._try(lambda: self._find(**{FINGERPRINT: fingerprint})) or []
        if known and GENERATOR in known[0].data.tags:
            yield False
            return
        start: dict[str, Any] = {"run_id": known[0].info.run_id} if known else {"run_name": name}
        with self._active(live=True, **start):
            self._try(lambda: mlflow.set_tags({**tags, FINGERPRINT: fingerprint}))
            there = known[0].data.params if known else {}
            # A key that does not decide the training may have changed since it was interrupted.
            self._try(lambda: mlflow.log_params({k: v for k, v in _texts(params).items() if k not in there}))
            yield True

    def losses(self, step: int, values: dict[str, float]) -> None:
        """Points of the curves."""
        self._try(lambda: mlflow.log_metrics(values, step=step))

    def grid(self, step: int, sheet: Pixels) -> None:
        """The fixed latents' pictures (H, W, C), a series by step."""
        self._try(lambda: mlflow.log_image(to_image(sheet), key="fixed_latents", step=step))

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Points of curves that have one for each epoch."""
        self._try(lambda: mlflow.log_metrics(values, step=step))

    def metrics(self, values: Mapping[str, float]) -> None:
        """Single numbers of the active run."""
        self._try(lambda: mlflow.log_metrics(dict(values)))

    def trained(self, generator_sha256: str, generator: Generator) -> None:
        """Ends a training: logs the model, and the hash by which later stages find the run."""
        self._try(lambda: self._log_model(generator))
        self._try(lambda: mlflow.set_tag(GENERATOR, generator_sha256))

    def _log_model(self, generator: Generator) -> None:
        # Two latents, since an example of one would fix the batch size of the exported program.
        example = np.zeros((2, generator.settings.nz), np.float32)
        side, nc = generator.settings.image_size, generator.settings.nc
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No complete tensor found")  # harmless: torch's packing of pt2
            mlflow.pytorch.log_model(
                generator,
                name="generator",
                serialization_format="pt2",  # an exported program: no pickle
                input_example=example,
                signature=infer_signature(example, np.zeros((2, nc, side, side), np.float32)),
                pip_requirements=["torch"],
            )

    @contextlib.contextmanager
    def of_generator(
        self,
        generator_sha256: str,
        name: str,
        params: Mapping[str, Any],
        evaluation: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Iterator[bool]:
        """The run that trained this generator, or with `evaluation` the one that holds that evaluation of it.

        The first evaluation goes to the training's own run, one with other settings to a run of its own,
        tagged `trained_in`. A generator that this store has never seen gets a run tagged `restored`.

        Args:
            name: of a new run.
            params: of the training, for a new run.
            evaluation: a hash that tells evaluations apart.
            settings: of the evaluation.

        Yields:
            Whether the evaluation is new to the run; True without one.
        """
        known = self._try(lambda: self._find(**{GENERATOR: generator_sha256})) or []
        mine = [run for run in known if evaluation is None or run.data.tags.get(EVALUATION, evaluation) == evaluation]
        with self._active(**({"run_id": mine[0].info.run_id} if mine else {"run_name": name})):
            if not mine:
                origin = {TRAINED_IN: known[0].info.run_id} if known else {RESTORED: "true"}
                copied = (
                    {k: v for k, v in known[0].data.params.items() if k not in (settings or {})} if known else params
                )
                self._try(lambda: mlflow.log_params(_texts(copied)))
                self._try(lambda: mlflow.set_tags({GENERATOR: generator_sha256, **origin}))
            if evaluation is not None:
                self._try(lambda: mlflow.set_tag(EVALUATION, evaluation))
                self._try(lambda: mlflow.log_params(_texts(settings or {})))
            yield not (evaluation and mine and EVALUATION in mine[0].data.tags)

    def artifacts(self, *paths: Path) -> None:
        """Files of the active run."""
        for path in paths:
            self._try(lambda path=path: mlflow.log_artifact(str(path)))  # type: ignore[misc]


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in params.items()}
