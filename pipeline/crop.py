"""Crops and resizes every picture in data/raw, packs the faces into arrays in data/faces, and writes the data card."""

from dcgan.schema import CropParams
from dcgan.system.files import write_json
from dcgan.system.progress import say
from dcgan.system.project_files import FACES, RAW, REPORTS
from pipeline.support.outs import outs
from pipeline.support.stage import run


def main(params: CropParams) -> None:
    from dcgan.data import card, images, packing

    with outs() as new:
        cropped = packing.pack(RAW, new(FACES), **params.model_dump())
        pixels = params.model_dump(exclude={"max_bad_fraction"})
        described = card.describe(RAW, new(FACES), cropped, pixels)
        write_json(new(REPORTS / "data.json"), described)
        real = images.choose(images.open_shown(new(FACES)), 64, seed=0)
        images.save_png(new(REPORTS / "real.png"), images.grid(real, columns=8))
        images.save_png(new(REPORTS / "mean.png"), card.mean_image(card.shown(cropped)))
    if line := card.left_out(described):
        say(f"{line}; see reports/data.json.")


if __name__ == "__main__":
    run(CropParams, main)
