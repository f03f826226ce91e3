"""Lists the user's own pictures with their hashes, so that changed files cause a new crop.

The list is empty for data sets that do not use them.
"""

from pathlib import Path

from dcgan.schema import InventoryParams
from dcgan.system.project_files import FOLDER, INVENTORY
from pipeline.support.outs import outs
from pipeline.support.stage import MAIN_ROOT, run


def main(params: InventoryParams) -> None:
    from dcgan.data import links
    from dcgan.data.sources import folder

    with outs() as new:
        linked = links.look_over(Path(), MAIN_ROOT) if params.dataset in links.DATASETS else None
        if params.dataset == "folder" and not linked:
            links.check_own_folder(Path())
            folder.write_inventory(FOLDER, new(INVENTORY))
        else:
            links.write_list(new(INVENTORY), linked)


if __name__ == "__main__":
    run(InventoryParams, main)
