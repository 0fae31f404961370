"""Query selection, box refinement, and branches that do not attend to each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from mrqm.models.decoder import CANDIDATES_PER_QUERY, Decoder, QuerySelection
from mrqm.models.queries import QueryBranch
from mrqm.ops.boxes import apply_deltas, to_xyxy

DIM, TOKENS, CLASSES = 16, 340, 3


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(2, TOKENS, DIM, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(DIM, 2, 4, 2, 32, num_layers=3, num_classes=CLASSES)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


def random_branch(queries: int, seed: int, attn_mask: Tensor | None = None) -> QueryBranch:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(2, queries, 4, generator=generator) * 0.3 + 0.2
    return QueryBranch(torch.randn(2, queries, DIM, generator=generator), boxes, attn_mask)


@pytest.mark.parametrize("padded", [False, True])
def test_the_best_scored_tokens_become_queries(padded: bool, memory: Tensor, make_grid: Any) -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, :, 32:] = padded
    grid = make_grid(batch=2, masks=masks)
    selection = QuerySelection(DIM, CLASSES, 10, 4.0, None)
    branch, outputs = selection(memory, grid)
    scores = outputs["token_logits"].amax(-1).masked_fill(grid.key_padding_mask, float("-inf"))
    for image in range(2):
        best = scores[image].argsort(descending=True)[:10]
        assert torch.equal(outputs["pred_logits"][image], outputs["token_logits"][image, best])
        torch.testing.assert_close(branch.reference_boxes[image, :, :2], grid.centers[image, best])


def test_distinct_tokens_come_before_those_that_repeat_a_better_one(memory: Tensor, make_grid: Any) -> None:
    grid, queries, limit = make_grid(batch=2), 30, 0.3
    selection = QuerySelection(DIM, CLASSES, queries, 4.0, limit)
    _, outputs = selection(memory, grid)
    everything = QuerySelection(DIM, CLASSES, TOKENS, 4.0, None)
    everything.load_state_dict({**selection.state_dict(), "content.weight": everything.content.weight})
    _, ranked = everything(memory, grid)
    for image in range(2):
        distinct: list[int] = []
        boxes = to_xyxy(ranked["pred_boxes"][image, : queries * CANDIDATES_PER_QUERY])
        for index, box in enumerate(boxes):
            if not distinct or box_iou(box[None], boxes[distinct]).max() <= limit:
                distinct.append(index)
        repeated = [index for index in range(len(boxes)) if index not in distinct]
        assert distinct != list(range(len(distinct)))
        expected = ranked["pred_logits"][image, (distinct + repeated)[:queries]]
        torch.testing.assert_close(outputs["pred_logits"][image], expected)


def test_untrained_proposals_are_squares_around_their_tokens(memory: Tensor, make_grid: Any) -> None:
    grid = make_grid(batch=2)
    _, outputs = QuerySelection(DIM, CLASSES, TOKENS, 4.0, None)(memory, grid)
    sides = outputs["pred_boxes"][..., 2:]
    assert torch.equal(sides[..., 0], sides[..., 1])
    assert sorted({round(side * 64) for side in sides.flatten().tolist()}) == [16, 32, 64, 128]


def test_queries_have_learned_content_and_detached_positions(memory: Tensor, make_grid: Any) -> None:
    selection = QuerySelection(DIM, CLASSES, 10, 4.0, None)
    branch, outputs = selection(memory, make_grid(batch=2))
    assert torch.equal(branch.content[0], selection.content.weight)
    assert torch.equal(branch.content[0], branch.content[1])
    assert not branch.reference_boxes.requires_grad and outputs["pred_boxes"].requires_grad


def test_branches_do_not_see_each_other(decoder: Decoder, memory: Tensor, make_grid: Any) -> None:
    grid, branches = make_grid(batch=2), [random_branch(n, n) for n in (5, 7, 3)]
    together = decoder(branches, memory, grid)
    for index, branch in enumerate(branches):
        (alone,) = decoder([branch], memory, grid)
        for name in ("pred_logits", "pred_boxes"):
            torch.testing.assert_close(together[index][name], alone[name], rtol=1e-4, atol=1e-5)


def test_queries_of_a_branch_see_each_other_unless_masked(decoder: Decoder, memory: Tensor, make_grid: Any) -> None:
    grid, group = make_grid(batch=2), torch.tensor([0, 0, 0, 1, 1])
    blocked = (group[:, None] != group).expand(2, -1, -1)
    for attn_mask, reached in ((None, [True] * 5), (blocked, [True] * 3 + [False] * 2)):
        branch = random_branch(5, 0, attn_mask)
        content = branch.content.clone()
        content[:, 0] += 1
        before, after = (
            decoder([b], memory, grid)[0]["pred_logits"] for b in (branch, replace(branch, content=content))
        )
        assert (before != after).any(-1).any(0).all(0).tolist() == reached


def test_boxes_are_refined_layer_by_layer(decoder: Decoder, memory: Tensor, make_grid: Any) -> None:
    deltas: list[Tensor] = []
    decoder.box_head.register_forward_hook(lambda module, inputs, output: deltas.append(output))
    branch = random_branch(5, 0)
    (outputs,) = decoder([branch], memory, make_grid(batch=2))
    box = branch.reference_boxes
    for delta, predicted in zip(deltas, outputs["pred_boxes"], strict=True):
        box = apply_deltas(delta, box)
        torch.testing.assert_close(predicted, box)


@pytest.mark.parametrize(
    ("layer", "reached"), [(0, [True, False, False]), (1, [True, True, False]), (2, [False, True, True])]
)
def test_a_layers_box_also_trains_the_layer_before_but_no_earlier_one(
    layer: int, reached: list[bool], decoder: Decoder, memory: Tensor, make_grid: Any
) -> None:
    """Look forward twice: gradients reach the deltas of this layer and of the one before."""
    deltas: list[Tensor] = []
    decoder.box_head.register_forward_hook(lambda module, inputs, output: deltas.append(output))
    (outputs,) = decoder([random_branch(5, 0)], memory, make_grid(batch=2))
    gradients = torch.autograd.grad(outputs["pred_boxes"][layer].sum(), deltas, allow_unused=True)
    assert [gradient is not None and bool(gradient.any()) for gradient in gradients] == reached
