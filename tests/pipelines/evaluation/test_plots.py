"""Plots of an evaluation, also with classes or sizes without objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrqm.evaluation.analysis.curves import RecallBySize
from mrqm.evaluation.analysis.errors import ErrorAnalysis
from pipelines.evaluation.plots import plot_errors, plot_precision_recall, plot_recall_by_size


def ink(path: Path) -> int:
    """Count the pixels that are not white."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return int((np.asarray(picture.convert("L")) < 250).sum())


def analysis(value: float) -> ErrorAnalysis:
    counts = np.zeros((6, 2, 8), dtype=np.int64)
    return ErrorAnalysis(np.full((6, 2), value), np.full((6, 2, 8), value), counts, counts[..., 0])


@pytest.mark.parametrize("nothing", [False, True])
def test_pictures_have_content(tmp_path: Path, nothing: bool) -> None:
    value = np.nan if nothing else 0.5
    plot_precision_recall(tmp_path / "curves.png", np.full((2, 101), value), np.full(2, value), ("car", "bus"))
    plot_recall_by_size(
        tmp_path / "recall.png", RecallBySize(np.array([0, 8, np.inf]), np.array([value, 0.1]), np.ones(2))
    )
    plot_errors(tmp_path / "errors.png", analysis(value))
    assert all(ink(path) > 1000 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3


def test_a_class_without_objects_is_left_out(tmp_path: Path) -> None:
    curves, ap50 = np.array([[0.5] * 101, [np.nan] * 101]), np.array([0.5, np.nan])
    plot_precision_recall(tmp_path / "two.png", curves, ap50, ("car", "bus"))
    plot_precision_recall(tmp_path / "one.png", curves[:1], ap50[:1], ("car",))
    assert (tmp_path / "two.png").read_bytes() == (tmp_path / "one.png").read_bytes()
