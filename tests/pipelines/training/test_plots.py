from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.training.plots import plot_training


def ink(path: Path) -> int:
    """Count the pixels that are not white."""
    with Image.open(path) as picture:
        return int((np.asarray(picture.convert("L")) < 250).sum())


def test_losses_and_precision_are_drawn(tmp_path: Path) -> None:
    empty = ink(plot_training(tmp_path / "empty.png", {}))
    history = {"train/loss": [(step, 50 / step) for step in range(1, 200)], "coco/AP": [(100, 0.2), (199, 0.3)]}
    assert ink(plot_training(tmp_path / "curves.png", history)) > empty + 500


@pytest.mark.parametrize("points", [1, 2])
def test_a_run_of_few_steps_has_curves_too(tmp_path: Path, points: int) -> None:
    path = plot_training(tmp_path / "curves.png", {"train/loss": [(step, 1.0) for step in range(points)]})
    assert path.is_file()
