"""Samples faces from the trained generator: grids, interpolations between latents, an animation of the training."""

from dcgan.schema import SampleParams
from dcgan.system.project_files import FACES, GENERATOR, REPORTS
from pipeline.support.outs import outs
from pipeline.support.record import describe_samples, record
from pipeline.support.stage import run


def main(params: SampleParams) -> None:
    from dcgan import networks, sampling
    from dcgan.data import images
    from dcgan.system import hardware

    hardware.say_what_computes("sample", hardware.resolve(0, "fp32"))
    generator = networks.load_generator(GENERATOR)
    settings = generator.settings
    random = {name: sampling.random_state(params.seed, name) for name in ("samples", "strip", "sheet")}

    generated = sampling.generate(generator, sampling.draw_latents(settings, 64, random["samples"]))
    real = images.choose(images.open_shown(FACES), 64, params.seed)
    walks = sampling.generate(generator, sampling.strip(settings, random["strip"]))
    between = sampling.generate(generator, sampling.sheet(settings, random["sheet"]))
    with outs() as new:
        images.save_png(new(REPORTS / "samples.png"), images.grid(generated, columns=8))
        images.save_png(new(REPORTS / "real_and_generated.png"), images.side_by_side(real, generated, columns=8))
        images.save_png(new(REPORTS / "interpolation.png"), images.grid(walks, columns=10))
        images.save_png(new(REPORTS / "sheet.png"), images.grid(between, columns=6))
        images.save_animation(new(REPORTS / "progress.gif"), sorted((REPORTS / "progress").glob("*.png")))

    record("the samples", describe_samples)


if __name__ == "__main__":
    run(SampleParams, main)
