"""Encoders: order of the updates, and their inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mrqm.models.encoder import EncoderLayer, FullEncoder, ScaleAwareBlock, ScaleAwareEncoder
from mrqm.models.layers import sine_embedding

LAYER = (16, 2, 4, 2, 32)  # D, heads, levels, points, ffn_dim
LOW, ALL = 16 * 16, 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(1, ALL, 16, generator=torch.Generator().manual_seed(0))


def watch(encoder: Any) -> list[tuple[int, Tensor, Tensor]]:
    """Record the number of queries, the keys before and the result of every layer, in order."""
    seen: list[tuple[int, Tensor, Tensor]] = []
    for module in encoder.modules():
        if isinstance(module, EncoderLayer):
            module.register_forward_hook(
                lambda layer, inputs, output: seen.append((inputs[0].shape[1], inputs[2], output))
            )
    return seen


@pytest.mark.parametrize(("blocks", "updates"), [(3, 2), (1, 6), (2, 1)])
def test_each_block_updates_high_levels_often_and_the_low_level_once(
    blocks: int, updates: int, memory: Tensor, make_grid: Any
) -> None:
    encoder = ScaleAwareEncoder(*LAYER, blocks=blocks, high_level_updates=updates)
    seen = watch(encoder)
    encoder(memory, make_grid())
    assert [queries for queries, _, _ in seen] == ([ALL - LOW] * updates + [LOW]) * blocks


def test_the_full_encoder_updates_every_token_in_every_layer(memory: Tensor, make_grid: Any) -> None:
    encoder = FullEncoder(*LAYER, num_layers=4)
    seen = watch(encoder)
    encoder(memory, make_grid())
    assert [queries for queries, _, _ in seen] == [ALL] * 4


def test_low_level_tokens_stay_until_the_end_of_the_block(memory: Tensor, make_grid: Any) -> None:
    block, grid = ScaleAwareBlock(3, *LAYER), make_grid()
    seen = watch(block)
    result = block(memory, torch.zeros_like(memory), grid)
    *high, low = seen
    for _, keys, _ in seen:
        assert torch.equal(keys[:, :LOW], memory[:, :LOW])
    for (_, keys, _), (_, _, before) in zip(seen[1:], seen[:-1], strict=True):
        assert torch.equal(keys[:, LOW:], before)  # each update looks at the one before
    assert torch.equal(result[:, LOW:], high[-1][2])
    assert torch.equal(result[:, :LOW], low[2])


def test_every_update_has_its_own_weights() -> None:
    encoder = ScaleAwareEncoder(*LAYER, blocks=3, high_level_updates=2)
    layers = [module for module in encoder.modules() if isinstance(module, EncoderLayer)]
    assert len(layers) == 9
    assert len({id(parameter) for layer in layers for parameter in layer.parameters()}) == 9 * len(
        list(layers[0].parameters())
    )


def test_positions_are_the_sine_of_the_place_plus_the_levels_embedding(make_grid: Any) -> None:
    encoder, grid = FullEncoder(*LAYER, num_layers=1), make_grid()
    levels = torch.tensor([0] * 256 + [1] * 64 + [2] * 16 + [3] * 4)
    expected = sine_embedding(grid.centers, 8) + encoder.level_embedding[levels]
    torch.testing.assert_close(encoder.position(grid), expected)


def test_a_layer_is_post_norm_attention_and_feed_forward(memory: Tensor, make_grid: Any) -> None:
    layer, grid, position = EncoderLayer(*LAYER), make_grid(), torch.randn(1, ALL, 16)
    part = slice(LOW, None)
    attended = layer.attention(
        memory[:, part] + position[:, part], grid.centers[:, part], memory, grid.spatial_shapes, None
    )
    middle = torch.nn.functional.layer_norm(memory[:, part] + attended, (16,))
    expected = torch.nn.functional.layer_norm(middle + layer.feed_forward.layers(middle), (16,))
    torch.testing.assert_close(layer(memory[:, part], part, memory, position, grid), expected)
