"""Fetches the pictures of the data set to data/raw, verified and never unpacked."""

import importlib
import os

from dcgan.schema import DownloadParams
from dcgan.system.project_files import DOWNLOADS, FOLDER, INVENTORY, RAW
from pipeline.support.outs import outs
from pipeline.support.stage import MAIN_ROOT, run


def main(params: DownloadParams) -> None:
    from dcgan.data import links
    from dcgan.data.request import Request

    source = importlib.import_module(f"dcgan.data.sources.{params.dataset}")
    mirror = os.environ.get("CELEBA_MIRROR")
    given = params.dataset_size, params.dataset_seed
    linked = links.read_list(INVENTORY)
    request = Request(*given, MAIN_ROOT / DOWNLOADS, FOLDER, INVENTORY, mirror, linked)
    with outs() as new:
        source.bring(new(RAW), request)


if __name__ == "__main__":
    run(DownloadParams, main)
