"""Contrastive denoising: drawn queries, their number, and their attention mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mrqm.models.denoising import Denoising
from mrqm.ops.boxes import to_xyxy
from mrqm.structures.targets import BACKGROUND, IGNORE, batch_targets

DIM, CLASSES = 8, 3


def make(max_queries: int = 24, label_noise: float = 0.5, box_noise: float = 1.0) -> Denoising:
    torch.manual_seed(0)
    return Denoising(DIM, CLASSES, max_queries, label_noise, box_noise)


@pytest.mark.parametrize("count", [1, 2, 5, 11, 12, 13, 100, 2000])
def test_queries_are_capped_whatever_the_number_of_objects(count: int, random_target: Any) -> None:
    branch, assignment = make()(batch_targets([random_target(count)]))
    assert branch.content.shape == (1, assignment.shape[1], DIM)
    assert 2 * min(count, 12) <= assignment.shape[1] <= 24
    assert (assignment >= 0).sum() == (assignment == BACKGROUND).sum()


def test_few_objects_are_repeated_in_groups_of_positives_and_negatives(random_target: Any) -> None:
    _, assignment = make()(batch_targets([random_target(5)]))
    group = [0, 1, 2, 3, 4] + [BACKGROUND] * 5
    assert assignment[0].tolist() == group * 2


def test_many_objects_are_sampled_without_repetition(random_target: Any) -> None:
    _, assignment = make()(batch_targets([random_target(100)]))
    assert len(set(assignment[0, :12].tolist())) == 12


def test_groups_and_padding_do_not_see_each_other(random_target: Any) -> None:
    branch, assignment = make()(batch_targets([random_target(5), random_target(3), random_target(0)]))
    assert branch.attn_mask is not None
    for mask, found, count in zip(branch.attn_mask, assignment, (5, 3, 0), strict=True):
        place = torch.arange(len(found))
        group = torch.where(found == IGNORE, -1, place // (2 * max(count, 1)))
        assert torch.equal(mask, group[:, None] != group)


def test_an_image_without_objects_has_only_unjudged_queries(random_target: Any) -> None:
    branch, assignment = make()(batch_targets([random_target(0), random_target(0)]))
    assert (assignment == IGNORE).all() and assignment.shape == (2, 1)
    assert branch.reference_boxes.isfinite().all()


def test_without_noise_positives_are_the_objects(random_target: Any) -> None:
    target, denoising = random_target(5), make(label_noise=0, box_noise=0)
    branch, assignment = denoising(batch_targets([target]))
    object_ = assignment[0, :5]
    torch.testing.assert_close(branch.reference_boxes[0, :5], target["boxes"][object_])
    assert torch.equal(branch.content[0, :5], denoising.label_embedding(target["labels"][object_]))


def test_positives_move_less_than_half_a_side_and_negatives_more(make_target: Any) -> None:
    target = make_target([(400, 400, 420, 440)], size=(1000, 1000))
    branch, assignment = make(max_queries=400, box_noise=0.9)(batch_targets([target]))
    truth = to_xyxy(target["boxes"])[0]
    # corners that swapped are sorted: a corner may have come from the other one
    corners = to_xyxy(branch.reference_boxes)[0]
    half = target["boxes"][0, 2:].repeat(2) / 2
    shift = (corners - truth).abs() / half
    positive = assignment[0] >= 0
    assert shift[positive].max() <= 0.9 + 1e-3 and shift[positive].max() > 0.8
    assert shift[~positive].min() > 0.0 and shift[~positive].max() > 1.2


@pytest.mark.parametrize("box_noise", [0.4, 1.0, 3.0])
def test_noised_boxes_stay_boxes_inside_the_image(box_noise: float, random_target: Any) -> None:
    branch, _ = make(200, box_noise=box_noise)(batch_targets([random_target(20), random_target(3)]))
    assert (branch.reference_boxes[..., 2:] > 0).all()
    assert to_xyxy(branch.reference_boxes).min() >= -1e-3 and to_xyxy(branch.reference_boxes).max() <= 1 + 1e-3


def test_a_share_of_labels_is_flipped(make_target: Any) -> None:
    denoising = make(max_queries=4000, label_noise=0.5)
    branch, _ = denoising(batch_targets([make_target([(8, 8, 20, 20)], [1])]))
    other = (branch.content[0] != denoising.label_embedding.weight[1]).any(-1).float().mean().item()
    assert other == pytest.approx(0.5 * 0.5 * 2 / 3, abs=0.03)  # a third of the flips hit the same label


def test_the_seed_makes_noise_repeatable(random_target: Any) -> None:
    first, second = (make()(batch_targets([random_target(5)]))[0].reference_boxes for _ in range(2))
    assert torch.equal(first, second)
