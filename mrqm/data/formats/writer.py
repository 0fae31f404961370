"""Prepared form of a data set, as `mrqm prepare` writes it: for each split `annotations.json` (COCO) beside `images`.

Annotations are written as they were read: neither clipped nor rounded, with `iscrowd` and `ignore`. Ignored boxes
without a class have categories of their own, `ignored region` and `others`, which `info` lists, and
`iscrowd: 1, ignore: 1`, so that `read_coco` returns the records that were written; other tools read the file as any
COCO file. A tile also has the id of its image (`ori_id`) and its position in it (`start_coord`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mrqm.data.formats.coco import IGNORED_CATEGORIES, MARKER
from mrqm.data.formats.digest import file_digest
from mrqm.data.images.decoding import UnreadableImageError, decode
from mrqm.data.images.tiling import cut
from mrqm.data.images.windows import Item, black_out_regions
from mrqm.files import part_of, write_whole
from mrqm.structures.annotations import ImageRecord

ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class WrittenImage:
    """Image of the prepared form.

    Attributes:
        name: name of the file under `images`.
        record: annotations in its own px.
        item: window of a source image that it shows; None if it is the source image itself.
    """

    name: str
    record: ImageRecord
    item: Item | None = None


@dataclass(frozen=True)
class ImageJob:
    """Source image to be checked and written.

    Attributes:
        path, size: source image and its (height, width) in px.
        images: images to write; empty to only check the source.
        blackout_ignored: paint ignored regions black in tiles.
    """

    path: Path
    size: tuple[int, int]
    images: tuple[WrittenImage, ...]
    blackout_ignored: bool = False


@dataclass(frozen=True)
class ImageOutcome:
    """Digest of a source image's bytes, and the reason if it does not decode; empty if it does."""

    digest: str
    error: str


def run_job(job: ImageJob) -> ImageOutcome:
    """Decode a source image wholly and write its images, each file atomically.

    Raises:
        OSError: a file cannot be written.
    """
    items = [image.item for image in job.images if image.item is not None]
    try:
        pixels = decode(job.path, items[0].size if items else job.size)
    except UnreadableImageError as error:
        return ImageOutcome("", str(error))
    if items and job.blackout_ignored:
        black_out_regions(items[0], pixels)
    for image in job.images:
        image.record.path.parent.mkdir(parents=True, exist_ok=True)
        if image.item is None:
            _link(job.path, image.record.path)
        else:
            _write_png(image.record.path, cut(pixels, image.item.window, image.record.size))
    return ImageOutcome(file_digest(job.path), "")


def write_annotations(folder: Path, classes: Sequence[str], images: Sequence[WrittenImage]) -> None:
    """Write a split's `annotations.json`; before that the folder is no data set.

    Args:
        folder: folder of the split.
        classes: class names in label order.
        images: images of the split, already written.
    """
    numbers = {name: len(classes) + 1 + index for index, name in enumerate(IGNORED_CATEGORIES)}
    of_label = {IGNORED_CATEGORIES[name]: number for name, number in numbers.items()}
    of_label |= {label: label + 1 for label in range(len(classes))}
    annotations = [entry for image in images for entry in _annotation_entries(image.record, of_label)]
    content = {
        "info": {"description": "written by mrqm prepare", MARKER: numbers},
        "images": [_image_entry(image) for image in images],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": of_label[label], "name": name} for label, name in enumerate(classes)]
        + [{"id": number, "name": name} for name, number in numbers.items()],
    }
    write_whole(folder / ANNOTATIONS, json.dumps(content))


def _image_entry(image: WrittenImage) -> dict[str, Any]:
    record = image.record
    entry: dict[str, Any] = {
        "id": record.image_id,
        "file_name": image.name,
        "height": record.size[0],
        "width": record.size[1],
    }
    if image.item is not None:
        window = image.item.window
        entry |= {"ori_id": image.item.record.image_id, "start_coord": [window.left, window.top]}
    return entry


def _annotation_entries(record: ImageRecord, number_of_label: dict[int, int]) -> Iterator[dict[str, Any]]:
    truth = record.truth
    columns = (truth.boxes_xywh, truth.labels, truth.areas, truth.crowd.astype(int), truth.ignored.astype(int))
    for bbox, label, area, crowd, ignored in zip(*(column.tolist() for column in columns), strict=True):
        yield {
            "image_id": record.image_id,
            "category_id": number_of_label[label],
            "bbox": bbox,
            "area": area,
            "iscrowd": crowd,
            "ignore": ignored,
        }


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that is not possible."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        part = part_of(target)
        shutil.copyfile(source, part)
        part.replace(target)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    part = part_of(path)
    Image.fromarray(pixels).save(part, format="PNG", compress_level=1)
    part.replace(path)
