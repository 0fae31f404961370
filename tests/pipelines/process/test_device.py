"""Names of devices, and what is said where there is no such device."""

import pytest
import torch

from pipelines.process.device import DeviceError, pick_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "device"),
    [(None, "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("GPU", "cuda"), ("cuda:1", "cuda:1"), ("0", "cuda:0")],
)
def test_names_are_understood(name: str | None, device: str) -> None:
    assert pick_device(name) == torch.device(device)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_cpu_is_taken() -> None:
    assert pick_device(None) == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "gpu", "0", "cuda:1"])
def test_a_gpu_that_is_not_there_is_said_with_the_way_out(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"--device {name}: PyTorch .*; --device cpu works"):
        pick_device(name)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("name", "words"), [("cuda:2", "has 2 GPUs, the last is cuda:1"), ("tpu", "known are cpu")])
def test_other_names_are_refused(name: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        pick_device(name)
