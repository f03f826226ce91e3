"""Checks what dvc.lock says against the lineage of the outs, a linked folder against its inventory, and the GPUs.

This is not a stage; `python -m dcgan check` runs it.
"""

import os

from dcgan.params import InventoryParams, TrainParams
from pipeline.support.dvc_files import ROOT, stages
from pipeline.support.lineage import check
from pipeline.support.rank_processes import LAUNCHER
from pipeline.support.stage import MAIN_ROOT, all_params, run


def main(params: InventoryParams) -> None:
    check(stages())
    _check_gpus(all_params())
    from dcgan.data import links

    links.check_own_folder(ROOT)
    if params.dataset in links.DATASETS:
        links.look_over(ROOT, MAIN_ROOT)


def _check_gpus(params: TrainParams) -> None:
    """Checks that this machine has the GPUs that `ngpu` asks for, unless a launcher starts the ranks elsewhere.

    Raises:
        UserError: it has fewer, or torch cannot use them.
    """
    if params.ngpu in ("auto", 0) or os.environ.get(LAUNCHER):
        return
    from dcgan.system import hardware

    hardware.resolve(params.ngpu, "fp32", params.number_of_ranks() - 1)


if __name__ == "__main__":
    run(InventoryParams, main)
