"""Bi-directional feature pyramid (Tan et al., 2020): C2..C5 → F2..F5.

Norms are taken per pixel, so that no value depends on the batch, the padding or the number of workers.

Legend: B batch, D hidden_dim, levels finest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from mrqm.models.backbone import mask_at


class FastNormalizedFusion(nn.Module):
    """Σ w_i x_i with w_i = relu(a_i) / (eps + Σ relu(a_j))."""

    def __init__(self, num_inputs: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.eps = eps

    def forward(self, *inputs: Tensor) -> Tensor:
        """Fuse tensors of one shape."""
        weights = self.weights.relu()
        weights = weights / (self.eps + weights.sum())
        return torch.stack([weight * x for weight, x in zip(weights, inputs, strict=True)]).sum(0)


class Node(nn.Module):
    """Fusion, then a depthwise-separable convolution."""

    def __init__(self, dim: int, num_inputs: int) -> None:
        super().__init__()
        self.fusion = FastNormalizedFusion(num_inputs)
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.pointwise = nn.Conv2d(dim, dim, 1, bias=False)
        self.norm = LayerNorm2d(dim)

    def forward(self, *inputs: Tensor, masks: Tensor | None) -> Tensor:
        """Fuse features and convolve the result.

        Args:
            inputs: (B, D, H, W) features, one per input.
            masks: (B, H_image, W_image), True = padding, or None.

        Returns:
            (B, D, H, W), zero on padding.
        """
        fused = _blank(F.silu(self.fusion(*inputs)), masks)
        return _blank(self.norm(self.pointwise(self.depthwise(fused))), masks)


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up pass."""

    def __init__(self, dim: int, num_levels: int) -> None:
        super().__init__()
        self.top_down = nn.ModuleList(Node(dim, 2) for _ in range(num_levels - 1))
        self.bottom_up = nn.ModuleList(Node(dim, 3) for _ in range(num_levels - 2))
        self.top = Node(dim, 2)

    def forward(self, features: Sequence[Tensor], masks: Tensor | None) -> list[Tensor]:
        """F2..F5 → F2..F5.

        Args:
            features: (B, D, H_l, W_l) of each level.
            masks: (B, H, W), True = padding, or None.

        Returns:
            (B, D, H_l, W_l) of each level.
        """
        merged = [features[-1]]  # coarsest first
        for node, feature in zip(self.top_down, reversed(features[:-1]), strict=True):
            merged.append(node(feature, F.interpolate(merged[-1], scale_factor=2.0), masks=masks))
        merged.reverse()
        outputs = [merged[0]]
        for node, feature, middle in zip(self.bottom_up, features[1:-1], merged[1:-1], strict=True):
            outputs.append(node(feature, middle, F.max_pool2d(outputs[-1], 2), masks=masks))
        outputs.append(self.top(features[-1], F.max_pool2d(outputs[-1], 2), masks=masks))
        return outputs


class BiFPN(nn.Module):
    """Lateral projections to D channels and `repeats` bi-directional passes; 0 leaves the projections alone."""

    def __init__(self, channels: Sequence[int], dim: int, repeats: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1, bias=False), LayerNorm2d(dim)) for width in channels
        )
        self.layers = nn.ModuleList(BiFPNLayer(dim, len(channels)) for _ in range(repeats))

    def forward(self, features: Sequence[Tensor], masks: Tensor | None) -> list[Tensor]:
        """C2..C5 → F2..F5.

        Args:
            features: (B, channels[l], H_l, W_l) of each level.
            masks: (B, H, W), True = padding, or None.

        Returns:
            (B, D, H_l, W_l) of each level, zero on padding.
        """
        pyramid = [_blank(lateral(x), masks) for lateral, x in zip(self.lateral, features, strict=True)]
        for layer in self.layers:
            pyramid = layer(pyramid, masks)
        return pyramid


def _blank(x: Tensor, masks: Tensor | None) -> Tensor:
    return x if masks is None else x.masked_fill(mask_at(masks, x.shape[-2:]).unsqueeze(1), 0)
