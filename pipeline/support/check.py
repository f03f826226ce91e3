"""Checks what dvc.lock says against the lineage files of the outs, and a linked folder against its inventory.

This is not a stage; `python -m dcgan check` runs it.
"""

from dcgan.params import InventoryParams
from pipeline.support.dvc_files import ROOT, stages
from pipeline.support.lineage import check
from pipeline.support.stage import MAIN_ROOT, run


def main(params: InventoryParams) -> None:
    check(stages())
    from dcgan.data import links

    links.check_own_folder(ROOT)
    if params.dataset in links.DATASETS:
        links.look_over(ROOT, MAIN_ROOT)


if __name__ == "__main__":
    run(InventoryParams, main)
