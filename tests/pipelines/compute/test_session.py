import os
import socket
from typing import Any

import pytest
import ray

from pipelines.compute.session import OWN_SESSION, TRAIN_SETTINGS, ResourceError, ray_session


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_without_a_cluster_is_refused_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(port=free.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match=f"RAY_ADDRESS={address}"), ray_session():
        pass


def test_what_ray_says_of_an_address_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise ConnectionError("no running Ray instance")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ResourceError, match=r"RAY_ADDRESS=auto.*no running Ray instance"), ray_session():
        pass


@pytest.mark.ray
def test_a_session_of_its_own_leaves_no_setting_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OWN_SESSION, *TRAIN_SETTINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "")  # counts as unset
    with ray_session():
        assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
    assert os.environ.keys().isdisjoint({*OWN_SESSION, *TRAIN_SETTINGS})
