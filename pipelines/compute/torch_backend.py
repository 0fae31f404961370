"""A PyTorch process group on the network that Ray uses.

Gloo binds to the address of the host's own name. Many systems resolve that to loopback, so that workers on other
machines cannot connect. The interface of the node's address in Ray, which all other nodes reach, is used instead.
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
        """Choose the workers' interfaces before they form their process group; runs in Ray Train's controller.

        Args:
            worker_group: workers of Ray Train.
            backend_config: configuration of the process group.
        """
        worker_group.execute(choose_interface)
        super().on_start(worker_group, backend_config)


@dataclass
class RayInterfaceConfig(TorchConfig):
    """A `TorchConfig` whose process group uses Ray's network."""

    @property
    def backend_cls(self) -> type:
        """Class of the backend that sets up the process group."""
        return RayInterfaceBackend


def choose_interface() -> None:
    """Let gloo use the interface of the node's address, unless the environment names one."""
    if interface := interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault(INTERFACE, interface)


def interface_of(address: str) -> str | None:
    """Return the name of this machine's interface with an address; None if none has it, as behind NAT."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(known.address.partition("%")[0] == address for known in addresses):
            return name
    return None
