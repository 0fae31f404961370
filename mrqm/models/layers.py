"""Small layers that several parts share.

Legend: B batch, Q queries, D hidden_dim.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

PRIOR_PROBABILITY = 0.01  # every class starts as rare, so that the many negatives do not drown the first steps
PRIOR_LOGIT = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)


class MLP(nn.Sequential):
    """Linear layers with ReLU between them."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        dims = [in_dim] + [hidden_dim] * (num_layers - 1) + [out_dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(dims):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])


class FeedForward(nn.Module):
    """Post-norm feed-forward block with its residual."""

    def __init__(self, dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.layers = MLP(dim, ffn_dim, dim, num_layers=2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, D) → (B, Q, D)."""
        return self.norm(x + self.layers(x))


def classification_head(dim: int, num_outputs: int) -> nn.Linear:
    """Linear classifier whose scores start at the prior probability (Lin et al., 2017).

    Args:
        dim: input channels D.
        num_outputs: output channels.

    Returns:
        The layer.
    """
    head = nn.Linear(dim, num_outputs)
    nn.init.constant_(head.bias, PRIOR_LOGIT)
    return head


def box_head(dim: int, num_outputs: int = 4) -> MLP:
    """Three-layer regressor that starts at zero, so that predictions start at their references.

    Args:
        dim: input channels D.
        num_outputs: output channels.

    Returns:
        The layers.
    """
    head = MLP(dim, dim, num_outputs, num_layers=3)
    last = head[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return head


def sine_embedding(coordinates: Tensor, dim: int, temperature: float = 20.0) -> Tensor:
    """Sine position encoding of normalised coordinates, `dim` channels for each.

    Image tokens and boxes of queries have temperature 20 alike; DINO has it for tokens only, and 10000 for boxes.

    Args:
        coordinates: (…, C) in [0, 1].
        dim: channels per coordinate, even.
        temperature: base of the frequencies.

    Returns:
        (…, C · dim).
    """
    frequencies = temperature ** -(torch.arange(0, dim, 2, device=coordinates.device, dtype=torch.float32) / dim)
    phases = coordinates.float().unsqueeze(-1) * (2 * math.pi) * frequencies  # (…, C, dim / 2)
    return torch.stack([phases.sin(), phases.cos()], -1).flatten(-3)
