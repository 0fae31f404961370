"""Where a model runs."""

from __future__ import annotations

import torch


def pick_device(name: str | None) -> torch.device:
    """The device of that name, such as `cuda:1`; without a name the GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
