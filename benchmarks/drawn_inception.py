"""Weights of pytorch-fid's Inception that are drawn at random, where the published ones are not needed."""

from pathlib import Path

import torch
from torchvision.models import inception_v3


def draw_weights(path: Path) -> None:
    """Writes them, scaled so that features neither vanish nor explode (He et al. 2015, arXiv 1502.01852)."""
    random = torch.Generator().manual_seed(0)
    state = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=random)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5, generator=random)
        elif name.endswith("conv.weight"):
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=random)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
