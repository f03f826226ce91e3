"""Lists the user's own pictures, so that changed files mean a new crop, and only for `dataset: folder`."""

from dcgan.params import InventoryParams
from pipeline.support.stage import FOLDER, INVENTORY, run


def main(params: InventoryParams) -> None:
    from dcgan.data.sources import folder

    folder.write_inventory(FOLDER if params.dataset == "folder" else None, INVENTORY)


if __name__ == "__main__":
    run(InventoryParams, main)
