"""Pictures show every box at its place in its class's colour, and nothing else."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor
from torch import Tensor

from mrqm.visualization.detections import LINE_HEIGHT, MARGIN, PALETTE, draw_comparison, draw_detections, draw_samples

CLASSES = ("car", "bus", "person")
GREY = (120, 120, 120)
TOP = MARGIN // 2 + LINE_HEIGHT  # of the first panel
COLOURS = [ImageColor.getrgb(colour) for colour in PALETTE]


def image(height: int, width: int) -> Tensor:
    return torch.full((3, height, width), GREY[0], dtype=torch.uint8)


def found(*boxes: list[float], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def target(
    *boxes: list[float], labels: list[int], size: tuple[int, int], ignored: list[list[float]] | None = None
) -> dict[str, Tensor]:
    """Make a target with boxes in normalised cxcywh; the native image is twice as large."""
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "ignore_boxes": torch.tensor(ignored or []).reshape(-1, 4),
        "size": torch.tensor(size),
        "orig_size": torch.tensor(size) * 2,
    }


NOTHING = found(labels=[], scores=[])


def panels(sheet: Image.Image, width: int, height: int) -> list[Image.Image]:
    """Return the two panels of a sheet of one row."""
    lefts = [MARGIN, MARGIN + width + MARGIN]
    return [sheet.crop((left, TOP, left + width, TOP + height)) for left in lefts]


def extent(panel: Image.Image, label: int) -> tuple[int, int, int, int] | None:
    """Compute the bounding box of a class's colour."""
    rows, columns = (np.asarray(panel) == COLOURS[label]).all(-1).nonzero()
    if not len(rows):
        return None
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_detections_and_objects_lie_at_the_same_place_in_the_enlarged_panels() -> None:
    native = found([20, 40, 60, 80], labels=[1], scores=[0.9])  # of 320 × 320 px
    objects = target([0.125, 0.1875, 0.125, 0.125], labels=[1], size=(160, 160))
    sheet = draw_comparison([image(160, 160)], [native], [objects], CLASSES)
    for panel in panels(sheet, 640, 640):
        # 40..120 across and 80..160 down, the line two px outside of it
        assert extent(panel, 1) == (38, 78, 122, 162)


def test_detections_below_the_score_are_left_out() -> None:
    detections = found([20, 40, 60, 80], [100, 100, 140, 140], labels=[0, 1], scores=[0.5, 0.49])
    empty = target(labels=[], size=(160, 160))
    sheet = draw_comparison([image(160, 160)], [detections], [empty], CLASSES, min_score=0.5)
    left, right = panels(sheet, 640, 640)
    assert extent(left, 0) is not None
    assert extent(left, 1) is None
    assert extent(right, 0) is None


def test_the_better_detection_lies_on_top() -> None:
    detections = found([20, 20, 60, 60], [20, 20, 60, 60], labels=[2, 0], scores=[0.9, 0.8])
    panel = draw_detections(image(640, 640), detections, CLASSES).crop((MARGIN, TOP, MARGIN + 640, TOP + 640))
    assert extent(panel, 2) == (18, 18, 62, 62)
    assert extent(panel, 0) is None


def test_padding_is_cut_off() -> None:
    padded = torch.nn.functional.pad(image(100, 160), (0, 32, 0, 60))
    sheet = draw_comparison([padded], [NOTHING], [target(labels=[], size=(100, 160))], CLASSES)
    assert all(panel.getcolors() == [(640 * 400, GREY)] for panel in panels(sheet, 640, 400))


def test_ignored_regions_are_dark_on_both_sides_and_nothing_else_is() -> None:
    objects = target(labels=[], size=(160, 160), ignored=[[0.25, 0.25, 0.5, 0.5]])
    sheet = draw_comparison([image(160, 160)], [NOTHING], [objects], CLASSES)
    for panel in panels(sheet, 640, 640):
        region = np.asarray(panel.convert("L"))
        assert region[:320, :320].mean() < 0.6 * GREY[0]
        assert (region[321:] == GREY[0]).all()
        assert (region[:, 321:] == GREY[0]).all()


@pytest.mark.parametrize(("labels", "shown"), [([0, 2], {0, 2}), ([], set())])
def test_the_legend_names_the_classes_that_occur(labels: list[int], shown: set[int]) -> None:
    objects = target(*[[0.5, 0.5, 0.1, 0.1]] * len(labels), labels=labels, size=(160, 160))
    sheet = draw_comparison([image(160, 160)], [NOTHING], [objects], CLASSES)
    legend = sheet.crop((0, TOP + 640 + MARGIN, sheet.width, sheet.height))
    assert {label for label in range(3) if extent(legend, label)} == shown


def test_a_long_legend_breaks_into_lines() -> None:
    names = [f"a class with a long name, number {i}" for i in range(10)]
    boxes = [[0.5, 0.5, 0.1, 0.1]] * 10
    few = draw_comparison([image(160, 160)], [NOTHING], [target(boxes[0], labels=[0], size=(160, 160))], names)
    many = draw_comparison(
        [image(160, 160)], [NOTHING], [target(*boxes, labels=list(range(10)), size=(160, 160))], names
    )
    assert many.width == few.width
    assert many.height > few.height


def test_classes_beyond_the_palette_start_again() -> None:
    names = [str(i) for i in range(len(PALETTE) + 1)]
    detections = found([20, 20, 60, 60], labels=[len(PALETTE)], scores=[0.9])
    assert extent(draw_detections(image(640, 640), detections, names), 0) is not None


def test_one_row_per_image_and_large_images_are_shrunk() -> None:
    sizes = [(160, 160), (1000, 1920)]
    images, targets = [image(*size) for size in sizes], [target(labels=[], size=size) for size in sizes]
    sheet = draw_comparison(images, [NOTHING] * 2, targets, CLASSES)
    assert sheet.width == 2 * 960 + 3 * MARGIN
    assert sheet.height > 640 + 500


@pytest.mark.parametrize(("size", "shown"), [((300, 320), (600, 640)), ((1000, 1920), (1000, 1920))])
def test_a_single_picture_is_enlarged_but_never_shrunk(size: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = draw_detections(image(*size), NOTHING, CLASSES)
    height, width = shown
    assert picture.width == width + 2 * MARGIN
    panel = picture.crop((MARGIN, TOP, MARGIN + width, TOP + height))
    assert panel.getcolors() == [(width * height, GREY)]


def test_training_images_of_any_sizes_are_drawn_in_rows_with_their_objects() -> None:
    wide, tall = target([0.5, 0.5, 0.5, 0.5], labels=[0], size=(100, 200)), target(labels=[], size=(200, 100))
    ignoring = target([0.25, 0.5, 0.2, 0.2], labels=[2], size=(100, 100), ignored=[[0.75, 0.5, 0.4, 0.4]])
    drawn = draw_samples(
        [(image(100, 200), wide), (image(200, 100), tall), (image(100, 100), ignoring)], CLASSES, columns=2
    )
    first, second = panels(drawn, 480, 480)
    assert extent(first, 0) == (118, 58, 362, 182), "2 px around 120 to 360 by 60 to 180"
    assert extent(second, 0) is None
    below = drawn.crop((MARGIN, TOP + 480 + MARGIN, MARGIN + 480, TOP + 480 + MARGIN + 480))
    assert extent(below, 2) == pytest.approx((70, 190, 170, 290), abs=1)
    assert np.asarray(below)[240, 300].max() < 100, "ignored regions are dark"
