"""Finds what the generator has learnt of its data's attributes: directions in latent space, with their scores."""

from dcgan.schema import AttributesParams
from dcgan.system.project_files import ATTRIBUTES, DIRECTIONS, DISCRIMINATOR, FACES, GENERATOR, REPORTS
from pipeline.support.outs import outs
from pipeline.support.stage import run


def main(params: AttributesParams) -> None:
    from dcgan import networks
    from dcgan.data import images
    from dcgan.exploring import attributes, direction_file, pooled_features
    from dcgan.system import hardware
    from dcgan.system.files import sha256, write_json

    used = hardware.resolve("auto", "fp32")
    hardware.prepare()
    hardware.say_what_computes("attributes", used)
    generator = networks.load_generator(GENERATOR).to(used.device)
    discriminator = pooled_features.load_discriminator(DISCRIMINATOR).to(used.device)
    found = attributes.explore(generator, discriminator, FACES, params.seed)
    with outs() as new:
        write_json(new(ATTRIBUTES), found.result)
        direction_file.save(new(DIRECTIONS), found.directions, sha256(GENERATOR))
        images.save_png(new(REPORTS / "strips.png"), found.strips)
        images.save_png(new(REPORTS / "attributes.png"), found.arithmetic)


if __name__ == "__main__":
    run(AttributesParams, main)
