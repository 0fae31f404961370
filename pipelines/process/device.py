"""The device that a model runs on."""

from __future__ import annotations

import re

import torch

from mrqm.errors import UserError


class DeviceError(UserError):
    """A device that does not exist."""


def pick_device(name: str | None) -> torch.device:
    """Find the device of a name.

    Args:
        name: `cpu`, `cuda` or `gpu`, and `cuda:1` or `1` for one of several; None for the GPU if there is one.

    Raises:
        DeviceError: the name is not known, or this machine has no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = re.fullmatch(r"(cpu)|(?:(?:cuda|gpu)(?::(\d+))?|(\d+))", name.strip().lower())
    if known is None:
        raise DeviceError(f"--device {name}: known are cpu, cuda, and cuda:1 for one of several GPUs")
    cpu, *numbers = known.groups()
    if cpu:
        return torch.device("cpu")
    number = next((number for number in numbers if number is not None), None)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise DeviceError(f"--device {name}: {_why_no_gpu()}; --device cpu works")
    if number is not None and int(number) >= count:
        raise DeviceError(f"--device {name}: this machine has {count} GPUs, the last is cuda:{count - 1}")
    return torch.device("cuda" if number is None else f"cuda:{number}")


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is installed without support for GPUs"
    return f"PyTorch finds no GPU here: no NVIDIA driver, or one too old for CUDA {torch.version.cuda}"
