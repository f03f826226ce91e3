"""Shared code of the stages that measure: loads the feature network and starts the processes that share the work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from dcgan.system.choices import FidNetwork
from dcgan.system.errors import UserError
from dcgan.system.project_files import WEIGHTS
from pipeline.support.environment import from_environment
from pipeline.support.inputs import STAGE
from pipeline.support.launch_ranks import launch
from pipeline.support.rank_processes import LAUNCHER

if TYPE_CHECKING:
    from dcgan.metrics.feature_networks import FeatureNetwork
    from dcgan.system.ranks import Ranks


class Measuring(NamedTuple):
    """The feature network of a process, and its rank among the processes that share the work."""

    network: FeatureNetwork
    ranks: Ranks


@contextmanager
def measuring(name: FidNetwork, compiled: bool) -> Iterator[Measuring | None]:
    """Yields the feature network and the ranks of this process; None if it started other processes that did the work.

    The network is on a GPU if there is one. `DCGAN_PROCESSES` is the number of processes, each with its own GPU;
    without GPUs they only share the CPU. `DCGAN_LAUNCHER` starts as many as it is told. Their outputs do not depend on
    the number of processes.

    Raises:
        UserError: `DCGAN_PROCESSES` is more than the number of GPUs, if there are any.
    """
    import torch

    from dcgan.metrics import feature_networks, weights
    from dcgan.system import hardware, ranks

    processes = None if os.environ.get(LAUNCHER) else int(from_environment("DCGAN_PROCESSES", 1, least=1))
    if processes != 1 and not ranks.launched():
        gpus = torch.cuda.device_count()
        if processes and 0 < gpus < processes:
            raise UserError(f"DCGAN_PROCESSES: {processes} is more than the {gpus} GPUs here; give at most {gpus}.")
        # As many threads as a single process would use, since results are rounded differently with another number.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    if launch(processes):
        yield None
        return
    machine = hardware.resolve("auto", "fp32", ranks.local_rank())
    hardware.prepare()
    file = weights.find(name, WEIGHTS)
    weights.verify(name, file)
    with ranks.joined(machine.device) as mine:
        if mine.writes:
            hardware.say_what_computes(STAGE, machine, mine.count)
        on_cpu = machine.device.type == "cpu"
        yield Measuring(feature_networks.load(name, file, machine.device, compiled and on_cpu), mine)
