"""Checks that no file is missing, what dvc.lock says against the lineage of the outs, a linked folder, and the GPUs.

This is not a stage; `python -m dcgan check` runs it.
"""

import os
import shlex

from dcgan.schema import InventoryParams, TrainParams
from dcgan.system.errors import UserError
from pipeline.support.dvc_files import ROOT, outs_of, stages
from pipeline.support.lineage import check
from pipeline.support.rank_processes import LAUNCHER
from pipeline.support.stage import MAIN_ROOT, all_params, run


def main(params: InventoryParams) -> None:
    _check_files()
    check(stages())
    _check_gpus(all_params())
    from dcgan.data import links

    links.check_own_folder(ROOT)
    if params.dataset in links.DATASETS:
        links.look_over(ROOT, MAIN_ROOT)


def _check_files() -> None:
    """Checks that the deps exist that no stage makes; DVC would say "No such file or directory" alone.

    Raises:
        UserError: some are missing.
    """
    made = {out for stage in stages() for out in outs_of(stage)}
    needed = {dep: name for name, stage in stages().items() for dep in stage.get("deps", []) if dep not in made}
    if missing := [dep for dep in needed if not (ROOT / dep).exists()]:
        kept = "dvc checkout" if (ROOT / f"{missing[0]}.dvc").exists() else "git checkout --"
        raise UserError(
            f"{missing[0]}: there is no such file or folder, and the stage {needed[missing[0]]} needs it; restore it "
            f"with `{kept} {shlex.join(missing)}`."
        )


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
