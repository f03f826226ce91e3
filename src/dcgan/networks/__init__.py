"""Generator and discriminator, their convolutions, and their files.

In come settings and latents or pictures; out go pictures, logits, and weights as safetensors.
"""

from dcgan.networks.dcgan import (
    Discriminator,
    Generator,
    Settings,
    averaged_copy,
    build,
    estimate_batch_norm,
    load_example_checkpoint,
    load_generator,
    read_metadata,
    save,
    update_average,
)

__all__ = [
    "Discriminator",
    "Generator",
    "Settings",
    "averaged_copy",
    "build",
    "estimate_batch_norm",
    "load_example_checkpoint",
    "load_generator",
    "read_metadata",
    "save",
    "update_average",
]
