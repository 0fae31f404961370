"""Padded ground truth."""

from __future__ import annotations

from typing import Any

import torch

from mrqm.structures.targets import BACKGROUND, batch_targets, gather_targets


def test_objects_are_padded_with_whole_images(make_target: Any) -> None:
    truth = batch_targets([make_target([(0, 0, 32, 32)], [2]), make_target([(0, 0, 8, 8), (8, 8, 24, 24)], [1, 0])])
    assert truth.counts == [1, 2]
    assert truth.boxes.shape == (2, 2, 4) and truth.labels.tolist() == [[2, 0], [1, 0]]
    assert truth.boxes[0].tolist() == [[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]


def test_a_batch_without_objects_has_room_for_one(make_target: Any) -> None:
    truth = batch_targets([make_target(), make_target()])
    assert truth.counts == [0, 0]
    assert truth.boxes.tolist() == [[[0.5, 0.5, 1.0, 1.0]]] * 2 and truth.labels.tolist() == [[0], [0]]


def test_ignored_regions_are_padded_with_empty_ones(make_target: Any) -> None:
    truth = batch_targets([make_target(), make_target(ignored=[(0, 0, 32, 64)])])
    assert truth.ignore_boxes is not None
    assert truth.ignore_boxes.tolist() == [[[0, 0, 0, 0]], [[0.25, 0.5, 0.5, 1.0]]]
    assert batch_targets([make_target()]).ignore_boxes is None


def test_assigned_objects_are_gathered_from_their_own_image(make_target: Any) -> None:
    targets = [make_target([(0, 0, 8, 8), (8, 8, 24, 24)], [1, 2]), make_target([(0, 0, 64, 64)], [0])]
    assignment = torch.tensor([[[1, 0, BACKGROUND], [0, BACKGROUND, 0]]])
    boxes, labels = gather_targets(batch_targets(targets), assignment)
    assert torch.equal(boxes[0, 0, :2], targets[0]["boxes"][[1, 0]])
    assert torch.equal(boxes[0, 1, 0], targets[1]["boxes"][0])
    assert labels[0, 0, :2].tolist() == [2, 1] and labels[0, 1, 0] == 0
