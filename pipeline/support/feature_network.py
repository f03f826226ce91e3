"""What the stages that measure share: the feature network and the processes that share the work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from dcgan.system.choices import FidNetwork
from dcgan.system.errors import UserError
from pipeline.support.environment import from_environment
from pipeline.support.launch_ranks import launch, stop_after_mistake
from pipeline.support.stage import WEIGHTS

if TYPE_CHECKING:
    from dcgan.metrics.feature_networks import FeatureNetwork
    from dcgan.system.ranks import Ranks


class Measuring(NamedTuple):
    """What a process measures with, and which of several it is."""

    network: FeatureNetwork
    ranks: Ranks


@contextmanager
def measuring(module: str, name: FidNetwork, compiled: bool) -> Iterator[Measuring | None]:
    """The network, on a GPU where there is one; None where other processes were started, and did the work.

    `DCGAN_PROCESSES` says how many are started, each with a GPU of its own; on a CPU they would only share it. What
    they write does not depend on how many they are.
    """
    import torch

    from dcgan.metrics import feature_networks, weights
    from dcgan.system import hardware, ranks

    processes = int(from_environment("DCGAN_PROCESSES", 1, least=1))
    if processes > 1 and not ranks.launched():
        gpus = torch.cuda.device_count()
        if 0 < gpus < processes:
            raise UserError(f"DCGAN_PROCESSES: {processes} is more than the {gpus} GPUs here; give at most {gpus}.")
        # As many threads as one process would use: another number would round otherwise.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        launch(module, processes)
        yield None
        return
    stop_after_mistake()
    device = hardware.default_device(ranks.local_rank())
    hardware.prepare()
    file = weights.find(name, WEIGHTS)
    weights.verify(name, file)
    with ranks.joined(device) as mine:
        yield Measuring(feature_networks.load(name, file, device, compiled and device.type == "cpu"), mine)
