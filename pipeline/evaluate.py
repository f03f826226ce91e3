"""Measures the Frechet distance of the trained generator, and what it is to be compared with."""

import json

from record import record_evaluation
from stage import DOWNLOADS, GENERATOR, MAIN_ROOT, REFERENCE, REPORTS, run

from dcgan.params import EvaluateParams


def main(params: EvaluateParams) -> None:
    from dcgan import hardware, networks
    from dcgan.files import write_json
    from dcgan.metrics import evaluation, feature_networks, reference

    hardware.make_deterministic()
    network = feature_networks.load(params.fid_network, MAIN_ROOT / DOWNLOADS, hardware.default_device())
    generator = networks.load_generator(GENERATOR).to(hardware.default_device())
    real = reference.load(REFERENCE, network)
    metrics = evaluation.evaluate(generator, network, real, params.fid_split, params.fid_samples, params.seed)
    pixels = json.loads((REPORTS / "data.json").read_text())["pixels"]
    write_json(REPORTS / "metrics.json", metrics | {"crop_size": pixels["crop_size"]})
    record_evaluation()


if __name__ == "__main__":
    run(EvaluateParams, main)
