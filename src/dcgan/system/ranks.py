"""One training on several processes: each process's part of a step, and the communication between processes.

A rank is one process with one GPU, or with its share of the CPU. All ranks hold the same weights, and each takes its
part of the same global batch. DistributedDataParallel averages the gradients. Only rank 0 writes files.
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
from dcgan.system.interfaces import choose_interface

NEW_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # makes torchrun create a new store at each start of the ranks
BARRIER_TIMEOUT = timedelta(days=1)  # rank 0 may wait for another process that runs the same training


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks; by default one process is alone."""

    rank: int = 0
    count: int = 1
    barrier_group: distributed.ProcessGroup | None = None  # all ranks, with BARRIER_TIMEOUT

    @property
    def writes(self) -> bool:
        """Whether this rank writes files; only rank 0 does."""
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """This rank's part of `batch` along the first dimension; its size is divisible by the number of ranks."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def all_reduce(self, values: Tensor) -> Tensor:
        """Averages `values` over the ranks in place; NaN where any rank has NaN."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values

    def all_gather(self, rows: Tensor, max_rows: int) -> list[Tensor]:
        """The `rows` of all ranks, (N, D) with N up to `max_rows`, in rank order.

        With several ranks each result has `max_rows` rows; the rows after a rank's N are zeros.
        """
        if self.count == 1:
            return [rows]
        padded = torch.cat([rows, rows.new_zeros(max_rows - len(rows), rows.shape[1])])
        gathered = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(gathered, padded)
        return gathered

    def max(self, value: int) -> int:
        """The maximum of `value` over the ranks; waits for all ranks."""
        if self.count == 1:
            return value
        greatest = torch.tensor(value)
        distributed.all_reduce(greatest, distributed.ReduceOp.MAX)
        return int(greatest)

    def barrier(self) -> None:
        """Waits until all ranks have called this, for up to BARRIER_TIMEOUT."""
        if self.count > 1:
            distributed.barrier(self.barrier_group)

    def broadcast(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rank 0's `tensors`, sent to the CPU of every rank."""
        if self.count == 1:
            return tensors
        data = save(tensors) if self.writes else b""
        size = self.max(len(data))
        buffer = torch.frombuffer(bytearray(data or bytes(size)), dtype=torch.uint8)
        distributed.broadcast(buffer, 0)
        return load(buffer.numpy().tobytes())

    def check_same(self, what: Mapping[str, object]) -> None:
        """Checks that all ranks run the same training.

        Raises:
            UserError: a value in `what` differs between ranks.
        """
        for name, value in what.items():
            digest = int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:7])
            if self.max(digest) != -self.max(-digest):
                raise UserError(
                    f"{name}: differs between the ranks; give every machine the same "
                    "kind of GPU, OMP_NUM_THREADS, code, params.yaml and data."
                )

    def synchronised(self, module: nn.Module) -> nn.Module:
        """Wraps `module` so that it starts with rank 0's weights and averages gradients over the ranks.

        Buffers are not synchronised: each rank's BatchNorm sees its own part of the batch, as usual, and rank 0's
        buffers are saved.
        """
        if self.count == 1:
            return module
        # By default, DistributedDataParallel rebuilds its gradient buckets after the first step. Sums over three or
        # more ranks depend on the buckets, so that a resumed training would differ. It does not rebuild the buckets
        # if it looks for unused parameters.
        return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=True)


ALONE = Ranks()


def launched() -> bool:
    """Whether torchrun, or a scheduler instead of it, started this process as a rank."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= set(os.environ)


def local_rank() -> int:
    """The number of this process among the ranks on its machine; 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Joins the ranks of this training, from the environment variables that PyTorch's launchers set.

    Without a launcher it yields a single rank.

    Raises:
        UserError: torchrun runs on several machines without NEW_STORE, so that a restart of the ranks would fail.
    """
    if not launched():
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, count = next(rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # After a restart, torchrun's store still holds the addresses of the dead ranks (PyTorch issue 135712).
        if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:  # each machine counts only its own restarts
            raise UserError(f"{NEW_STORE}: is not set; on several machines, start torchrun with {NEW_STORE}=1.")
        attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        store = distributed.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    choose_interface(store, rank, count)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count)
    barrier_group = distributed.new_group(backend="gloo", timeout=BARRIER_TIMEOUT)
    assert isinstance(barrier_group, distributed.ProcessGroup)  # every rank is a member
    yield Ranks(rank, count, barrier_group)
    # Not called after an error: the process ends anyway, and waiting for the other ranks could hang.
    distributed.destroy_process_group()
