"""Crops and resizes every picture of data/raw into packed arrays, data/faces."""

from stage import FACES, RAW, REPORTS, run

from dcgan.files import atomic
from dcgan.params import CropParams


def main(params: CropParams) -> None:
    from dcgan import images

    with atomic(FACES) as faces, atomic(REPORTS / "data.json") as report:
        images.pack(RAW, faces, report, **params.model_dump())


if __name__ == "__main__":
    run(CropParams, main)
