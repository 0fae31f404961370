"""The criterion against naive formulas, and what must cost nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss

from mrqm.boxes import paired_iou
from mrqm.config import LossConfig
from mrqm.criterion import Criterion, build_criterion, ignored_tokens, total_loss
from mrqm.matcher import HungarianMatcher
from mrqm.mining import MinedPositives
from mrqm.models.iou_aware_head import DensePredictions
from mrqm.targets import UNJUDGED, batch_targets

BATCH, QUERIES, CLASSES, LAYERS, ANCHORS = 2, 8, 3, 2, 2
FAR = (48, 48, 64, 64)
"""An ignored region far from the objects of these tests."""


def xyxy(boxes: Tensor) -> Tensor:
    return box_convert(boxes, "cxcywh", "xyxy")


def make_criterion(quality_focal: bool = True, mined_encoder: bool = False) -> Criterion:
    return Criterion(HungarianMatcher(2.0, 5.0, 2.0), quality_focal=quality_focal, mined_encoder=mined_encoder)


def random_outputs(grid: Any, seed: int = 0) -> dict[str, Any]:
    """What the model returns without training branches; boxes lie in the upper left quarter."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(LAYERS + 1, BATCH, QUERIES, 4, generator=generator) * 0.2 + 0.1
    logits = torch.randn(LAYERS + 1, BATCH, QUERIES, CLASSES, generator=generator)
    return {
        "grid": grid,
        "aux_outputs": {"pred_logits": logits[:LAYERS], "pred_boxes": boxes[:LAYERS]},
        "encoder_outputs": {"pred_logits": logits[LAYERS], "pred_boxes": boxes[LAYERS]},
    }


def random_dense(grid: Any, positives: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Dense predictions of which (image, anchor, object) answer for objects."""
    generator = torch.Generator().manual_seed(5)
    tokens = grid.centers.shape[1]
    sides = (grid.cell_sizes.unsqueeze(2) * 4).expand(-1, -1, ANCHORS, -1)
    anchors = torch.cat([grid.centers.unsqueeze(2).expand_as(sides), sides], -1)
    predictions = DensePredictions(
        logits=torch.randn(BATCH, tokens, ANCHORS, CLASSES, generator=generator),
        deltas=torch.randn(BATCH, tokens, ANCHORS, 4, generator=generator) * 0.1,
        anchors=anchors,
    )
    image, anchor, object_ = torch.tensor(positives).reshape(-1, 3).T
    count = len(positives)
    return {
        "predictions": predictions,
        "positives": MinedPositives(image, anchor, object_, torch.ones(count), torch.zeros(count).long()),
    }


def naive_classification(logits: Tensor, labels: Tensor, quality: Tensor, quality_focal: bool) -> float:
    """Summed over (…, K); labels -1 are background."""
    total = 0.0
    for row, label, iou in zip(logits.flatten(0, -2), labels.flatten(), quality.flatten(), strict=True):
        for k, logit in enumerate(row):
            p, positive = torch.sigmoid(logit), label == k
            if quality_focal:
                y = iou if positive else torch.tensor(0.0)
                total += -((y - p).abs() ** 2) * (y * p.log() + (1 - y) * (1 - p).log())
            else:
                total += -0.25 * (1 - p) ** 2 * p.log() if positive else -0.75 * p**2 * (1 - p).log()
    return float(total)


@pytest.fixture
def grid(make_grid: Any) -> Any:
    return make_grid(batch=BATCH)


@pytest.fixture
def targets(make_target: Any) -> list[dict[str, Tensor]]:
    return [make_target([(4, 5, 20, 18), (10, 10, 30, 28)], [0, 2]), make_target([(8, 2, 20, 24)], [1])]


@pytest.mark.parametrize("quality_focal", [False, True])
def test_main_losses_equal_their_definitions(quality_focal: bool, grid: Any, targets: Any) -> None:
    outputs, criterion = random_outputs(grid), make_criterion(quality_focal)
    losses = criterion(outputs, targets)
    for layer, suffix in enumerate(["_0", ""]):
        logits, boxes = (outputs["aux_outputs"][name][layer] for name in ("pred_logits", "pred_boxes"))
        assignment = criterion.matcher(logits[None], boxes[None], batch_targets(targets))[0]
        labels, quality = torch.full((BATCH, QUERIES), -1), torch.zeros(BATCH, QUERIES)
        l1 = giou = torch.tensor(0.0)
        for image, query in (assignment >= 0).nonzero().tolist():
            object_ = assignment[image, query]
            box, truth = boxes[image, query], targets[image]["boxes"][object_]
            labels[image, query] = targets[image]["labels"][object_]
            quality[image, query] = paired_iou(box, truth)[0]
            l1 = l1 + (box - truth).abs().sum()
            giou = giou + generalized_box_iou_loss(xyxy(box), xyxy(truth), reduction="sum")
        expected = naive_classification(logits, labels, quality, quality_focal)
        assert losses[f"loss_class{suffix}"].item() == pytest.approx(expected / 3, rel=1e-4)
        assert losses[f"loss_bbox{suffix}"].item() == pytest.approx(l1.item() / 3, rel=1e-4)
        assert losses[f"loss_giou{suffix}"].item() == pytest.approx(giou.item() / 3, rel=1e-4)


@pytest.mark.parametrize("quality_focal", [False, True])
def test_dense_and_token_losses_equal_their_definitions(quality_focal: bool, grid: Any, targets: Any) -> None:
    chosen = [(0, 10, 0), (0, 37, 1), (1, 5, 0)]
    outputs = random_outputs(grid)
    outputs["dense_outputs"] = dense = random_dense(grid, chosen)
    token_logits = torch.randn(BATCH, grid.centers.shape[1], CLASSES)
    outputs["encoder_outputs"] |= {"token_logits": token_logits, "mined_boxes": torch.rand(3, 4) * 0.2 + 0.1}
    losses = make_criterion(quality_focal, mined_encoder=True)(outputs, targets)

    predictions = dense["predictions"]
    boxes = torch.stack([predictions.boxes_at(torch.tensor(i), torch.tensor(a)) for i, a, _ in chosen])
    truth = torch.stack([targets[i]["boxes"][o] for i, _, o in chosen])
    cases = [
        ("dense", predictions.logits.flatten(1, 2), boxes, 1),
        ("enc", token_logits, outputs["encoder_outputs"]["mined_boxes"], ANCHORS),
    ]
    for name, logits, found, shapes in cases:
        labels, quality = torch.full(logits.shape[:2], -1), torch.zeros(logits.shape[:2])
        for (image, anchor, object_), box in zip(chosen, found, strict=True):
            labels[image, anchor // shapes] = targets[image]["labels"][object_]
            quality[image, anchor // shapes] = paired_iou(box, targets[image]["boxes"][object_])[0]
        expected = naive_classification(logits, labels, quality, quality_focal) / 3
        giou = generalized_box_iou_loss(xyxy(found), xyxy(truth), reduction="sum").item() / 3
        assert losses[f"loss_class_{name}"].item() == pytest.approx(expected, rel=1e-4)
        assert losses[f"loss_bbox_{name}"].item() == pytest.approx((found - truth).abs().sum().item() / 3, rel=1e-4)
        assert losses[f"loss_giou_{name}"].item() == pytest.approx(giou, rel=1e-4)


def with_ignored(targets: list[dict[str, Tensor]], regions: list[tuple[float, ...]]) -> list[dict[str, Tensor]]:
    left, top, right, bottom = torch.tensor(regions).float().unbind(1)
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1) / 64
    return [{**target, "ignore_boxes": boxes} for target in targets]


def test_an_ignored_region_far_away_changes_no_query_loss(grid: Any, targets: Any) -> None:
    outputs, criterion = random_outputs(grid), make_criterion()
    plain, ignored = criterion(outputs, targets), criterion(outputs, with_ignored(targets, [FAR]))
    torch.testing.assert_close(plain, ignored)


@pytest.mark.parametrize("quality_focal", [False, True])
def test_only_matched_queries_cost_anything_inside_an_ignored_region(
    quality_focal: bool, grid: Any, targets: Any
) -> None:
    outputs, criterion = random_outputs(grid), make_criterion(quality_focal)
    plain = criterion(outputs, targets)
    ignored = criterion(outputs, with_ignored(targets, [(0, 0, 64, 64)]))
    logits, boxes = outputs["aux_outputs"]["pred_logits"][-1:], outputs["aux_outputs"]["pred_boxes"][-1:]
    background = criterion.matcher(logits, boxes, batch_targets(targets)) < 0
    saved = logits[background]
    cost = naive_classification(saved, torch.full((len(saved),), -1), torch.zeros(len(saved)), quality_focal) / 3
    assert ignored["loss_class"].item() == pytest.approx(plain["loss_class"].item() - cost, rel=1e-4)
    assert ignored["loss_class"] > 0
    for name in ("loss_bbox", "loss_giou", "loss_bbox_enc", "loss_giou_enc"):
        assert ignored[name] == plain[name]


def test_only_positives_get_a_dense_gradient_inside_an_ignored_region(grid: Any, targets: Any) -> None:
    outputs, inside = random_outputs(grid), (grid.centers * 64 >= 48).all(-1)
    positive = int(inside[0].nonzero()[0])
    outputs["dense_outputs"] = random_dense(grid, [(0, positive * ANCHORS + 1, 0)])
    token_logits = torch.randn(BATCH, grid.centers.shape[1], CLASSES).requires_grad_()
    outputs["encoder_outputs"] |= {"token_logits": token_logits, "mined_boxes": torch.rand(1, 4)}
    logits = outputs["dense_outputs"]["predictions"].logits.requires_grad_()
    losses = make_criterion(mined_encoder=True)(outputs, with_ignored(targets, [FAR]))
    (losses["loss_class_dense"] + losses["loss_class_enc"]).backward()
    judged = (~inside).unsqueeze(-1).repeat(1, 1, ANCHORS)
    judged[0, positive, 1] = True
    assert torch.equal((logits.grad != 0).all(-1), judged)
    assert torch.equal((token_logits.grad != 0).all(-1), judged.any(-1))


def test_ignored_tokens_are_those_with_their_center_inside(grid: Any, targets: Any) -> None:
    regions = [(3, 7, 30, 21), (40.5, 0, 64, 64), (10, 10, 10, 10)]
    expected = torch.zeros(grid.centers.shape[:2], dtype=torch.bool)
    for left, top, right, bottom in regions:
        x, y = (grid.centers * 64).unbind(-1)
        expected |= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    assert torch.equal(ignored_tokens(grid, batch_targets(with_ignored(targets, regions))), expected)


def test_padding_costs_nothing_in_the_dense_losses(make_grid: Any, targets: Any) -> None:
    masks = torch.zeros(BATCH, 64, 64, dtype=torch.bool)
    masks[1, :, 40:] = True
    grid = make_grid(batch=BATCH, masks=masks)
    outputs = random_outputs(grid)
    outputs["dense_outputs"] = random_dense(grid, [(0, 10, 0)])
    logits = outputs["dense_outputs"]["predictions"].logits.requires_grad_()
    make_criterion()(outputs, targets)["loss_class_dense"].backward()
    assert torch.equal((logits.grad == 0).all(-1).all(-1), grid.key_padding_mask)


@pytest.mark.parametrize("name", ["denoising_outputs", "mined_outputs"])
def test_padding_queries_cost_nothing(name: str, grid: Any, targets: Any) -> None:
    assignment = torch.tensor([[0, 1, UNJUDGED, UNJUDGED], [0, UNJUDGED, UNJUDGED, UNJUDGED]])
    logits = torch.randn(LAYERS, BATCH, 4, CLASSES).requires_grad_()
    boxes = (torch.rand(LAYERS, BATCH, 4, 4) * 0.2 + 0.1).requires_grad_()
    outputs = random_outputs(grid)
    outputs[name] = {"pred_logits": logits, "pred_boxes": boxes, "assignment": assignment}
    losses = make_criterion()(outputs, targets)
    suffix = {"denoising_outputs": "_dn", "mined_outputs": "_mined"}[name]
    sum(losses[f"loss_{kind}{suffix}"] for kind in ("class", "bbox", "giou")).backward()
    for gradient in (logits.grad, boxes.grad):
        assert torch.equal((gradient != 0).any(-1), (assignment >= 0).expand(LAYERS, -1, -1))


def test_mined_queries_answer_for_the_object_they_know(grid: Any, targets: Any) -> None:
    """Eq. 10: no matching, although the boxes would match the other way round."""
    boxes = targets[0]["boxes"].flip(0).expand(LAYERS, BATCH, 2, 4)
    assignment = torch.tensor([[0, 1], [UNJUDGED, UNJUDGED]])
    outputs = random_outputs(grid)
    outputs["mined_outputs"] = {
        "pred_logits": torch.zeros(LAYERS, BATCH, 2, CLASSES), "pred_boxes": boxes, "assignment": assignment
    }  # fmt: skip
    distance = (targets[0]["boxes"][0] - targets[0]["boxes"][1]).abs().sum().item()
    assert make_criterion()(outputs, targets)["loss_bbox_mined"].item() == pytest.approx(LAYERS * distance, rel=1e-5)


def test_a_batch_without_objects_has_finite_losses(grid: Any, make_target: Any) -> None:
    losses = make_criterion()(random_outputs(grid), [make_target(), make_target()])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_bbox"] == losses["loss_giou"] == 0 and losses["loss_class"] > 0


def test_total_weighs_each_loss() -> None:
    config = LossConfig.model_validate(
        {"weights": {"classification": 2, "bbox": 3, "giou": 5}, "one_to_many": {"loss_weight": 7}}
    )
    one = torch.tensor(1.0)
    for name, weight in [("loss_class", 2), ("loss_bbox_0", 3), ("loss_giou_enc", 5), ("loss_bbox_mined", 21),
                         ("loss_class_dense", 14), ("loss_giou_dn", 5)]:  # fmt: skip
        assert total_loss({name: one}, config) == weight


def test_config_chooses_the_classification_loss() -> None:
    assert not build_criterion(LossConfig(classification="focal")).quality_focal
    assert build_criterion(LossConfig(encoder_supervision="mined")).mined_encoder
