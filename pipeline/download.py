"""Brings the source's pictures to data/raw, verified and never unpacked."""

import os

from support.stage import DOWNLOADS, FOLDER, INVENTORY, MAIN_ROOT, RAW, run

from dcgan.params import DownloadParams
from dcgan.system.files import atomic


def main(params: DownloadParams) -> None:
    downloads = MAIN_ROOT / DOWNLOADS
    with atomic(RAW) as raw:
        match params.dataset:
            case "avatars":
                from dcgan.data.sources import avatars

                assert params.dataset_size is not None, "the schema asks for it"
                avatars.prepare(raw, params.dataset_size, params.dataset_seed)
            case "celeba":
                from dcgan.data.sources import celeba

                files = celeba.published(mirror=os.environ.get("CELEBA_MIRROR"))
                celeba.prepare(downloads, raw, params.dataset_size, files)
            case "lsun_church":
                from dcgan.data.sources import lsun

                lsun.prepare(downloads, raw, params.dataset_size)
            case "cifar10":
                from dcgan.data.sources import cifar10

                cifar10.prepare(downloads, raw, params.dataset_size)
            case "folder":
                from dcgan.data.sources import folder

                folder.prepare(FOLDER, INVENTORY, raw, params.dataset_size)


if __name__ == "__main__":
    run(DownloadParams, main)
