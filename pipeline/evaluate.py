"""Evaluates the trained generator: distances, baselines to compare them with, scores and nearest training faces."""

import json
from functools import partial

from dcgan.params import EvaluateParams
from dcgan.system.project_files import FACES, GENERATOR, METRICS, NEIGHBOURS, REFERENCE, REPORTS
from pipeline.support.feature_network import measuring
from pipeline.support.outs import outs
from pipeline.support.record import describe_evaluation, record
from pipeline.support.stage import run


def main(params: EvaluateParams) -> None:
    from dcgan import networks
    from dcgan.data import images
    from dcgan.metrics import evaluation, reference
    from dcgan.system.files import write_json
    from dcgan.system.metadata import read_metadata

    with measuring(params.fid_network, params.fid_compile) as job:
        if job is None:
            return
        device = next(job.network.module.parameters()).device
        features = reference.open_features(REFERENCE, "train")
        assert features is not None, "the train split has at least two faces"
        result = evaluation.evaluate(
            networks.load_generator(GENERATOR).to(device),
            job.network,
            reference.load(REFERENCE, job.network),
            params.fid_split,
            params.fid_samples,
            params.fid_repeats,
            params.seed,
            evaluation.Training(
                images.open_faces(FACES, "train"),
                features,
                without_test=read_metadata(GENERATOR)["train_split"] == "train",
            ),
            job.ranks,
        )
        if result is None:
            return
        card = json.loads((REPORTS / "data.json").read_text())
        about = {"dataset": card["source"]["name"], "crop_size": card["pixels"]["crop_size"]}
        with outs() as new:
            images.save_png(new(NEIGHBOURS), result.neighbours)
            write_json(new(METRICS), result.metrics | about)
        record("the evaluation", partial(describe_evaluation, "evaluate"))


if __name__ == "__main__":
    run(EvaluateParams, main)
