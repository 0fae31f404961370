"""PyTorch's process group on the network that Ray uses.

Gloo binds to the address of the host's own name. Many systems resolve that to loopback, and then workers on other
machines cannot connect. Ray knows an address of every node that all others reach: its interface is used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig

INTERFACE = "GLOO_SOCKET_IFNAME"

RayTorchBackend: type = TorchConfig().backend_cls


class RayInterfaceBackend(RayTorchBackend):
    """Ray's own backend, whose workers choose their interface first."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Runs in Ray Train's controller before workers form their process group."""
        worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


@dataclass
class RayInterfaceConfig(TorchConfig):
    """As `TorchConfig`."""

    @property
    def backend_cls(self) -> type:
        """What sets up the process group."""
        return RayInterfaceBackend


def choose_interface() -> None:
    """Let gloo use the interface of the node's address, unless the environment names one."""
    if interface := interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault(INTERFACE, interface)


def interface_of(address: str) -> str | None:
    """Name of this machine's interface with an address; None if none has it, as behind a translating router."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(known.address.partition("%")[0] == address for known in addresses):
            return name
    return None
