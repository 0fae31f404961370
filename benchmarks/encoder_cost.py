"""Compare the cost of the Scale-Aware Encoder with the six-layer full encoder: FLOPs, seconds and their ratios.

    python benchmarks/encoder_cost.py                    # one 800×800 image: some minutes on two cores
    python benchmarks/encoder_cost.py --device cuda
    python benchmarks/encoder_cost.py --size 256         # for little memory: 800 px takes about 14 GB

FLOPs are two per multiply-add, of matrix products and bilinear samples; element-wise operations are not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mrqm.config import ModelConfig
from mrqm.engine.cost import count_flops
from mrqm.models.backbone import STRIDES
from mrqm.models.encoder import build_encoder
from mrqm.models.tokens import TokenGrid, flatten_levels, token_grid

FULL_LAYERS = 6
VARIANTS: dict[str, dict[str, Any]] = {
    f"full, {FULL_LAYERS} layers": {"encoder": "full", "full_encoder_layers": FULL_LAYERS},
    "scale-aware (2+1)x3": {"refinement": {"high_level_updates": 2, "blocks": 3}},
    "scale-aware (6+1)x1": {"refinement": {"high_level_updates": 6, "blocks": 1}},
    "(2+1)x3, F2 at 512": {"refinement": {"low_level_ffn_dim": 512}},
    "(2+1)x3, 30 % of F2": {"refinement": {"low_level_share": 0.3}},
    "(2+1)x3, both": {"refinement": {"low_level_share": 0.3, "low_level_ffn_dim": 512}},
}
"""Settings of `model` that differ from the defaults, by name; ratios are those to the first."""


def make_tokens(dim: int, size: int, device: str) -> tuple[Tensor, TokenGrid]:
    """Make random tokens of one square image.

    Args:
        dim: width of the tokens.
        size: side of the image in px.
        device: name of the device.

    Returns:
        Tokens (1, S, dim), and their grid.
    """
    features = [torch.randn(1, dim, size // stride, size // stride, device=device) for stride in STRIDES]
    return flatten_levels(features).requires_grad_(), token_grid(features, None)


def run_forward(encoder: nn.Module, memory: Tensor, grid: TokenGrid) -> None:
    """Run an encoder's forward pass.

    Args:
        encoder: encoder to run.
        memory: tokens (1, S, dim).
        grid: positions of the tokens.
    """
    with torch.no_grad():
        encoder(memory, grid)


def run_backward(encoder: nn.Module, memory: Tensor, grid: TokenGrid) -> None:
    """Run an encoder's forward and backward pass.

    Args:
        encoder: encoder to run.
        memory: tokens (1, S, dim).
        grid: positions of the tokens.
    """
    encoder(memory, grid).sum().backward()


def encoder_flops(run: Callable[..., None], encoder: nn.Module, dim: int, size: int) -> int:
    """Count the FLOPs of a run, on tensors without storage.

    Args:
        run: forward pass, or forward and backward pass.
        encoder: encoder to run.
        dim: width of the tokens.
        size: side of the image in px.

    Returns:
        The number of FLOPs.
    """
    return count_flops(run, encoder.to("meta"), *make_tokens(dim, size, "meta"))


def measure_seconds(
    run: Callable[..., None], encoder: nn.Module, warm_up: tuple[Any, ...], tokens: tuple[Any, ...], repeats: int
) -> float:
    """Measure the fastest of several runs, after one that warms up.

    Args:
        run: forward pass, or forward and backward pass.
        encoder: encoder to run.
        warm_up: tokens and grid of a small image.
        tokens: tokens and grid of the image.
        repeats: number of runs.

    Returns:
        Seconds.
    """
    run(encoder, *warm_up)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(encoder, *tokens)
        if tokens[0].is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        encoder.zero_grad()
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=800, help="side of the image in px, a multiple of 32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1, help="timed runs, of which the fastest counts")
    args = parser.parse_args()

    dim = ModelConfig().hidden_dim
    warm_up, tokens = (make_tokens(dim, size, args.device) for size in (128, args.size))
    console, table = Console(), Table(box=SIMPLE)
    for column in ("encoder", "pass", "GFLOPs", "ratio", "seconds", "ratio"):
        table.add_column(column, justify="left" if column in ("encoder", "pass") else "right")
    for label, run in (("forward", run_forward), ("forward + backward", run_backward)):
        reference: tuple[float, float] | None = None
        for name, settings in VARIANTS.items():
            encoder = build_encoder(ModelConfig.model_validate(settings))
            with console.status(f"{name}, {label}"):
                seconds = measure_seconds(run, encoder.to(args.device), warm_up, tokens, args.repeats)
            flops = encoder_flops(run, encoder, dim, args.size)
            reference = reference or (flops, seconds)
            ratios = f"{flops / reference[0]:.3f}", f"{seconds / reference[1]:.3f}"
            table.add_row(name, label, f"{flops / 1e9:.1f}", ratios[0], f"{seconds:.3f}", ratios[1])
    print(f"one {args.size}×{args.size} image, {args.device}")
    console.print(table)


if __name__ == "__main__":
    main()
