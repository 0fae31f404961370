"""Detections gathered in batches and over ranks, against the protocol's score of all at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from mrqm.evaluation import CocoProtocol, Evaluator, Protocol, SodaProtocol, VisDroneProtocol
from mrqm.structures.annotations import ImageRecord, xywh_to_xyxy
from mrqm.structures.detections import Detections

from ...ranks import run_ranks
from .scenes import CLASSES, random_images

Item = tuple[dict[str, Tensor], dict[str, Tensor]]


def scene() -> tuple[list[ImageRecord], list[Detections], list[Item]]:
    """Random images, whose coordinates float32 holds exactly, and the same as a model returns them."""
    records, detections = random_images(3)
    items = []
    for index, found in enumerate(detections):
        found.boxes_xywh[:] = (found.boxes_xywh * 64).round() / 64
        tensors = {
            "boxes": torch.from_numpy(xywh_to_xyxy(found.boxes_xywh)).float(),
            "scores": torch.from_numpy(found.scores).float(),
            "labels": torch.from_numpy(found.labels),
        }
        items.append((tensors, {"image_id": torch.tensor(index)}))
    return records, detections, items


def score(items: Sequence[Item], protocol: Protocol | None = None) -> dict[str, float]:
    records, _, _ = scene()
    evaluator = Evaluator(protocol or CocoProtocol(), CLASSES, records.__getitem__)
    for detections, target in items:
        evaluator.update([detections], [target])
    return evaluator.compute()


@pytest.mark.parametrize("protocol", [CocoProtocol(dense_limit=500), VisDroneProtocol(), SodaProtocol()])
def test_items_score_as_the_protocol_scores_images(protocol: Protocol) -> None:
    records, detections, items = scene()
    expected = protocol.score(records, detections, CLASSES)
    assert 0.05 < expected["AP"] < 0.95
    assert repr(score(items, protocol)) == repr(expected)


def test_order_of_items_changes_nothing() -> None:
    _, _, items = scene()
    assert repr(score(items)) == repr(score(items[::-1]))


def test_batches_equal_single_items() -> None:
    records, _, items = scene()
    evaluator = Evaluator(CocoProtocol(), CLASSES, records.__getitem__)
    evaluator.update([detections for detections, _ in items], [target for _, target in items])
    assert repr(evaluator.compute()) == repr(score(items))


def test_nothing_at_all_is_nan() -> None:
    assert all(np.isnan(value) for value in score([]).values())


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    score(scene()[2])
    assert capsys.readouterr().out == ""


def test_a_repeated_item_is_refused() -> None:
    _, _, items = scene()
    with pytest.raises(ValueError, match="item 1 was evaluated twice"):
        score([*items, items[1]])


def work(folder: Path) -> None:
    """Run one of two processes: score its part three ways and write the results into the folder."""
    rank = dist.get_rank()
    _, _, items = scene()
    answers = {
        "shared": repr(score(items[rank::2])),
        "one rank idle": repr(score(items if rank == 0 else [])),
    }
    try:
        score(items)
    except ValueError as error:
        answers["same items on both"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(answers))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(work, 2, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", ["shared", "one rank idle"])
def test_two_ranks_equal_one(case: str, two_ranks: list[dict[str, str]]) -> None:
    alone = repr(score(scene()[2]))
    assert [answers[case] for answers in two_ranks] == [alone, alone]


def test_an_item_on_two_ranks_is_refused_by_both(two_ranks: list[dict[str, str]]) -> None:
    assert all("evaluated twice" in answers["same items on both"] for answers in two_ranks)
