"""Hungarian matching against scipy on costs computed one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou

from mrqm.losses.matcher import HungarianMatcher
from mrqm.ops.boxes import to_xyxy
from mrqm.structures.targets import BACKGROUND, batch_targets

LAYERS, QUERIES, CLASSES = 3, 12, 3
COSTS = (2.0, 5.0, 2.0)


def random_predictions(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(LAYERS, batch, QUERIES, CLASSES, generator=generator)
    return logits, torch.rand(LAYERS, batch, QUERIES, 4, generator=generator) * 0.5 + 0.1


def naive_cost(logits: Tensor, box: Tensor, label: int, truth: Tensor) -> float:
    p = logits[label].sigmoid()
    focal = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
    giou = generalized_box_iou(to_xyxy(box)[None], to_xyxy(truth)[None])[0, 0]
    return float(COSTS[0] * focal + COSTS[1] * (box - truth).abs().sum() - COSTS[2] * giou)


def test_assignment_is_scipys_on_naive_costs(random_target: Any) -> None:
    targets = [random_target(count, seed) for seed, count in enumerate((4, 0, 7))]
    logits, boxes = random_predictions(3)
    assignment = HungarianMatcher(*COSTS)(logits, boxes, batch_targets(targets))
    assert assignment.shape == (LAYERS, 3, QUERIES)
    for layer in range(LAYERS):
        for image, target in enumerate(targets):
            cost = np.array(
                [
                    [naive_cost(logits[layer, image, q], boxes[layer, image, q], int(label), truth)
                     for label, truth in zip(target["labels"], target["boxes"], strict=True)]
                    for q in range(QUERIES)
                ]
            ).reshape(QUERIES, -1)  # fmt: skip
            expected = np.full(QUERIES, BACKGROUND)
            query, object_ = linear_sum_assignment(cost)
            expected[query] = object_
            assert assignment[layer, image].tolist() == expected.tolist()


def test_more_objects_than_queries_leave_objects_over(random_target: Any) -> None:
    assignment = HungarianMatcher(*COSTS)(*random_predictions(1), batch_targets([random_target(40)]))
    assert (assignment >= 0).all()
    assert all(len(set(layer.tolist())) == QUERIES for layer in assignment[:, 0])


@pytest.mark.parametrize("worst", [float("nan"), float("inf"), float("-inf")])
def test_predictions_that_are_no_numbers_are_matched_last(worst: float, random_target: Any) -> None:
    logits, boxes = random_predictions(1)
    logits[:, :, :3], boxes[:, :, 3:6] = worst, worst
    assignment = HungarianMatcher(*COSTS)(logits, boxes, batch_targets([random_target(5)]))
    assert (assignment[:, 0, :6] == BACKGROUND).all()
    assert ((assignment >= 0).sum(-1) == 5).all()


def test_even_a_batch_of_nothing_but_nan_is_matched(random_target: Any) -> None:
    logits, boxes = random_predictions(1)
    assignment = HungarianMatcher(*COSTS)(
        logits * float("nan"), boxes * float("nan"), batch_targets([random_target(5)])
    )
    assert ((assignment >= 0).sum(-1) == 5).all()


def test_all_layers_and_images_take_one_transfer_to_the_host(
    random_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers = []
    for name in ("cpu", "tolist", "item"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, *a, f=original, n=name: (transfers.append(n), f(self, *a))[1])
    HungarianMatcher(*COSTS)(*random_predictions(3), batch_targets([random_target(4, seed) for seed in range(3)]))
    assert transfers == ["cpu"]
