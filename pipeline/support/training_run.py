"""What MLflow is told of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.digests import md5
from support.run_identity import data_params, open_run, tell_lineage
from support.stage import GENERATOR, MAIN_ROOT

from dcgan.system.files import sha256
from dcgan.tracking import events

if TYPE_CHECKING:
    from dcgan.training.loop import Result


@contextmanager
def training_run(fingerprint: str, data: str, faces: int, where: Mapping[str, str | int]) -> Iterator[events.Run]:
    """The run of the training that the block is.

    Args:
        data: the digest of the faces.
        faces: how many they are.
        where: the machine, as far as the bytes depend on it.
    """
    known_by = {events.FINGERPRINT: fingerprint}
    with events.sending(MAIN_ROOT, load_of=known_by) as spool:
        run = events.Run(spool, known_by)
        with run.ended():
            described = {key: str(value) for key, value in where.items()}
            open_run(run, {"data_sha256": data, **described})
            about = data_params()
            run.dataset(about["dataset"], data[:32], {"uri": "data/faces", **about}, {"faces": faces})
            yield run


def tell_result(run: events.Run, result: Result, log_interval: int, steps_per_epoch: int) -> None:
    """What came of the training, once its outs are written."""
    from dcgan.training import curves

    if run.lost:
        run.reopen()
    if result.resumed or run.lost:  # a killed process may not have told all that it had done
        run.points(curves.points(result.history, log_interval))
        run.points([(step, {"quick_frechet_distance": value}) for step, value in result.distances.items()])
        run.grids(result.grids, steps_per_epoch)
    run.metrics(result.speed)
    run.model(GENERATOR)
    run.tags({events.GENERATOR: sha256(GENERATOR), "generator_md5": md5(GENERATOR)})
    tell_lineage(run, "train")
