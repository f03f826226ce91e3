"""Evaluates the trained generator: distances, baselines to compare them with, scores and nearest training faces."""

import json
import logging
from functools import partial

from dcgan.schema import EvaluateParams
from dcgan.system.project_files import FACES, GENERATOR, METRICS, NEIGHBOURS, REFERENCE, REPORTS
from pipeline.support.feature_network import measuring
from pipeline.support.outs import outs
from pipeline.support.record import describe_evaluation, record
from pipeline.support.stage import run

logger = logging.getLogger(__name__)


def main(params: EvaluateParams) -> None:
    from dcgan import networks
    from dcgan.data import images
    from dcgan.metrics import copies, evaluation, left_out, reference
    from dcgan.system.files import write_json
    from dcgan.system.metadata import read_metadata

    with measuring(params.fid_network, params.fid_compile) as job:
        if job is None:
            return
        device = next(job.network.module.parameters()).device
        trained_on = read_metadata(GENERATOR)["train_split"]
        unseen = [
            images.open_faces(FACES, split)[: None if trained_on == "train" else 0] for split in ("valid", "test")
        ]
        result = evaluation.evaluate(
            networks.load_generator(GENERATOR).to(device),
            job.network,
            reference.load(REFERENCE, job.network),
            params.fid_split,
            params.fid_samples,
            params.fid_repeats,
            params.seed,
            copies.Training(images.open_faces(FACES, trained_on), *unseen),
            job.ranks,
        )
        if result is None:
            return
        for what in left_out.left_out(result.metrics):
            logger.warning("left out: %s", what)
        card = json.loads((REPORTS / "data.json").read_text())
        about = {"data_source": card["source"]["name"], "crop": card["pixels"]["crop_size"]}
        with outs() as new:
            images.save_png(new(NEIGHBOURS), result.neighbours)
            write_json(new(METRICS), result.metrics | about)
        record("the evaluation", partial(describe_evaluation, "evaluate"))


if __name__ == "__main__":
    run(EvaluateParams, main)
