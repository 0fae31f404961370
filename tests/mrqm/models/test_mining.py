"""Mining against a reference that compares every anchor with every object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from mrqm.models.mining import CLAIMED_DISCOUNT, AnchorMiner, IoUThreshold, MinedPositives, query_positives
from mrqm.models.tokens import TokenGrid
from mrqm.ops.boxes import apply_deltas, paired_iou
from mrqm.structures.targets import IGNORE, batch_targets

EQUATION_8 = IoUThreshold(base_iou=0.55, growth=0.15, exponent=0.2, min_area=144.0)
LOW = replace(EQUATION_8, base_iou=0.3)


def make_miner(
    scales: tuple[float, ...] = (2, 4),
    ratios: tuple[float, ...] = (0.5, 1, 2),
    threshold: IoUThreshold = EQUATION_8,
    **changes: Any,
) -> AnchorMiner:
    counts = {"refined": False, "max_positives": 6, "min_positives": 1}
    return AnchorMiner(scales, ratios, threshold, **{**counts, **changes})


def no_refinement(image: Tensor, anchor: Tensor) -> Tensor:
    raise AssertionError("static anchors need no refined boxes")


def fake_refinement(miner: AnchorMiner, grid: TokenGrid) -> Callable[[Tensor, Tensor], Tensor]:
    anchors = miner.anchors(grid).flatten(1, 2)
    boxes = apply_deltas(torch.randn(anchors.shape, generator=torch.Generator().manual_seed(3)) * 0.15, anchors)
    return lambda image, anchor: boxes[image, anchor]


def naive_mine(
    miner: AnchorMiner,
    target: dict[str, Tensor],
    grid: TokenGrid,
    image: int,
    refined: Callable[[Tensor, Tensor], Tensor],
) -> set[tuple[int, int]]:
    """List (anchor, object) pairs by comparing all; a refined box counts where its anchor's cell is near."""
    anchors = miner.anchors(grid).flatten(1, 2)[image]
    index = torch.arange(len(anchors))
    alive = torch.ones(len(anchors), dtype=torch.bool)
    if grid.key_padding_mask is not None:
        alive = ~grid.key_padding_mask[image].repeat_interleave(miner.num_anchors)
    boxes = refined(torch.full_like(index, image), index) if miner.refined else anchors
    cells = grid.cell_sizes[image].repeat_interleave(miner.num_anchors, 0)
    wishes, anchor_ious = [], []
    for number, box in enumerate(target["boxes"]):
        offset = (anchors[:, :2] / cells).floor() - (box[:2] / cells).floor()
        near = (offset.abs() <= miner.reach).all(1) & alive
        anchor_ious.append(torch.where(near, paired_iou(anchors, box)[0], -1))
        iou = torch.where(near if miner.refined else alive, paired_iou(boxes, box)[0], -1)
        threshold = miner.threshold(box[2:] * target["size"].flip(0))
        wishes += [(-iou[a].item(), number, a) for a in (iou > threshold).nonzero().flatten().tolist()]
    owner: dict[int, tuple[float, int]] = {}
    for quality, number, anchor in sorted(wishes):
        owner.setdefault(anchor, (quality, number))
    found: set[tuple[int, int]] = set()
    for number in range(len(target["boxes"])):
        own = sorted((quality, anchor) for anchor, (quality, holder) in owner.items() if holder == number)
        found |= {(anchor, number) for _, anchor in own[: miner.max_positives]}
    claimed = {anchor for anchor, _ in found}
    for number, ious in enumerate(anchor_ious):
        have = {anchor for anchor, holder in found if holder == number}
        discount = torch.tensor([1 - CLAIMED_DISCOUNT * (a in claimed) for a in range(len(anchors))])
        best = [a for a in (ious * discount).argsort(descending=True, stable=True).tolist() if a not in have]
        found |= {(anchor, number) for anchor in best[: max(0, miner.min_positives - len(have))]}
    return found


def pairs(mined: MinedPositives, image: int) -> set[tuple[int, int]]:
    here = mined.image == image
    return set(zip(mined.anchor[here].tolist(), mined.object[here].tolist(), strict=True))


@pytest.mark.parametrize(("side", "expected"), [(8, 0.634), (16, 0.647), (32, 0.661), (96, 0.688)])
def test_dynamic_threshold_has_the_documented_values(side: int, expected: float) -> None:
    assert EQUATION_8(torch.tensor([side, side])).item() == pytest.approx(expected, abs=5e-4)


def test_dynamic_threshold_is_equation_8_for_boxes_that_are_not_square() -> None:
    by_hand = 0.55 + 0.15 * ((10 * 40) ** 0.5 / 144) ** 0.2
    assert EQUATION_8(torch.tensor([10.0, 40.0])).item() == pytest.approx(by_hand, abs=1e-6)


def test_fixed_threshold_is_the_base_for_every_size() -> None:
    sides = torch.tensor([[3.0, 3.0], [300.0, 300.0]])
    assert torch.equal(replace(EQUATION_8, dynamic=False)(sides), torch.tensor([0.55, 0.55]))


@pytest.mark.parametrize(("refined", "dynamic", "seed"), [*product([False, True], [False, True], range(4))])
def test_mining_equals_all_anchors_times_all_objects(
    refined: bool, dynamic: bool, seed: int, random_target: Any, make_grid: Any
) -> None:
    miner = make_miner(refined=refined, threshold=replace(EQUATION_8, dynamic=dynamic), min_positives=2)
    sizes = [(128, 160), (100, 77)]
    masks = torch.ones(2, 128, 160, dtype=torch.bool)
    for mask, (height, width) in zip(masks, sizes, strict=True):
        mask[:height, :width] = False
    grid = make_grid((128, 160), batch=2, masks=masks)
    targets = [random_target(12, seed + 10 * i, size, sides=(5, 60)) for i, size in enumerate(sizes)]
    refined_boxes = fake_refinement(miner, grid) if refined else no_refinement
    mined = miner.mine(batch_targets(targets), grid, refined_boxes)
    for image, target in enumerate(targets):
        assert pairs(mined, image) == naive_mine(miner, target, grid, image, refined_boxes)


def test_fixed_threshold_finds_more_than_the_dynamic_one(random_target: Any, make_grid: Any) -> None:
    targets, grid = batch_targets([random_target(20, size=(128, 128))]), make_grid((128, 128))
    fixed, dynamic = (
        make_miner(threshold=replace(EQUATION_8, dynamic=d), max_positives=50).mine(targets, grid, no_refinement)
        for d in (False, True)
    )
    assert len(fixed.anchor) > len(dynamic.anchor)


def test_positives_of_an_object_are_at_most_the_ratio_and_the_best_come_first(make_target: Any, make_grid: Any) -> None:
    targets, grid = batch_targets([make_target([(20, 20, 36, 36)])]), make_grid()
    many = make_miner(threshold=LOW, max_positives=100).mine(targets, grid, no_refinement)
    few = make_miner(threshold=LOW, max_positives=3).mine(targets, grid, no_refinement)
    assert len(many.iou) > 3
    assert sorted(few.iou.tolist()) == sorted(many.iou.tolist())[-3:]
    assert few.iou[few.rank.argsort()].tolist() == sorted(few.iou.tolist(), reverse=True)


def test_every_object_has_its_least_number_of_positives(random_target: Any, make_grid: Any) -> None:
    targets = batch_targets([random_target(2000, size=(800, 800), sides=(2, 300))])
    mined = make_miner(ratios=(1,), min_positives=2).mine(targets, make_grid((800, 800)), no_refinement)
    assert torch.bincount(mined.object, minlength=2000).min() >= 2


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (0, 0, 0.5, 0.5), (63.5, 63.5, 64, 64), (0, 30, 64, 31)])
def test_objects_of_any_size_and_place_have_a_positive(
    box: tuple[float, ...], make_target: Any, make_grid: Any
) -> None:
    assert len(make_miner().mine(batch_targets([make_target([box])]), make_grid(), no_refinement).anchor) >= 1


def test_images_without_objects_have_no_positives(make_target: Any, make_grid: Any) -> None:
    targets = batch_targets([make_target(), make_target([(20, 20, 36, 36)]), make_target()])
    mined = make_miner().mine(targets, make_grid(batch=3), no_refinement)
    assert set(mined.image.tolist()) == {1}
    nothing = make_miner().mine(batch_targets([make_target(), make_target()]), make_grid(batch=2), no_refinement)
    anchor, assignment = query_positives(nothing, 2, 10)
    assert len(nothing.anchor) == 0
    assert anchor.tolist() == [[0], [0]] and assignment.tolist() == [[IGNORE], [IGNORE]]


def test_an_anchor_answers_above_the_threshold_for_the_object_it_overlaps_most(
    make_target: Any, make_grid: Any
) -> None:
    target = make_target([(20, 20, 36, 36), (21, 21, 37, 37)])
    mined = make_miner(threshold=LOW).mine(batch_targets([target]), make_grid(), no_refinement)
    assert len(mined.anchor.unique()) == len(mined.anchor)


def test_the_furthest_anchor_that_can_pass_is_considered(make_target: Any, make_grid: Any) -> None:
    """A long object, as wide as the anchor: its ends lie as far from its center as the least IoU allows."""
    miner = make_miner(scales=(4,), ratios=(1,), threshold=replace(LOW, dynamic=False), max_positives=100)
    x, y, length = 12.9 * 4, 8.5 * 4, 16 / 0.303
    target = make_target([(x - length / 2, y - 8, x + length / 2, y + 8)], size=(128, 128))
    grid = make_grid((128, 128))
    mined = miner.mine(batch_targets([target]), grid, no_refinement)
    assert pairs(mined, 0) == naive_mine(miner, target, grid, 0, no_refinement)
    furthest = mined.anchor[mined.anchor < 32 * 32] % 32
    assert furthest.max() == 12 + miner.reach


def test_padding_is_never_mined(make_target: Any, make_grid: Any) -> None:
    masks = torch.ones(1, 128, 128, dtype=torch.bool)
    masks[:, :50, :50] = False
    grid = make_grid((128, 128), masks=masks)
    target = make_target([(34, 34, 50, 50), (0, 40, 50, 50)], size=(50, 50))
    every = make_miner(min_positives=1000, max_positives=1000)
    mined = every.mine(batch_targets([target]), grid, no_refinement)
    assert len(mined.anchor) > 500
    assert not grid.key_padding_mask[0, mined.anchor // every.num_anchors].any()


def test_work_per_object_does_not_grow_with_the_image(make_target: Any, make_grid: Any) -> None:
    seen: list[torch.Size] = []
    for size in ((128, 128), (1024, 1024)):
        miner, grid = make_miner(refined=True), make_grid(size)
        anchors = miner.anchors(grid).flatten(1, 2)
        asked = lambda image, anchor, all_=anchors: (seen.append(anchor.shape), all_[image, anchor])[1]  # noqa: E731
        miner.mine(batch_targets([make_target([(60, 60, 76, 76)] * 3, size=size)]), grid, asked)
    assert seen[0] == seen[1]


def test_mined_queries_are_balanced_over_objects(random_target: Any, make_grid: Any) -> None:
    mined = make_miner(min_positives=4).mine(
        batch_targets([random_target(10, size=(256, 256))]), make_grid((256, 256)), no_refinement
    )
    _, assignment = query_positives(mined, 1, 25)
    counts = torch.bincount(assignment[0], minlength=10)
    assert counts.sum() == 25
    assert counts.min() >= 2 and counts.max() <= 3


def test_mined_queries_keep_each_objects_best(make_target: Any, make_grid: Any) -> None:
    targets = batch_targets([make_target([(10, 10, 26, 26), (40, 40, 56, 56)])])
    mined = make_miner(threshold=LOW).mine(targets, make_grid(), no_refinement)
    anchor, assignment = query_positives(mined, 1, 2)
    best = {int(o): int(a) for o, a in zip(mined.object[mined.rank == 0], mined.anchor[mined.rank == 0], strict=True)}
    assert dict(zip(assignment[0].tolist(), anchor[0].tolist(), strict=True)) == best


def test_mined_queries_are_bounded_and_padding_is_unjudged(
    random_target: Any, make_target: Any, make_grid: Any
) -> None:
    targets = batch_targets([random_target(2000, size=(256, 256)), make_target([(9, 9, 25, 25)], size=(256, 256))])
    mined = make_miner(ratios=(1,)).mine(targets, make_grid((256, 256), batch=2), no_refinement)
    anchor, assignment = query_positives(mined, 2, 300)
    assert anchor.shape == assignment.shape == (2, 300)
    assert (assignment[0] >= 0).all()
    own = int((mined.image == 1).sum())
    assert (assignment[1, :own] == 0).all() and (assignment[1, own:] == IGNORE).all()
