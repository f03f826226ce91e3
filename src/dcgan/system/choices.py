"""Allowed values of the settings that both the schema of params.yaml and the code behind the setting refer to."""

from typing import Literal

MOST_NZ, MOST_NGF = 4096, 1024  # the latter also for ndf

Architecture = Literal["conv", "linear"]
Latent = Literal["normal", "uniform"]
GeneratorNorm = Literal["batch", "pixel"]
DiscriminatorNorm = Literal["batch", "none", "spectral"]
Loss = Literal["bce", "minimax", "hinge", "lsgan", "relativistic"]
Keep = Literal["last", "best"]
FidNetwork = Literal["efficientnet_lite0_dithered", "efficientnet_lite0", "inception"]
