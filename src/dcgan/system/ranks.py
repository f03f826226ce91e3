"""One training on several processes: what each does of a step, and how they agree.

A rank is one process with one GPU, or with its share of the CPU. Every rank holds the same weights and takes its
part of the same global batch; gradients are averaged by DistributedDataParallel. Rank 0 alone writes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from safetensors.torch import load, save
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from dcgan.system.errors import UserError

NEW_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # torchrun makes a new store each time that it starts the ranks
BARRIER_TIMEOUT = timedelta(days=1)  # rank 0 may wait for another process that runs this very training


@dataclass(frozen=True)
class Ranks:
    """This process among all; alone, unless `joined` said otherwise."""

    rank: int = 0
    count: int = 1
    barrier_group: distributed.ProcessGroup | None = None  # of all ranks, with BARRIER_TIMEOUT

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """This rank's part of the first dimension, which the count of ranks divides."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def all_reduce(self, values: Tensor) -> Tensor:
        """The mean over the ranks, in place; NaN where one of them has NaN."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values

    def all_gather(self, rows: Tensor, max_rows: int) -> list[Tensor]:
        """What each rank gives, (N, D) with N up to `max_rows`, in their order; zeros beyond its N."""
        if self.count == 1:
            return [rows]
        padded = torch.cat([rows, rows.new_zeros(max_rows - len(rows), rows.shape[1])])
        gathered = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(gathered, padded)
        return gathered

    def max(self, value: int) -> int:
        """The greatest of what the ranks give; all wait for all."""
        if self.count == 1:
            return value
        greatest = torch.tensor(value)
        distributed.all_reduce(greatest, distributed.ReduceOp.MAX)
        return int(greatest)

    def barrier(self) -> None:
        """Until all ranks have come here, however long rank 0 takes."""
        if self.count > 1:
            distributed.barrier(self.barrier_group)

    def broadcast(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rank 0's tensors, on the CPU of every rank."""
        if self.count == 1:
            return tensors
        data = save(tensors) if self.writes else b""
        size = self.max(len(data))
        buffer = torch.frombuffer(bytearray(data or bytes(size)), dtype=torch.uint8)
        distributed.broadcast(buffer, 0)
        return load(buffer.numpy().tobytes())

    def check_same(self, what: Mapping[str, object]) -> None:
        """Makes sure that all ranks train the same.

        Raises:
            UserError: something of `what` differs.
        """
        for name, value in what.items():
            digest = int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:7])
            if self.max(digest) != -self.max(-digest):
                raise UserError(
                    f"{name}: it is not the same on all ranks; give every machine the same "
                    "kind of GPU, OMP_NUM_THREADS, code, params.yaml and data."
                )

    def synchronised(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks, and rank 0's weights from the start.

        Buffers stay each rank's own: BatchNorm learns from a rank's part of the batch, as it is usual, and those
        of rank 0 are saved.
        """
        if self.count == 1:
            return module
        # It sorts gradients into buckets anew after its first step, and sums of three and more ranks depend on that:
        # a resumed training would differ. It does not where it looks for unused parameters.
        return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=True)


ALONE = Ranks()


def launched() -> bool:
    """Whether torchrun, or a scheduler in its place, started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= set(os.environ)


def local_rank() -> int:
    """This process's number among those on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks of this training, from the environment that torchrun sets; one process is alone.

    Raises:
        UserError: torchrun on several machines would not survive a restart as it was started.
    """
    if not launched():
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, count = next(rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # After a restart torchrun's store still holds the addresses of the dead ranks (pytorch issue 135712).
        if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:  # each machine counts its restarts by itself
            raise UserError(f"{NEW_STORE}: it is not set; on several machines start torchrun with {NEW_STORE}=1.")
        attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        store = distributed.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count)
    barrier_group = distributed.new_group(backend="gloo", timeout=BARRIER_TIMEOUT)
    assert isinstance(barrier_group, distributed.ProcessGroup)  # this rank is in it
    yield Ranks(rank, count, barrier_group)
    distributed.destroy_process_group()  # after an error the process ends, and waiting for the others could hang
