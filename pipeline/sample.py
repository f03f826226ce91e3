"""Samples faces from the trained generator: grids, interpolations between latents, an animation of the training."""

from dcgan.params import SampleParams
from dcgan.system.project_files import FACES, GENERATOR, REPORTS
from pipeline.support.record import describe_samples, record
from pipeline.support.stage import run


def main(params: SampleParams) -> None:
    from dcgan import networks, sampling
    from dcgan.data import images

    generator = networks.load_generator(GENERATOR)
    settings = generator.settings
    random = {name: sampling.random_state(params.seed, name) for name in ("samples", "strip", "sheet")}

    generated = sampling.generate(generator, sampling.draw_latents(settings, 64, random["samples"]))
    images.save_png(REPORTS / "samples.png", images.grid(generated, columns=8))
    real = images.choose(images.open_faces(FACES, "train"), 64, params.seed)
    images.save_png(REPORTS / "real_and_generated.png", images.side_by_side(real, generated, columns=8))

    walks = sampling.generate(generator, sampling.strip(settings, random["strip"]))
    images.save_png(REPORTS / "interpolation.png", images.grid(walks, columns=10))
    between = sampling.generate(generator, sampling.sheet(settings, random["sheet"]))
    images.save_png(REPORTS / "sheet.png", images.grid(between, columns=6))
    images.save_animation(REPORTS / "progress.gif", sorted((REPORTS / "progress").glob("*.png")))

    record("the samples", describe_samples)


if __name__ == "__main__":
    run(SampleParams, main)
