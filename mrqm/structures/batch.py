"""A batch of images with their targets."""

from __future__ import annotations

from torch import Tensor

Target = dict[str, Tensor]


Batch = tuple[Tensor, Tensor | None, list[Target]]
