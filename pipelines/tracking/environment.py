"""Description of the environment of a training: versions, processor, GPUs."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = ("mrqm", "torch", "torchvision", "timm", "ray", "mlflow", "numpy")


def describe_environment() -> dict[str, Any]:
    """Describe the versions and the hardware of this host as JSON values."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "system": platform.platform(),
        "host": platform.node(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def installed_packages() -> list[str]:
    """List all installed packages with their versions, in the format of a requirements file."""
    found = {f"{package.name}=={package.version}" for package in distributions()}
    return sorted(found, key=str.lower)


def _processor() -> str:
    """Return the processor's name, which the standard library knows only on some systems."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
