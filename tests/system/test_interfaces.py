"""The choice of a network interface by ranks; `make test-cluster` tries it on two machines."""

from __future__ import annotations

import os
import socket

import psutil
import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from dcgan.system import interfaces
from dcgan.system.errors import UserError

LOOPBACK = next(
    name for name, found in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in found)
)


@pytest.mark.parametrize("master", ["127.0.0.1", "127.0.1.1", "localhost"])  # the second as in Debian's /etc/hosts
def test_ranks_of_one_machine_use_its_loopback(monkeypatch: pytest.MonkeyPatch, master: str) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that it is taken back after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("MASTER_ADDR", master)
    store = HashStore()
    store.set("address 1", "127.0.0.1")
    interfaces.choose_interface(store, 0, 2)
    chosen = [os.environ[name] for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")]
    assert chosen == [LOOPBACK, LOOPBACK]


def test_a_rank_that_no_interface_leads_to_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    store = HashStore()
    store.set("address 1", "255.255.255.255")  # the system refuses to send there
    with pytest.raises(UserError, match=r"^255\.255\.255\.255: .* no route .* in GLOO_SOCKET_IFNAME and NCCL"):
        interfaces.choose_interface(store, 0, 2)


def test_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    interfaces.choose_interface(HashStore(), 0, 1)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0"


def test_every_address_is_one_that_this_machine_answers_at() -> None:
    found = interfaces.addresses()
    assert found[0] == "127.0.0.1"
    for address in found:
        with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            pass
