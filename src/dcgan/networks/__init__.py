"""Generator and discriminator, their convolutions, the averaged generator, and weight files.

Input: settings, and latents or pictures. Output: pictures, logits, and weights as safetensors.
`foreign` reads checkpoints of other programs.
"""

from dcgan.networks.averaging import averaged_copy, estimate_batch_norm, update_average
from dcgan.networks.dcgan import Discriminator, Generator, Settings, build
from dcgan.networks.weight_files import load_generator, save

__all__ = [
    "Discriminator",
    "Generator",
    "Settings",
    "averaged_copy",
    "build",
    "estimate_batch_norm",
    "load_generator",
    "save",
    "update_average",
]
