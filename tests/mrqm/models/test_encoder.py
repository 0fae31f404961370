"""Encoders: order of the updates, and their inputs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mrqm.config import ModelConfig
from mrqm.models.encoder import EncoderLayer, FullEncoder, ScaleAwareEncoder, build_encoder
from mrqm.models.layers import sine_embedding

LAYER = (16, 2, 4, 2, 32)  # D, heads, levels, points, ffn_dim
LOW, ALL = 16 * 16, 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(1, ALL, 16, generator=torch.Generator().manual_seed(0))


def make_encoder(**refinement: Any) -> ScaleAwareEncoder:
    sizes = {"hidden_dim": 16, "num_heads": 2, "num_points": 2, "ffn_dim": 32}
    encoder = build_encoder(ModelConfig.model_validate({**sizes, "refinement": refinement}))
    assert isinstance(encoder, ScaleAwareEncoder)
    return encoder


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
    encoder = make_encoder(blocks=blocks, high_level_updates=updates)
    seen = watch(encoder)
    encoder(memory, make_grid())
    assert [queries for queries, _, _ in seen] == ([ALL - LOW] * updates + [LOW]) * blocks


def test_the_full_encoder_updates_every_token_in_every_layer(memory: Tensor, make_grid: Any) -> None:
    encoder = FullEncoder(*LAYER, num_layers=4)
    seen = watch(encoder)
    encoder(memory, make_grid())
    assert [queries for queries, _, _ in seen] == [ALL] * 4


def test_low_level_tokens_stay_until_the_end_of_the_block(memory: Tensor, make_grid: Any) -> None:
    block, grid = make_encoder(blocks=1, high_level_updates=3).blocks[0], make_grid()
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
    encoder = make_encoder(blocks=3, high_level_updates=2)
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


def test_only_the_most_salient_tokens_of_f2_are_updated(memory: Tensor, make_grid: Any) -> None:
    encoder, grid = make_encoder(blocks=1, high_level_updates=1, low_level_share=0.25), make_grid()
    assert encoder.salience is not None
    encoder.salience.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    scores = (memory[0, :LOW] @ encoder.salience.weight[0]).detach()
    salient = torch.zeros(LOW, dtype=torch.bool)
    salient[scores.argsort(descending=True)[: LOW // 4]] = True
    result = encoder(memory, grid)[0, :LOW]
    assert torch.equal((result != memory[0, :LOW]).any(-1), salient)


def test_a_share_of_nearly_all_tokens_gives_nearly_what_all_give(memory: Tensor, make_grid: Any) -> None:
    """The chosen tokens are updated as if all were."""
    whole = make_encoder(blocks=1, high_level_updates=1)
    part = make_encoder(blocks=1, high_level_updates=1, low_level_share=0.5)
    assert part.salience is not None
    part.load_state_dict(whole.state_dict() | {f"salience.{name}": p for name, p in part.salience.named_parameters()})
    expected, found = whole(memory, make_grid()), part(memory, make_grid())
    chosen = part.salience.select(memory, make_grid()).index[0]
    torch.testing.assert_close(found[0, chosen], expected[0, chosen])
    torch.testing.assert_close(found[0, LOW:], expected[0, LOW:])


def test_an_image_refines_a_share_of_its_own_tokens_whatever_it_is_padded_to(memory: Tensor, make_grid: Any) -> None:
    encoder, grid = make_encoder(low_level_share=0.3), make_grid(batch=2)
    assert encoder.salience is not None
    padding = torch.zeros(2, ALL, dtype=torch.bool)
    padding[1, 64:LOW] = True
    refined = encoder.salience.select(memory.expand(2, -1, -1), dataclasses.replace(grid, key_padding_mask=padding))
    assert refined.chosen.sum(1).tolist() == [math.ceil(0.3 * LOW), math.ceil(0.3 * 64)]
    assert (refined.index[1][refined.chosen[1]] < 64).all()


def test_the_update_of_f2_may_have_a_narrower_feed_forward() -> None:
    encoder = make_encoder(blocks=2, high_level_updates=1, low_level_ffn_dim=8)
    widths = [[layer.feed_forward.layers[0].out_features for layer in (*block.high_level, block.low_level)]
              for block in encoder.blocks]  # fmt: skip
    assert widths == [[32, 8]] * 2
