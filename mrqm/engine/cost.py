"""Cost of a detector: parameters and FLOPs of a forward pass, counted on tensors without storage.

FLOPs are two per multiply-add, of matrix products, convolutions, attention and bilinear samples; element-wise
operations are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mrqm.models.mrqm import MRQM

TRAINING_ONLY = ("denoising", "iou_aware_head")
"""Parts of the model that a served detector has not."""


@dataclass(frozen=True)
class ModelCost:
    """Cost of a detector that is used, without what training alone needs.

    Attributes:
        parameters: number of its parameters.
        flops: FLOPs of one image.
    """

    parameters: int
    flops: int


def model_cost(model: MRQM, size: tuple[int, int]) -> ModelCost:
    """Count parameters and FLOPs; takes little time and memory, whatever the size of the image.

    Args:
        model: detector, which loses its weights: it is moved to the meta device.
        size: (height, width) of the image in px.

    Returns:
        The cost for one image.
    """
    model = model.to("meta").eval()
    image = torch.empty(1, 3, *size, device="meta")
    kept = [part for name, part in model.named_children() if name not in TRAINING_ONLY]
    with torch.no_grad():
        flops = count_flops(model, image)
    return ModelCost(
        parameters=sum(parameter.numel() for part in kept for parameter in part.parameters()),
        flops=flops,
    )


def count_flops(module: nn.Module | Callable[..., Any], *inputs: Any) -> int:
    """Count the FLOPs of a call.

    Args:
        module: module or function.
        inputs: its arguments, whose tensors may be on the meta device.

    Returns:
        The number of FLOPs; gradients count where the call computes them.
    """
    with FlopCounterMode(display=False, custom_mapping=_SAMPLING) as counter:
        module(*inputs)
    return int(counter.get_total_flops())


def _sample_flops(_input: Sequence[int], _grid: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Count bilinear sampling: four corners, each a multiply-add, for every sampled value."""
    return 8 * math.prod(out_shape)


def _sample_backward_flops(grad_output: Sequence[int], *_: Any, **__: Any) -> int:
    """Count its gradient: as many for the values, and again for the locations."""
    return 16 * math.prod(grad_output)


_SAMPLING = {
    torch.ops.aten.grid_sampler_2d: _sample_flops,
    torch.ops.aten.grid_sampler_2d_backward: _sample_backward_flops,
}
