"""Non-maximum suppression against torchvision, in a batch and in an exported program."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mrqm.ops.nms import suppress


def boxes_and_scores(batch: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(batch, count, 2, generator=generator) * 20
    sides = 2 + torch.rand(batch, count, 2, generator=generator) * 8
    groups = torch.randint(0, 3, (batch, count), generator=generator)
    return torch.cat([corners, corners + sides], -1), torch.rand(batch, count, generator=generator), groups


def test_each_image_is_suppressed_as_torchvision_does_by_group() -> None:
    boxes, scores, groups = boxes_and_scores(3, 60)
    kept = suppress(boxes, scores, groups, 3, 0.4)
    for image in range(3):
        expected = batched_nms(boxes[image], scores[image], groups[image], 0.4)
        assert kept[image].nonzero().flatten().tolist() == sorted(expected.tolist())
    assert 0 < kept.sum() < kept.numel()


def test_it_is_exported_as_one_operator_of_known_shape() -> None:
    class Suppress(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
            return suppress(boxes, scores, groups, 3, 0.4)

    shapes = ({0: torch.export.Dim("batch", min=1)},) * 3
    program = torch.export.export(Suppress(), boxes_and_scores(2, 60), dynamic_shapes=shapes)
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.mrqm.suppress.default in calls
    other = boxes_and_scores(5, 60)
    assert torch.equal(program.module()(*other), suppress(*other, 3, 0.4))
