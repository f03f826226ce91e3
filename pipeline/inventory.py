"""Lists the user's own pictures with their hashes, so that changed files cause a new crop.

The list is empty unless `dataset` is `folder`.
"""

from dcgan.params import InventoryParams
from dcgan.system.project_files import FOLDER, INVENTORY
from pipeline.support.outs import outs
from pipeline.support.stage import run


def main(params: InventoryParams) -> None:
    from dcgan.data.sources import folder

    with outs() as new:
        folder.write_inventory(FOLDER if params.dataset == "folder" else None, new(INVENTORY))


if __name__ == "__main__":
    run(InventoryParams, main)
