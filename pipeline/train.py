"""Trains the DCGAN on data/faces, from the newest checkpoint of this very training if there is one."""

import shutil

from environment import from_environment
from lineage import code_digest, run_name, run_tags, training_params
from record import record_runtime
from stage import DISCRIMINATOR, FACES, GENERATOR, MAIN_ROOT, REPORTS, run, stop_signal

from dcgan.params import TrainParams


def main(params: TrainParams) -> None:
    import pandas as pd

    from dcgan import batches, hardware, images, networks, training
    from dcgan.checkpoint import CheckpointStore, fingerprint
    from dcgan.files import atomic, sha256
    from dcgan.tracking import Tracker

    # Set up.
    stop = stop_signal()
    hardware.make_deterministic()
    machine = hardware.resolve(params.ngpu, params.precision)
    faces = images.open_all(FACES) if params.train_split == "all" else images.open_split(FACES, "train")
    values = params.model_dump()
    settings = networks.Settings(**{name: values[name] for name in networks.Settings.__dataclass_fields__})
    recipe = training.Recipe(**{name: values[name] for name in training.Recipe.__dataclass_fields__})
    where, data = hardware.describe(machine), batches.digest(faces)
    identity = fingerprint({"params": values, "data": data, "code": code_digest("train"), **where})
    store, tracker = CheckpointStore(MAIN_ROOT / "checkpoints", identity), Tracker(MAIN_ROOT)

    # Train.
    tags = {**run_tags(), "data_sha256": data, **{key: str(value) for key, value in where.items()}}
    with store.locked(stop), tracker.training(run_name(), identity, training_params(), tags) as wanted:
        result = training.train(
            faces,
            settings,
            recipe,
            machine,
            store,
            observer=tracker if wanted else training.Nobody(),
            stop=stop,
            checkpoint_minutes=from_environment("DCGAN_CHECKPOINT_MINUTES", 2.0),
            log_interval=round(from_environment("DCGAN_LOG_INTERVAL", 50, least=1)),
        )

        # Write the outs.
        more = {"epochs": recipe.epochs, "seed": recipe.seed}
        networks.save(GENERATOR, result.generator, settings, more)
        networks.save(DISCRIMINATOR, result.discriminator, settings, more)
        with atomic(REPORTS / "losses.csv") as path:
            pd.DataFrame(training.loss_table(result.history)).to_csv(path, index=False, float_format="%.6g")
        with atomic(REPORTS / "progress") as folder:
            folder.mkdir()
            for grid in result.grids:
                shutil.copyfile(grid, folder / grid.name)
        store.finish()
        if wanted:
            tracker.metrics(result.speed)
            tracker.trained(sha256(GENERATOR), result.generator)
        record_runtime("train", {**where, **result.speed})


if __name__ == "__main__":
    run(TrainParams, main)
