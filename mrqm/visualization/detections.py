"""Drawings of detections on images, and contact sheets of detections beside ground truth and of training images.

Small images are enlarged, so that objects of 5 px are visible; the colours suit colour-blind readers.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2.functional import to_pil_image

# Okabe and Ito's palette with brighter colours against asphalt, and two more; further classes repeat it.
PALETTE = (
    "#56B4E9", "#E69F00", "#F0E442", "#FF8FC7", "#00C795", "#D55E00", "#FFFFFF", "#2F6BFF", "#EE3377", "#A46CFF",
)  # fmt: skip
LEAST_SIDE, MOST_SIDE = 640, 960  # longer side of a panel in px
SAMPLE_SIDE = 480  # least longer side of a training image in px
MARGIN, LINE_HEIGHT = 12, 28
PAPER, INK = "white", "#222222"
FONT = ImageFont.load_default(size=18)

Box = tuple[list[float], int]  # xyxy as fractions of the image's width and height, and the label


def draw_detections(
    image: Tensor, detections: Mapping[str, Tensor], classes: Sequence[str], min_score: float = 0.3
) -> Image.Image:
    """Draw detections on one image, with a legend below.

    Args:
        image: uint8 (3, H, W) RGB image.
        detections: `boxes` (K, 4) xyxy in px of the image, `scores` (K,), `labels` (K,).
        classes: class names in label order.
        min_score: least score of a drawn detection.

    Returns:
        The image at its own size or, when its longer side is below 640 px, enlarged to that.
    """
    picture = to_pil_image(image.cpu())
    boxes = _confident(detections, (picture.height, picture.width), min_score)
    panel = _panel(picture, max(LEAST_SIDE, *picture.size), boxes, ignored=[])
    swatches = _swatches(classes, {label for _, label in boxes}, with_ignored=False)
    return sheet([[panel]], [_detections_title(min_score)], swatches)


def draw_comparison(
    images: Sequence[Tensor],
    detections: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    classes: Sequence[str],
    *,
    min_score: float = 0.3,
) -> Image.Image:
    """Draw a contact sheet, one row per image: detections on the left, ground truth on the right.

    Ignored regions are dark and hatched on both sides.

    Args:
        images: uint8 (3, H, W) RGB images as fed to the network, padded or not, at any scale.
        detections: `boxes` (K, 4) xyxy in px of the target's `orig_size`, `scores` (K,), `labels` (K,) of each image.
        targets: `boxes` (N, 4) and `ignore_boxes` (M, 4) normalised cxcywh, `labels` (N,), `orig_size` (2,) and
            `size` (2,) of each image; sizes are (height, width) in px, native and of the image without its padding.
        classes: class names in label order.
        min_score: least score of a drawn detection.

    Returns:
        The contact sheet.
    """
    rows: list[list[Image.Image]] = []
    labels: set[int] = set()
    for image, found, target in zip(images, detections, targets, strict=True):
        height, width = target["size"].tolist()
        picture = to_pil_image(image[:, :height, :width].cpu())
        side = min(max(LEAST_SIDE, *picture.size), MOST_SIDE)
        objects, ignored = _annotated(target)
        columns = [_confident(found, target["orig_size"].tolist(), min_score), objects]
        rows.append([_panel(picture, side, boxes, ignored) for boxes in columns])
        labels |= {label for boxes in columns for _, label in boxes}
    with_ignored = any(len(target["ignore_boxes"]) for target in targets)
    return sheet(rows, [_detections_title(min_score), "ground truth"], _swatches(classes, labels, with_ignored))


def draw_samples(
    samples: Sequence[tuple[Tensor, Mapping[str, Tensor]]], classes: Sequence[str], columns: int = 4
) -> Image.Image:
    """Draw a contact sheet of training images with their objects and ignored regions.

    Args:
        samples: uint8 (3, H, W) RGB images with targets: `boxes` (N, 4) and `ignore_boxes` (M, 4) normalised cxcywh,
            `labels` (N,).
        classes: class names in label order.
        columns: number of images in a row.

    Returns:
        The contact sheet.
    """
    panels: list[Image.Image] = []
    labels: set[int] = set()
    for image, target in samples:
        picture = to_pil_image(image)
        objects, ignored = _annotated(target)
        panels.append(_panel(picture, min(max(SAMPLE_SIDE, *picture.size), MOST_SIDE), objects, ignored))
        labels |= {label for _, label in objects}
    with_ignored = any(len(target["ignore_boxes"]) for _, target in samples)
    rows = [panels[begin : begin + columns] for begin in range(0, len(panels), columns)]
    titles = ["training images as augmented", *[""] * (len(rows[0]) - 1)]
    return sheet(rows, titles, _swatches(classes, labels, with_ignored))


def _annotated(target: Mapping[str, Tensor]) -> tuple[list[Box], list[list[float]]]:
    """List the objects and the ignored regions of a target."""
    objects = box_convert(target["boxes"], "cxcywh", "xyxy").tolist()
    ignored = box_convert(target["ignore_boxes"], "cxcywh", "xyxy").tolist()
    return list(zip(objects, target["labels"].tolist(), strict=True)), ignored


def _confident(detections: Mapping[str, Tensor], size: Sequence[int], min_score: float) -> list[Box]:
    """List the detections to draw, best last so that it is on top; `size` is (height, width) of their coordinates."""
    chosen = (detections["scores"] >= min_score).nonzero().flatten().flip(0)
    height, width = size
    boxes = detections["boxes"][chosen].cpu() / torch.tensor([width, height, width, height])
    return list(zip(boxes.tolist(), detections["labels"][chosen].tolist(), strict=True))


def _panel(picture: Image.Image, side: int, boxes: Iterable[Box], ignored: Iterable[list[float]]) -> Image.Image:
    """Draw one image with a longer side of `side` px, ignored regions dimmed and every box outlined."""
    zoom = side / max(picture.size)
    width, height = round(picture.width * zoom), round(picture.height * zoom)
    panel = picture.resize((width, height), Image.Resampling.BICUBIC)
    panel.paste(_hatched(panel), mask=_region(panel.size, ignored))
    draw = ImageDraw.Draw(panel, "RGBA")
    for (left, top, right, bottom), label in boxes:
        # Around the object, not over it, with a shadow that separates the line from the background.
        left, top, right, bottom = left * width - 2, top * height - 2, right * width + 2, bottom * height + 2
        draw.rectangle([left - 1, top - 1, right + 1, bottom + 1], outline=(0, 0, 0, 130), width=4)
        draw.rectangle([left, top, right, bottom], outline=_colour(label), width=2)
    return panel


def _region(size: tuple[int, int], boxes: Iterable[list[float]]) -> Image.Image:
    """Draw a mask of the union of boxes, given as fractions of width and height."""
    mask = Image.new("1", size)
    draw = ImageDraw.Draw(mask)
    for left, top, right, bottom in boxes:
        draw.rectangle([left * size[0], top * size[1], right * size[0], bottom * size[1]], fill=1)
    return mask


def _hatched(panel: Image.Image, gap: int = 14) -> Image.Image:
    """Darken a copy and draw thin diagonal lines over it."""
    dark = panel.point(lambda value: value * 0.45)
    draw = ImageDraw.Draw(dark)
    for start in range(-panel.height, panel.width, gap):
        draw.line([start, panel.height, start + panel.height, 0], fill="#9A9A9A")
    return dark


def _swatches(classes: Sequence[str], labels: set[int], with_ignored: bool) -> list[tuple[Image.Image, str]]:
    """List pattern and name of every class in the picture, and of ignored regions."""
    swatches = [(Image.new("RGB", (16, 16), _colour(label)), classes[label]) for label in sorted(labels)]
    if with_ignored:
        swatches.append((_hatched(Image.new("RGB", (16, 16), "gray"), gap=6), "not annotated"))
    return swatches


def _legend(swatches: Iterable[tuple[Image.Image, str]], width: int) -> Image.Image:
    """Draw patterns and names side by side, on as many lines as the width requires."""
    places: list[tuple[Image.Image, str, int, int]] = []
    x, y = 0, 0
    for pattern, name in swatches:
        needed = LINE_HEIGHT + round(FONT.getlength(name)) + 2 * MARGIN
        if x and x + needed > width:
            x, y = 0, y + LINE_HEIGHT
        places.append((pattern, name, x, y))
        x += needed
    legend = Image.new("RGB", (width, y + LINE_HEIGHT), PAPER)
    draw = ImageDraw.Draw(legend)
    for pattern, name, x, y in places:
        legend.paste(pattern, (x + 1, y + 6))
        draw.rectangle([x, y + 5, x + 17, y + 22], outline=INK)  # keeps white visible on paper
        draw.text((x + LINE_HEIGHT - 4, y + LINE_HEIGHT // 2), name, INK, FONT, anchor="lm")
    return legend


def sheet(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], swatches: Iterable[tuple[Image.Image, str]]
) -> Image.Image:
    """Arrange panels in rows under column titles and above a legend.

    Args:
        rows: panels of each row.
        titles: titles of the columns.
        swatches: patterns and names of the legend.

    Returns:
        The contact sheet.
    """
    column = max(panel.width for row in rows for panel in row) + MARGIN
    width = len(titles) * column + MARGIN
    legend = _legend(swatches, width - 2 * MARGIN)
    heights = [max(panel.height for panel in row) + MARGIN for row in rows]
    height = LINE_HEIGHT + sum(heights) + legend.height + MARGIN
    sheet = Image.new("RGB", (width, height + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN // 2
    for i, title in enumerate(titles):
        draw.text((MARGIN + i * column, y + LINE_HEIGHT // 2), title, INK, FONT, anchor="lm")
    y += LINE_HEIGHT
    for row, below in zip(rows, heights, strict=True):
        for i, panel in enumerate(row):
            sheet.paste(panel, (MARGIN + i * column, y))
        y += below
    sheet.paste(legend, (MARGIN, y))
    return sheet


def _detections_title(min_score: float) -> str:
    return f"detections, score at least {min_score:.2f}"  # Pillow's own font has no ≥


def _colour(label: int) -> str:
    return PALETTE[label % len(PALETTE)]
