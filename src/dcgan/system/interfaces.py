"""The addresses of this machine, and the network interface by which ranks on several machines reach each other.

Without a choice, gloo and NCCL take the address that a machine's own name resolves to. Debian's /etc/hosts makes that
127.0.1.1, which no other machine can reach.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import psutil

from dcgan.system.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_CHOICES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def addresses() -> list[str]:
    """The addresses of this machine: first that for itself, then those at which other machines may reach it."""
    return [
        "127.0.0.1",
        *(
            address.address
            for name, status in psutil.net_if_stats().items()
            for address in psutil.net_if_addrs().get(name, [])
            if status.isup and address.family in (socket.AF_INET, socket.AF_INET6)
            if not address.address.startswith(("127.", "::1", "fe80:"))
        ),
    ]


def choose_interface(store: Store, rank: int, count: int) -> None:
    """Makes gloo and NCCL use the interface that routes to another machine's rank, if there is one.

    If all ranks are on this machine, it is the interface that routes to the store. A choice that the user made by the
    environment variable of gloo or NCCL stays.

    Args:
        store: the store of all ranks, at MASTER_ADDR and MASTER_PORT.
        rank: this rank; each of the `count` ranks calls this function.

    Raises:
        UserError: no interface leads to the other machine's rank.
    """
    own = {
        address.address.partition("%")[0]: name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
    }
    mine = _local_address(os.environ["MASTER_ADDR"])
    store.set(f"address {rank}", mine)
    all_ranks = [store.get(f"address {number}").decode() for number in range(count)]
    other = next((address for address in all_ranks if address not in own), mine)
    if all(os.environ.get(choice) for choice in _CHOICES):
        return
    try:
        address = _local_address(other)
    except OSError:
        raise UserError(
            f"{other}: this machine has no route to this address of another rank; check the network, or name the "
            f"interface to use in {' and '.join(_CHOICES)}."
        ) from None
    if interface := own.get(address):
        for choice in _CHOICES:
            os.environ.setdefault(choice, interface)


def _local_address(host: str) -> str:
    """The address of this machine that packets to `host` are sent from."""
    family, kind, _, _, address = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as datagrams:
        datagrams.connect(address)  # sends nothing
        return str(datagrams.getsockname()[0])
