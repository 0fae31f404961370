import os

import psutil
import pytest

from pipelines.compute import torch_backend
from pipelines.compute.torch_backend import INTERFACE, choose_interface, interface_of


def test_an_address_has_an_interface() -> None:
    name = interface_of("127.0.0.1")
    assert name in psutil.net_if_addrs()
    assert interface_of("203.0.113.9") is None


def test_what_the_environment_names_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERFACE, "eth7")
    monkeypatch.setattr(torch_backend.ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    choose_interface()
    assert os.environ[INTERFACE] == "eth7"
