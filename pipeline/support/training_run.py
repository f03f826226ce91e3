"""The MLflow run of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dcgan.system.files import sha256
from dcgan.system.project_files import GENERATOR, LOSSES
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, GENERATOR_SHA256
from dcgan.tracking.sender import sending
from pipeline.support import description
from pipeline.support.changes import first_change
from pipeline.support.digests import describe_lineage
from pipeline.support.inputs import TAKEN, md5
from pipeline.support.run_identity import data_params, new_run
from pipeline.support.stage import MAIN_ROOT

if TYPE_CHECKING:
    from dcgan.data.images import Pixels
    from dcgan.training.loop import Result

logger = logging.getLogger(__name__)


@contextmanager
def training_run(fingerprint: str, data: str, faces: int, machine: Mapping[str, str | int]) -> Iterator[Run]:
    """Opens the run of a training for the duration of the block, and uploads it to MLflow meanwhile.

    Args:
        fingerprint: fingerprint of the training, by which the run is found.
        data: digest of the faces.
        faces: number of faces.
        machine: properties of the machine that the bytes of the results depend on.
    """
    tags = {"data_sha256": data} | {key: str(value) for key, value in machine.items()}
    run, about = new_run({FINGERPRINT: fingerprint}, tags), data_params()
    with sending(MAIN_ROOT, load_of=run.folder), run.open():
        source, profile = json.dumps({"uri": "data/faces", **about}), json.dumps({"faces": faces})
        run.describe(dataset={"name": about["dataset"], "digest": data[:32], "source": source, "profile": profile})
        description.describe(run)
        yield run


class Watch:
    """Passes the progress of a training on to its run, and warns once if an input of the stage has changed."""

    def __init__(self, run: Run) -> None:
        self._run, self._warned = run, False

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._run.metrics(step, values)
        if not self._warned and TAKEN and (change := first_change(TAKEN)):
            self._warned = True
            logger.warning("%s during the training; its result will be discarded unless you undo the change", change)

    def grid(self, step: int, sheet: Pixels) -> None:
        self._run.grid(step, sheet)


def describe_result(run: Run, result: Result, log_interval: int, steps_per_epoch: int) -> None:
    """Logs the results of a training after its outs are written, and its points and grids, as some may be lost."""
    from dcgan.training import curves

    distances = [(step, {"quick_frechet_distance": distance}) for step, distance in result.distances.items()]
    for epoch, grid in enumerate(result.grids):
        run.grid(epoch * steps_per_epoch, grid)
    for step, values in [*curves.points(result.history, log_interval), *distances, (0, result.speed)]:
        run.metrics(step, values)
    run.artifact(LOSSES.name, LOSSES)
    run.model(GENERATOR)
    run.describe(tags={GENERATOR_SHA256: sha256(GENERATOR), "generator_md5": md5(GENERATOR)})
    describe_lineage(run, "train")
