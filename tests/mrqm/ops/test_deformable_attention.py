"""Deformable attention against a naive loop over queries, heads, levels and points."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mrqm.ops.deformable_attention import DeformableAttention, Shapes, deformable_attention

SHAPES = [(5, 7), (3, 4), (2, 2), (1, 1)]
TOKENS = sum(h * w for h, w in SHAPES)
BATCH, QUERIES, HEADS, POINTS, HEAD_DIM = 2, 3, 2, 2, 4
DIM = HEADS * HEAD_DIM


def bilinear(level: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample (H, W, C) at pixel coordinates where cell (i, j) has its center at (j + 0.5, i + 0.5); zero outside."""
    height, width, channels = level.shape
    x, y = x - 0.5, y - 0.5
    left, top = math.floor(x.item()), math.floor(y.item())
    total = level.new_zeros(channels)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            total = total + level[row, column] * (1 - (x - column).abs()) * (1 - (y - row).abs())
    return total


def naive(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    batch, queries, heads, _, points, _ = locations.shape
    starts = [0]
    for height, width in shapes:
        starts.append(starts[-1] + height * width)
    rows = []
    for b, q, m in torch.cartesian_prod(torch.arange(batch), torch.arange(queries), torch.arange(heads)).tolist():
        total = value.new_zeros(value.shape[-1])
        for i, (height, width) in enumerate(shapes):
            level = value[b, starts[i] : starts[i + 1], m].view(height, width, -1)
            for p in range(points):
                x, y = locations[b, q, m, i, p]
                total = total + weights[b, q, m, i, p] * bilinear(level, x * width, y * height)
        rows.append(total)
    return torch.stack(rows).view(batch, queries, -1)


def random_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(BATCH, TOKENS, HEADS, HEAD_DIM, dtype=dtype, generator=generator)
    locations = torch.rand(BATCH, QUERIES, HEADS, len(SHAPES), POINTS, 2, dtype=dtype, generator=generator) * 1.4 - 0.2
    weights = torch.rand(BATCH, QUERIES, HEADS, len(SHAPES), POINTS, dtype=dtype, generator=generator)
    return value, locations, weights


def make_module(seed: int = 0) -> DeformableAttention:
    torch.manual_seed(seed)
    module = DeformableAttention(DIM, HEADS, len(SHAPES), POINTS)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module


def test_values_equal_the_naive_loop_also_outside_the_image() -> None:
    value, locations, weights = random_inputs()
    assert (locations < 0).any() and (locations > 1).any()
    fast, slow = deformable_attention(value, SHAPES, locations, weights), naive(value, SHAPES, locations, weights)
    torch.testing.assert_close(fast, slow)


def test_gradients_equal_those_of_the_naive_loop() -> None:
    gradients = []
    for function in (deformable_attention, naive):
        inputs = [x.requires_grad_() for x in random_inputs()]
        output = function(inputs[0], SHAPES, inputs[1], inputs[2])
        target = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(1))
        gradients.append(torch.autograd.grad((output * target).sum(), inputs))
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow)


def test_gradients_are_those_of_finite_differences() -> None:
    value, locations, weights = (x[:1].requires_grad_() for x in random_inputs())
    assert torch.autograd.gradcheck(lambda v, x, w: deformable_attention(v, SHAPES, x, w), (value, locations, weights))


@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_module_equals_its_definition(coordinates: int, padded: bool) -> None:
    module = make_module()
    query, memory = torch.randn(BATCH, QUERIES, DIM), torch.randn(BATCH, TOKENS, DIM)
    reference = torch.rand(BATCH, QUERIES, coordinates)
    padding = torch.rand(BATCH, TOKENS) < 0.3 if padded else None

    value = module.value_projection(memory)
    if padding is not None:
        value[padding] = 0
    shape = (BATCH, QUERIES, HEADS, len(SHAPES), POINTS)
    weights = module.attention_weights(query).view(BATCH, QUERIES, HEADS, -1).softmax(-1).view(shape)
    offsets = module.sampling_offsets(query).view(*shape, 2)
    locations = torch.empty(*shape, 2)
    for level, (height, width) in enumerate(SHAPES):
        for axis, cells in enumerate((width, height)):
            step = offsets[..., level, :, axis]
            center = reference[..., axis, None, None]
            if coordinates == 2:
                locations[..., level, :, axis] = center + step / cells
            else:
                locations[..., level, :, axis] = center + step / POINTS * reference[..., 2 + axis, None, None] / 2
    expected = module.output_projection(naive(value.view(BATCH, TOKENS, HEADS, -1), SHAPES, locations, weights))

    actual = module(query, reference, memory, SHAPES, padding)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_memory_under_padding_has_no_effect() -> None:
    module = make_module()
    query, memory = torch.randn(BATCH, QUERIES, DIM), torch.randn(BATCH, TOKENS, DIM)
    padding = torch.rand(BATCH, TOKENS) < 0.5
    reference = torch.rand(BATCH, QUERIES, 2)
    other = torch.where(padding.unsqueeze(-1), torch.full_like(memory, 1e3), memory)
    assert torch.equal(
        module(query, reference, memory, SHAPES, padding), module(query, reference, other, SHAPES, padding)
    )


def test_untrained_heads_look_in_different_directions_and_points_ever_further() -> None:
    module = DeformableAttention(DIM, HEADS, len(SHAPES), POINTS)
    offsets = module.sampling_offsets.bias.view(HEADS, len(SHAPES), POINTS, 2)
    assert torch.equal(offsets[0, 0], torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    torch.testing.assert_close(offsets[1, 0], torch.tensor([[-1.0, 0.0], [-2.0, 0.0]]))


def test_sampling_stays_in_full_precision_under_autocast() -> None:
    module = make_module()
    seen = []
    query, memory = torch.randn(1, QUERIES, DIM), torch.randn(1, TOKENS, DIM)
    original = module._sampling_locations
    module._sampling_locations = lambda *args: (seen.append(original(*args)), seen[-1])[1]  # type: ignore[method-assign]
    with torch.autocast("cpu", torch.bfloat16):
        module(query, torch.rand(1, QUERIES, 4), memory, SHAPES, None)
    assert seen[0].dtype == torch.float32
