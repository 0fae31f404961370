"""Dense predictions and mined queries."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mrqm.models.iou_aware_head import IoUAwareHead
from mrqm.models.layers import sine_embedding
from mrqm.models.mining import AnchorMiner, IoUThreshold
from mrqm.ops.boxes import apply_deltas
from mrqm.structures.targets import IGNORE, batch_targets

DIM, CLASSES, TOKENS = 16, 3, 340


def make_head(max_queries: int = 20, refined: bool = False) -> IoUAwareHead:
    torch.manual_seed(0)
    miner = AnchorMiner(
        (2, 4), (1,), IoUThreshold(0.3, 0.15, 0.2, 144), refined=refined, max_positives=6, min_positives=1
    )
    return IoUAwareHead(DIM, CLASSES, miner, max_queries)


@pytest.fixture
def memory() -> torch.Tensor:
    return torch.randn(2, TOKENS, DIM, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def truth(random_target: Any) -> Any:
    return batch_targets([random_target(4), random_target(0)])


def test_untrained_boxes_are_the_anchors(memory: Any, truth: Any, make_grid: Any) -> None:
    predictions, *_ = make_head()(memory, make_grid(batch=2), truth)
    image, anchor = torch.tensor([0, 1]), torch.tensor([7, 600])
    torch.testing.assert_close(predictions.boxes_at(image, anchor), predictions.anchors.flatten(1, 2)[image, anchor])
    assert predictions.logits.shape == (2, TOKENS, 2, CLASSES)


def test_anchors_are_squares_of_their_scale_around_every_token(memory: Any, truth: Any, make_grid: Any) -> None:
    grid = make_grid(batch=2)
    predictions, *_ = make_head()(memory, grid, truth)
    px = predictions.anchors[0] * 64
    assert torch.equal(predictions.anchors[..., 0, :2], grid.centers)
    strides = torch.tensor([4.0] * 256 + [8.0] * 64 + [16.0] * 16 + [32.0] * 4)
    torch.testing.assert_close(px[:, :, 2], strides[:, None] * torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(px[:, :, 2], px[:, :, 3])


def test_mined_queries_are_equation_9(memory: Any, truth: Any, make_grid: Any) -> None:
    head, grid = make_head(), make_grid(batch=2)
    predictions, positives, branch, assignment = head(memory, grid, truth)
    anchors = predictions.anchors.flatten(1, 2)[0]
    queries = (assignment[0] >= 0).nonzero().flatten().tolist()
    assert len(queries) >= 4
    mined = set(zip(positives.object.tolist(), positives.anchor.tolist(), strict=True))
    for query in queries:
        box = branch.reference_boxes[0, query]
        anchor = (anchors.clamp(0, 1) - box).abs().sum(-1).argmin().item()
        assert (assignment[0, query].item(), anchor) in mined
        content = head.from_position(sine_embedding(box, DIM // 2)) + head.from_features(
            head.embedding(memory[0, anchor // 2])
        )
        torch.testing.assert_close(branch.content[0, query], content)


def test_padding_queries_are_unjudged_and_see_only_themselves(memory: Any, truth: Any, make_grid: Any) -> None:
    *_, branch, assignment = make_head()(memory, make_grid(batch=2), truth)
    padding = assignment == IGNORE
    assert padding[1].all() and torch.equal(branch.padding, padding)
    own = torch.eye(padding.shape[1], dtype=torch.bool)
    assert torch.equal(branch.allowed(), (~padding[:, None, :] | own)[:, None])


def test_queries_are_bounded(memory: Any, random_target: Any, make_grid: Any) -> None:
    truth = batch_targets([random_target(500), random_target(2)])
    *_, branch, assignment = make_head(max_queries=20)(memory, make_grid(batch=2), truth)
    assert branch.content.shape == (2, 20, DIM) and assignment.shape == (2, 20)


@pytest.mark.parametrize("refined", [False, True])
def test_refined_boxes_decide_where_the_config_says_so(
    refined: bool, memory: Any, make_target: Any, make_grid: Any
) -> None:
    head, grid = make_head(refined=refined), make_grid(batch=2)
    truth = batch_targets([make_target([(24, 24, 36, 34)]), make_target()])
    static = head.miner.mine(truth, grid, lambda image, anchor: head.miner.anchors(grid).flatten(1, 2)[image, anchor])
    with torch.no_grad():
        head.box_head[-1].bias.view(2, 4)[:, 2:] = 0.4  # every refined box is half as large again as its anchor
    predictions, found, _, _ = head(memory, grid, truth)
    anchors = predictions.anchors.flatten(1, 2)[0, found.anchor]
    boxes = apply_deltas(torch.tensor([0, 0, 0.4, 0.4]), anchors)
    torch.testing.assert_close(predictions.boxes_at(found.image, found.anchor), boxes)
    assert (set(found.anchor.tolist()) == set(static.anchor.tolist())) is not refined


def test_mining_passes_no_gradient_but_queries_do(memory: Any, truth: Any, make_grid: Any) -> None:
    _, positives, branch, _ = make_head(refined=True)(memory, make_grid(batch=2), truth)
    assert not positives.iou.requires_grad
    (gradient,) = torch.autograd.grad(branch.content.sum(), memory)
    assert gradient[0].any()
