"""Trains the DCGAN on data/faces; resumes from the newest checkpoint of the same training if there is one."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from dcgan.schema import TrainParams
from dcgan.system.project_files import DISCRIMINATOR, FACES, GENERATOR, REPORTS
from pipeline.support.digests import code_digest
from pipeline.support.environment import from_environment
from pipeline.support.launch_ranks import launch
from pipeline.support.outs import outs
from pipeline.support.runtime import record_runtime
from pipeline.support.signals import stop_signal
from pipeline.support.stage import MAIN_ROOT, run
from pipeline.support.training_run import Watch, describe_result, training_run


def main(params: TrainParams) -> None:
    if launch(params.number_of_ranks()):
        return

    from dcgan import networks
    from dcgan.data import images
    from dcgan.metrics.quick import quick_distance
    from dcgan.system import hardware, ranks
    from dcgan.system.files import write_csv
    from dcgan.training import batches, curves, loop
    from dcgan.training.checkpoint import CheckpointStore, digest_of_start, fingerprint
    from dcgan.training.step import Recipe

    # Set up.
    machine = hardware.resolve(params.ngpu, params.precision, ranks.local_rank())
    machine = replace(machine, graphs=from_environment("DCGAN_GRAPHS", 1) > 0)
    stop = stop_signal()
    hardware.prepare()
    faces = images.open_for_training(FACES, params.train_split, params.batch_size)
    settings, recipe = params.part(networks.Settings), params.part(Recipe)

    with ranks.joined(machine.device) as group, ExitStack() as held:
        described, data = hardware.describe(machine, group.count), batches.digest(faces)
        inputs = {"params": params.model_dump(), "data": data, "code": code_digest("train")}
        parts = inputs | {"initial weights": digest_of_start(settings, params.seed)} | hardware.deciding(described)
        group.check_same(parts)
        identity = fingerprint(parts)
        store = CheckpointStore(MAIN_ROOT / "checkpoints", identity, parts)
        if group.writes:
            hardware.say_what_computes("train", machine, group.count)
            held.enter_context(store.locked(stop))
            tracked = held.enter_context(training_run(identity, data, len(faces), described))
        group.barrier()

        # Train.
        minutes = from_environment("DCGAN_CHECKPOINT_MINUTES", 2.0)
        interval = round(from_environment("DCGAN_LOG_INTERVAL", 50, least=1))
        observer = Watch(tracked) if group.writes else loop.Nobody()
        quality = loop.Quality(partial(quick_distance, faces, params.seed), params.distance_kimg, params.keep)
        result = loop.train(
            faces, settings, recipe, machine, store, observer, stop, minutes, interval, quality, ranks=group
        )
        if not group.writes:
            return

        # Write the outs.
        about = {"epochs": recipe.epochs, "seed": recipe.seed, "train_split": params.train_split, "keep": params.keep}
        with outs() as new:
            networks.save(new(GENERATOR), result.generator, settings, about | {"step": result.step})
            networks.save(new(DISCRIMINATOR), result.discriminator, settings, about)
            write_csv(new(REPORTS / "losses.csv"), curves.loss_table(result.history, result.distances))
            new(REPORTS / "progress").mkdir()
            for epoch, grid in enumerate(result.grids):
                images.save_png(new(REPORTS / "progress") / f"epoch_{epoch:05d}.png", grid)
        describe_result(tracked, result, interval, len(faces) // recipe.batch_size)
        store.finish()
        record_runtime("train", {**described, **result.speed})


if __name__ == "__main__":
    run(TrainParams, main)
