"""The MLflow run of a training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dcgan.system.files import sha256
from dcgan.system.project_files import GENERATOR
from dcgan.tracking.run import Run
from dcgan.tracking.run_folder import FINGERPRINT, GENERATOR_SHA256
from dcgan.tracking.sender import sending
from pipeline.support.digests import describe_lineage, md5
from pipeline.support.run_identity import data_params, new_run
from pipeline.support.stage import MAIN_ROOT

if TYPE_CHECKING:
    from dcgan.training.loop import Result


@contextmanager
def training_run(fingerprint: str, data: str, faces: int, machine: Mapping[str, str | int]) -> Iterator[Run]:
    """Opens the run of a training for the duration of the block, and uploads it to MLflow meanwhile.

    Args:
        fingerprint: fingerprint of the training, by which the run is found.
        data: digest of the faces.
        faces: number of faces.
        machine: properties of the machine that the bytes of the results depend on.
    """
    described = {key: str(value) for key, value in machine.items()}
    run = new_run({FINGERPRINT: fingerprint}, {"data_sha256": data, **described})
    with sending(MAIN_ROOT, load_of=run.folder), run.open():
        about = data_params()
        source, profile = json.dumps({"uri": "data/faces", **about}), json.dumps({"faces": faces})
        dataset = {"name": about["dataset"], "digest": data[:32], "source": source, "profile": profile}
        run.describe(dataset=dataset)
        yield run


def describe_result(run: Run, result: Result, log_interval: int, steps_per_epoch: int) -> None:
    """Logs the results of a training after its outs are written.

    This repeats the points and grids logged during the training, since a killed process or a full disk may have lost
    some of them.
    """
    from dcgan.training import curves

    for step, values in curves.points(result.history, log_interval):
        run.metrics(step, values)
    for step, distance in result.distances.items():
        run.metrics(step, {"quick_frechet_distance": distance})
    for epoch, grid in enumerate(result.grids):
        run.grid(epoch * steps_per_epoch, grid)
    run.metrics(0, result.speed)
    run.model(GENERATOR)
    run.describe(tags={GENERATOR_SHA256: sha256(GENERATOR), "generator_md5": md5(GENERATOR)})
    describe_lineage(run, "train")
