"""Criterion against naive formulas, and predictions without loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mrqm.config import LossConfig
from mrqm.losses.classification import CLASSIFICATION_LOSSES
from mrqm.losses.criterion import Criterion, build_criterion, total_loss
from mrqm.losses.ignored_regions import ignored_tokens
from mrqm.losses.matcher import HungarianMatcher
from mrqm.models.iou_aware_head import DensePredictions
from mrqm.models.mining import MinedPositives
from mrqm.structures.targets import BACKGROUND, IGNORE, batch_targets

from .naive_losses import NAIVE_CLASSIFICATION, box_losses, focal, iou_and_giou, refined_box

BATCH, QUERIES, CLASSES, LAYERS, ANCHORS = 2, 8, 3, 2, 2
FAR = (48, 48, 64, 64)
"""An ignored region far from the objects of these tests."""


Answers = dict[int, tuple[int, float]]
"""Label and IoU of each prediction that answers for an object."""


def make_criterion(name: str = "quality_focal", mined_encoder: bool = False) -> Criterion:
    loss = CLASSIFICATION_LOSSES[name]
    return Criterion(HungarianMatcher(2.0, 5.0, 2.0), loss, mined_encoder=mined_encoder)


def random_outputs(grid: Any, seed: int = 0) -> dict[str, Any]:
    """Draw outputs of the model without training branches; boxes lie in the upper left quarter."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(LAYERS + 1, BATCH, QUERIES, 4, generator=generator) * 0.2 + 0.1
    logits = torch.randn(LAYERS + 1, BATCH, QUERIES, CLASSES, generator=generator)
    return {
        "grid": grid,
        "aux_outputs": {"pred_logits": logits[:LAYERS], "pred_boxes": boxes[:LAYERS]},
        "encoder_outputs": {"pred_logits": logits[LAYERS], "pred_boxes": boxes[LAYERS]},
    }


def random_dense(grid: Any, positives: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Draw dense predictions, with the given (image, anchor, object) as positives."""
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


def predictions_cost(name: str, logits: Tensor, answers: Answers) -> Tensor:
    """Sum the naive classification loss of predictions (Q, K)."""
    total = logits.new_zeros(())
    for prediction, row in enumerate(logits):
        label, iou = answers.get(prediction, (-1, 0.0))
        for k, logit in enumerate(row):
            total = total + NAIVE_CLASSIFICATION[name](logit, iou if k == label else None)
    return total


def naive_losses(name: str, logits: Tensor, boxes: dict[int, Tensor], answers: dict[int, int], truth: Any) -> Tensor:
    """Compute the naive classification, L1 and GIoU loss (3,) of one image's predictions."""
    pairs = {prediction: (boxes[prediction], truth["boxes"][object_]) for prediction, object_ in answers.items()}
    quality = {
        prediction: (int(truth["labels"][answers[prediction]]), iou_and_giou(list(box), list(object_box))[0].item())
        for prediction, (box, object_box) in pairs.items()
    }
    distances = [torch.stack(box_losses(box, object_box)) for box, object_box in pairs.values()]
    localisation = torch.stack(distances).sum(0) if distances else logits.new_zeros(2)
    return torch.cat([predictions_cost(name, logits, quality).view(1), localisation])


def assert_same_losses_and_gradients(
    found: dict[str, Tensor], expected: dict[str, Tensor], leaves: list[Tensor]
) -> None:
    assert found.keys() == expected.keys()
    for name, naive in expected.items():
        torch.testing.assert_close(
            found[name], naive, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
        gradients = [
            torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True)
            for loss in (found[name], naive)
        ]
        torch.testing.assert_close(
            *gradients, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"gradient of {name}: {text}"
        )


def answers(assignment: Tensor) -> dict[int, int]:
    """Map each assigned prediction to its object."""
    return {prediction: object_ for prediction, object_ in enumerate(assignment.tolist()) if object_ >= 0}


def in_words(suffix: str, losses: Tensor) -> dict[str, Tensor]:
    """Name losses (3,) as the criterion does."""
    return dict(zip((f"loss_class{suffix}", f"loss_bbox{suffix}", f"loss_giou{suffix}"), losses, strict=True))


@pytest.fixture
def grid(make_grid: Any) -> Any:
    return make_grid(batch=BATCH)


@pytest.fixture
def targets(make_target: Any) -> list[dict[str, Tensor]]:
    return [make_target([(4, 5, 20, 18), (10, 10, 30, 28)], [0, 2]), make_target([(8, 2, 20, 24)], [1])]


@pytest.fixture
def double_targets(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Convert targets to float64, so that rounding causes no difference from the naive formulas."""
    return [
        {name: value.double() if value.is_floating_point() else value for name, value in target.items()}
        for target in targets
    ]


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_losses_of_matched_queries_have_values_and_gradients_of_their_formulas(
    name: str, grid: Any, double_targets: list[dict[str, Tensor]]
) -> None:
    outputs, criterion = random_outputs(grid), make_criterion(name)
    leaves = [
        outputs[branch][key].double().requires_grad_()
        for branch in ("aux_outputs", "encoder_outputs")
        for key in ("pred_logits", "pred_boxes")
    ]
    logits, boxes, encoder_logits, encoder_boxes = leaves
    outputs["aux_outputs"] = {"pred_logits": logits, "pred_boxes": boxes}
    outputs["encoder_outputs"] = {"pred_logits": encoder_logits, "pred_boxes": encoder_boxes}
    predictions = {"_0": (logits[0], boxes[0]), "": (logits[1], boxes[1]), "_enc": (encoder_logits, encoder_boxes)}
    expected = {}
    for suffix, (scores, found) in predictions.items():
        assignment = criterion.matcher(scores[None], found[None], batch_targets(double_targets))[0]
        losses = [
            naive_losses(name, scores[image], dict(enumerate(found[image])), answers(assignment[image]), target)
            for image, target in enumerate(double_targets)
        ]
        expected |= in_words(suffix, torch.stack(losses).sum(0) / 3)
    assert_same_losses_and_gradients(criterion(outputs, double_targets), expected, leaves)


@pytest.mark.parametrize("suffix", ["_dn", "_mined"])
@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_losses_of_denoising_and_mined_queries_have_values_and_gradients_of_their_formulas(
    name: str, suffix: str, grid: Any, double_targets: list[dict[str, Tensor]]
) -> None:
    assignment = torch.tensor([[0, 1, 1, BACKGROUND, IGNORE], [BACKGROUND, 0, 0, IGNORE, IGNORE]])
    logits = torch.randn(LAYERS, BATCH, 5, CLASSES, dtype=torch.float64).requires_grad_()
    boxes = (torch.rand(LAYERS, BATCH, 5, 4, dtype=torch.float64) * 0.2 + 0.1).requires_grad_()
    outputs = random_outputs(grid)
    branch = {"_dn": "denoising_outputs", "_mined": "mined_outputs"}[suffix]
    outputs[branch] = {"pred_logits": logits, "pred_boxes": boxes, "assignment": assignment}
    losses = [
        naive_losses(
            name,
            logits[layer, image, assignment[image] != IGNORE],
            dict(enumerate(boxes[layer, image])),
            answers(assignment[image]),
            target,
        )
        for layer in range(LAYERS)
        for image, target in enumerate(double_targets)
    ]
    found = make_criterion(name)(outputs, double_targets)
    expected = in_words(suffix, torch.stack(losses).sum(0) / 5)  # over all layers, by positives of one
    assert_same_losses_and_gradients({key: found[key] for key in expected}, expected, [logits, boxes])


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_dense_and_token_losses_have_values_and_gradients_of_their_formulas(
    name: str, make_grid: Any, double_targets: list[dict[str, Tensor]]
) -> None:
    grid = make_grid(size=(32, 32), batch=BATCH)
    chosen = [(0, 10, 0), (0, 37, 1), (1, 5, 0)]
    outputs = random_outputs(grid)
    dense = random_dense(grid, chosen)
    predictions, tokens = dense["predictions"], grid.centers.shape[1]
    logits, deltas = predictions.logits.double().requires_grad_(), predictions.deltas.double().requires_grad_()
    token_logits = torch.randn(BATCH, tokens, CLASSES, dtype=torch.float64).requires_grad_()
    mined_boxes = (torch.rand(3, 4, dtype=torch.float64) * 0.2 + 0.1).requires_grad_()
    anchors = predictions.anchors.double()
    outputs["dense_outputs"] = dense | {"predictions": DensePredictions(logits, deltas, anchors)}
    outputs["encoder_outputs"] |= {"token_logits": token_logits, "mined_boxes": mined_boxes}

    expected = {"dense": torch.zeros(3), "enc": torch.zeros(3)}
    for image, target in enumerate(double_targets):
        own = [
            (anchor, object_, box) for (i, anchor, object_), box in zip(chosen, mined_boxes, strict=True) if i == image
        ]
        places = [(anchor // ANCHORS, anchor % ANCHORS) for anchor, _, _ in own]
        boxes = {
            anchor: refined_box(deltas[image, token, shape], anchors[image, token, shape])
            for (anchor, _, _), (token, shape) in zip(own, places, strict=True)
        }
        by_anchor = {anchor: object_ for anchor, object_, _ in own}
        by_token = {anchor // ANCHORS: object_ for anchor, object_, _ in own}
        token_boxes = {anchor // ANCHORS: box for anchor, _, box in own}
        flat = logits[image].flatten(0, 1)
        expected["dense"] = expected["dense"] + naive_losses(name, flat, boxes, by_anchor, target) / 3
        expected["enc"] = expected["enc"] + naive_losses(name, token_logits[image], token_boxes, by_token, target) / 3
    found = make_criterion(name, mined_encoder=True)(outputs, double_targets)
    named = in_words("_dense", expected["dense"]) | in_words("_enc", expected["enc"])
    leaves = [logits, deltas, token_logits, mined_boxes]
    assert_same_losses_and_gradients({key: found[key] for key in named}, named, leaves)


def test_the_salience_loss_has_the_value_and_gradient_of_its_formula(
    make_grid: Any, double_targets: list[dict[str, Tensor]]
) -> None:
    """Focal loss of F2's tokens; a token is salient if one of its anchors was mined."""
    grid = make_grid(size=(32, 32), batch=BATCH)
    low = grid.level_start_index[1]
    outputs = random_outputs(grid)
    outputs["dense_outputs"] = random_dense(grid, [(0, 10, 0), (0, 11, 1), (1, 5, 0), (1, (low + 1) * ANCHORS, 0)])
    logits = torch.randn(BATCH, low, dtype=torch.float64).requires_grad_()
    outputs["salience_logits"] = logits
    salient = {(0, 5), (1, 2)}
    expected = sum(
        (focal(logits[image, token], (image, token) in salient) for image in range(BATCH) for token in range(low)),
        start=torch.zeros(()),
    )
    found = make_criterion()(outputs, double_targets)
    assert_same_losses_and_gradients(
        {"loss_salience": found["loss_salience"]}, {"loss_salience": expected / 4}, [logits]
    )


def with_ignored(targets: list[dict[str, Tensor]], regions: list[tuple[float, ...]]) -> list[dict[str, Tensor]]:
    left, top, right, bottom = torch.tensor(regions).float().unbind(1)
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1) / 64
    return [{**target, "ignore_boxes": boxes} for target in targets]


def test_an_ignored_region_far_away_changes_no_query_loss(grid: Any, targets: Any) -> None:
    outputs, criterion = random_outputs(grid), make_criterion()
    plain, ignored = criterion(outputs, targets), criterion(outputs, with_ignored(targets, [FAR]))
    torch.testing.assert_close(plain, ignored)


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_only_matched_queries_cost_anything_inside_an_ignored_region(name: str, grid: Any, targets: Any) -> None:
    outputs, criterion = random_outputs(grid), make_criterion(name)
    plain = criterion(outputs, targets)
    ignored = criterion(outputs, with_ignored(targets, [(0, 0, 64, 64)]))
    logits, boxes = outputs["aux_outputs"]["pred_logits"][-1:], outputs["aux_outputs"]["pred_boxes"][-1:]
    background = criterion.matcher(logits, boxes, batch_targets(targets)) < 0
    cost = predictions_cost(name, logits[background], {}).item() / 3
    assert ignored["loss_class"].item() == pytest.approx(plain["loss_class"].item() - cost, rel=1e-4)
    assert ignored["loss_class"] > 0
    for key in ("loss_bbox", "loss_giou", "loss_bbox_enc", "loss_giou_enc"):
        assert ignored[key] == plain[key]


def test_only_positives_get_a_dense_gradient_inside_an_ignored_region(grid: Any, targets: Any) -> None:
    outputs, inside = random_outputs(grid), (grid.centers * 64 >= 48).all(-1)
    positive = int(inside[0].nonzero()[0])
    outputs["dense_outputs"] = random_dense(grid, [(0, positive * ANCHORS + 1, 0)])
    token_logits = torch.randn(BATCH, grid.centers.shape[1], CLASSES).requires_grad_()
    outputs["encoder_outputs"] |= {"token_logits": token_logits, "mined_boxes": torch.rand(1, 4)}
    logits = outputs["dense_outputs"]["predictions"].logits.requires_grad_()
    losses = make_criterion(mined_encoder=True)(outputs, with_ignored(targets, [FAR]))
    (losses["loss_class_dense"] + losses["loss_class_enc"]).backward()
    weighted = (~inside).unsqueeze(-1).repeat(1, 1, ANCHORS)
    weighted[0, positive, 1] = True
    assert torch.equal((logits.grad != 0).all(-1), weighted)
    assert torch.equal((token_logits.grad != 0).all(-1), weighted.any(-1))


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
    assignment = torch.tensor([[0, 1, IGNORE, IGNORE], [0, IGNORE, IGNORE, IGNORE]])
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
    assignment = torch.tensor([[0, 1], [IGNORE, IGNORE]])
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


def test_total_weighs_each_loss_by_kind_and_branch() -> None:
    weights = {"classification": 2, "bbox": 3, "giou": 5, "salience": 13}
    config = LossConfig.model_validate(
        {"loss_weights": weights, "one_to_many": {"dense_loss_weight": 7, "mined_loss_weight": 11}}
    )
    one = torch.tensor(1.0)
    for name, weight in [("loss_class", 2), ("loss_bbox_0", 3), ("loss_giou_enc", 5), ("loss_giou_dn", 5),
                         ("loss_class_dense", 14), ("loss_bbox_mined", 33), ("loss_salience", 13)]:  # fmt: skip
        assert total_loss({name: one}, config) == weight


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES)
def test_config_chooses_the_classification_loss(name: str) -> None:
    config = LossConfig.model_validate({"classification": name})
    assert build_criterion(config).classification_loss is CLASSIFICATION_LOSSES[name]  # type: ignore[index]
    assert build_criterion(LossConfig(encoder_supervision="mined")).mined_encoder
