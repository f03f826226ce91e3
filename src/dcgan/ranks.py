"""One training on several processes: what each does of a step, and how they agree.

A rank is one process with one GPU, or with its share of the CPU. Every rank holds the same weights and takes its
part of the same global batch; gradients are averaged by DistributedDataParallel. Rank 0 alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from dcgan.errors import UserError

# A rank can wait for another training of the same kind to end; a dead one is noticed by torchrun, not by this.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Ranks:
    """This process among all; alone, unless `joined` said otherwise."""

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def share(self, of_all: Tensor) -> Tensor:
        """This rank's part of the first dimension, which the count of ranks divides."""
        size = len(of_all) // self.count
        return of_all[self.rank * size : (self.rank + 1) * size]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks, in place; NaN where one of them has NaN."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values

    def most(self, value: int) -> int:
        """The greatest of what the ranks give; all wait for all."""
        if self.count == 1:
            return value
        given = torch.tensor(value)
        distributed.all_reduce(given, distributed.ReduceOp.MAX)
        return int(given)

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.most(0)

    def synchronised(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks, and rank 0's weights from the start.

        Buffers stay each rank's own: BatchNorm learns from a rank's part of the batch, as it is usual, and those
        of rank 0 are saved.
        """
        return DistributedDataParallel(module, forward_sync_buffers=False) if self.count > 1 else module

    def check_same(self, step: int) -> None:
        """Makes sure that all ranks go on from the same checkpoint.

        Raises:
            UserError: they do not.
        """
        if self.most(step) != -self.most(-step):
            raise UserError("checkpoints: the ranks see different ones; run all of them in one shared project folder.")


ALONE = Ranks()


def launched() -> bool:
    """Whether torchrun, or a scheduler in its place, started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def local_rank() -> int:
    """This process's number among those on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks of this training, from the environment that torchrun sets; one process is alone."""
    if not launched():
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    # After a restart torchrun's store still holds the addresses of the dead ranks (pytorch issue 135712).
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    store = distributed.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
    yield Ranks(rank, count)
    distributed.destroy_process_group()  # after an error the process ends, and waiting for the others could hang
