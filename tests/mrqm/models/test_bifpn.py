"""Pyramid: fusion by hand, its passes, and padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mrqm.models.bifpn import BiFPN, BiFPNLayer, FastNormalizedFusion, Node

CHANNELS, DIM = (3, 5, 7, 9), 8


def features(channels: tuple[int, ...] = CHANNELS, size: int = 64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, c, size // s, size // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)]


def test_fusion_is_the_weighted_mean_of_positive_weights() -> None:
    fusion = FastNormalizedFusion(3, eps=0.5)
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor([1.0, -2.0, 3.0]))
    fused = fusion(*(torch.full((2,), value) for value in (10.0, 100.0, 20.0)))
    assert fused.tolist() == pytest.approx([(1 * 10 + 0 * 100 + 3 * 20) / (0.5 + 4)] * 2)


def test_equal_weights_give_the_mean() -> None:
    fused = FastNormalizedFusion(2)(torch.tensor([2.0]), torch.tensor([4.0]))
    assert fused.item() == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_every_level_keeps_its_size_and_gets_the_width(repeats: int) -> None:
    pyramid = BiFPN(CHANNELS, DIM, repeats)(features(), None)
    assert [tuple(level.shape) for level in pyramid] == [(2, DIM, s, s) for s in (16, 8, 4, 2)]


def test_without_repeats_only_the_lateral_projections_are_left() -> None:
    bifpn, inputs = BiFPN(CHANNELS, DIM, 0), features()
    for level, lateral, feature in zip(bifpn(inputs, None), bifpn.lateral, inputs, strict=True):
        torch.testing.assert_close(level, lateral(feature))


def test_a_layer_is_a_top_down_and_a_bottom_up_pass() -> None:
    layer, (p2, p3, p4, p5) = BiFPNLayer(DIM, 4), features((DIM,) * 4)
    up = lambda x: F.interpolate(x, scale_factor=2, mode="nearest")  # noqa: E731
    down = lambda x: F.max_pool2d(x, 2)  # noqa: E731
    m4 = layer.top_down[0](p4, up(p5), masks=None)
    m3 = layer.top_down[1](p3, up(m4), masks=None)
    m2 = layer.top_down[2](p2, up(m3), masks=None)
    o3 = layer.bottom_up[0](p3, m3, down(m2), masks=None)
    o4 = layer.bottom_up[1](p4, m4, down(o3), masks=None)
    o5 = layer.top(p5, down(o4), masks=None)
    for actual, expected in zip(layer([p2, p3, p4, p5], None), (m2, o3, o4, o5), strict=True):
        torch.testing.assert_close(actual, expected)


def test_every_level_reaches_every_other() -> None:
    bifpn, inputs = BiFPN(CHANNELS, DIM, 1), [feature.requires_grad_() for feature in features()]
    for level in bifpn(inputs, None):
        gradients = torch.autograd.grad((level * torch.randn_like(level)).sum(), inputs, retain_graph=True)
        assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_padding_is_zero_and_has_no_effect() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, 40:], masks[1, :, 21:] = True, True
    bifpn, inputs = BiFPN(CHANNELS, DIM, 2), features()
    padding = [masks[:, :: 64 // x.shape[-1], :: 64 // x.shape[-1]].unsqueeze(1) for x in inputs]
    dirty = [torch.where(p, torch.full_like(x, 1e3), x) for p, x in zip(padding, inputs, strict=True)]
    for clean, other, p in zip(bifpn(inputs, masks), bifpn(dirty, masks), padding, strict=True):
        assert torch.equal(clean, other)
        assert not clean[p.expand_as(clean)].any()


def test_a_nodes_convolution_sees_zeros_under_padding() -> None:
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[:, :, 40:] = True
    node, x = Node(DIM, 1), torch.randn(1, DIM, 16, 16)
    dirty = x.clone()
    dirty[..., 10:] = 1e3
    assert torch.equal(node(x, masks=masks), node(dirty, masks=masks))
