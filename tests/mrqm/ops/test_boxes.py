"""Box operations against torchvision and hand-made values."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from mrqm.ops.boxes import apply_deltas, coverage, paired_iou, to_cxcywh, to_xyxy


def random_boxes(count: int, seed: int) -> Tensor:
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.01


def test_conversions_are_torchvisions_and_undo_each_other() -> None:
    boxes = random_boxes(20, 0)
    assert torch.equal(to_xyxy(boxes), box_convert(boxes, "cxcywh", "xyxy"))
    torch.testing.assert_close(to_cxcywh(to_xyxy(boxes)), boxes)


def test_paired_iou_is_the_diagonal_of_torchvisions() -> None:
    a, b = random_boxes(50, 0), random_boxes(50, 1)
    iou, giou = paired_iou(a, b)
    torch.testing.assert_close(iou, box_iou(to_xyxy(a), to_xyxy(b)).diagonal())
    torch.testing.assert_close(giou, generalized_box_iou(to_xyxy(a), to_xyxy(b)).diagonal())


def test_paired_iou_broadcasts() -> None:
    a, b = random_boxes(5, 0), random_boxes(7, 1)
    torch.testing.assert_close(paired_iou(a[:, None], b)[0], box_iou(to_xyxy(a), to_xyxy(b)))


def test_boxes_without_area_have_finite_measures_and_gradients() -> None:
    a = torch.zeros(3, 4, requires_grad=True)
    iou, giou = paired_iou(a, torch.tensor([[0.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0.2, 0.2]]))
    (iou + giou).sum().backward()
    assert iou.isfinite().all() and giou.isfinite().all() and a.grad is not None and a.grad.isfinite().all()


def test_coverage_is_the_largest_share_that_one_region_covers() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2], [0.9, 0.9, 0.0, 0.0]])
    regions = to_cxcywh(torch.tensor([[0.4, 0.4, 0.5, 0.6], [0.4, 0.4, 0.45, 0.6], [0.0, 0.0, 0.2, 0.05]]))
    torch.testing.assert_close(coverage(boxes, regions), torch.tensor([0.5, 0.25, 0.0]))


def test_empty_regions_cover_nothing() -> None:
    assert coverage(random_boxes(3, 0), torch.zeros(2, 4)).max() == 0


def test_no_move_leaves_a_box() -> None:
    boxes = random_boxes(5, 0)
    assert torch.equal(apply_deltas(torch.zeros(5, 4), boxes), boxes)


def test_deltas_count_in_anchor_sides_and_logarithms() -> None:
    moved = apply_deltas(torch.tensor([0.5, -1.0, math.log(2), 0.0]), torch.tensor([0.4, 0.4, 0.2, 0.1]))
    torch.testing.assert_close(moved, torch.tensor([0.5, 0.3, 0.4, 0.1]))


def test_wild_deltas_stay_finite() -> None:
    assert apply_deltas(torch.full((4,), 1e4), torch.full((4,), 0.1)).isfinite().all()


def test_boxes_move_in_full_precision_under_autocast() -> None:
    anchor = torch.tensor([0.501, 0.499, 0.0101, 0.0099])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(apply_deltas(torch.zeros(4, dtype=torch.bfloat16), anchor), anchor)
