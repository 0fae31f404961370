"""Repeat-factor sampling against its formula."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrqm.data import build_dataset
from mrqm.data.images.windows import Item, whole_items
from mrqm.data.loading.repeats import repeat_rare
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.ground_truth import make_ground_truth


def items_with(*labels: tuple[int, ...]) -> list[Item]:
    """Make one image for each tuple of labels."""
    records = [
        ImageRecord(
            Path(f"{number}.png"), number, (100, 100),
            make_ground_truth(np.tile([10.0, 10, 20, 20], (len(own), 1)), np.array(own, dtype=np.int64)),
        )
        for number, own in enumerate(labels)
    ]  # fmt: skip
    return whole_items(records, lambda size: size)


def test_items_come_as_often_as_their_rarest_class_asks_for() -> None:
    """Class 1 is in 4 of 400 items, class 2 in 100: with t = 0.16 they come √16 = 4 and √0.64 < 1 times."""
    items = items_with(*[(0,)] * 290, *[(0, 2)] * 100, *[(0, 1)] * 4, *[()] * 6)
    times = Counter(item.record.image_id for item in repeat_rare(items, 0.4, 0.16, seed=0))
    assert [times[number] for number in range(400)] == [1] * 390 + [4] * 4 + [1] * 6


def test_a_fraction_of_a_repetition_is_drawn_by_the_seed() -> None:
    items = items_with(*[(0,)] * 1600, *[(1,)] * 400)
    repeated = repeat_rare(items, 0.4, 0.45, seed=3)
    expected = 1600 + 400 * math.sqrt(0.45 / 0.2)
    assert len(repeated) == pytest.approx(expected, abs=40)
    assert repeated == repeat_rare(items, 0.4, 0.45, seed=3)
    assert repeated != repeat_rare(items, 0.4, 0.45, seed=4)


def test_only_the_training_data_is_repeated(squares: Any, tiny_config: Any) -> None:
    root = squares(images=4, side=64, objects=1)
    annotations = root / "train" / "annotations" / "0.txt"
    annotations.write_text(annotations.read_text() + "\n2,2,9,9,1,2,0,0")
    settings = f"data.root={root}", "data.classes=[blue, yellow]", "data.repeat_threshold=1"
    assert len(build_dataset(tiny_config(*settings), "train")) == 5  # √(1 / 0.25) = 2
    assert len(build_dataset(tiny_config(*settings), "val")) == 4
