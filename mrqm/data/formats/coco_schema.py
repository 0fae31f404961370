"""Schema of COCO json and its relatives, and conversion of its annotations to records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pydantic import BaseModel, FiniteFloat, ValidationError

from mrqm.data.formats.image_sizes import KnownSizes, Size
from mrqm.data.images.decoding import read_sizes
from mrqm.structures.annotations import AnnotationSet, DataError, ImageRecord, Repairs, require_none
from mrqm.structures.ground_truth import GroundTruth, make_ground_truth

Id: TypeAlias = int | str
"""Id of an image or a category: a number of any size, or text such as a UUID."""


class Category(BaseModel):
    """Class with its id."""

    id: Id
    name: str


class Image(BaseModel):
    """Image file with its size, if the file declares it."""

    id: Id
    file_name: str
    height: int | None = None
    width: int | None = None


class Annotation(BaseModel):
    """Box in an image; `iscrowd` and `ignore` are 0 or 1."""

    id: Id | None = None
    image_id: Id
    category_id: Id
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    area: FiniteFloat | None = None
    iscrowd: int = 0
    ignore: int = 0


class AnnotationFile(BaseModel):
    """Parts of a COCO file that detection needs; everything else is ignored.

    `categories` may be missing where their numbers are known, as SODA-D's are.
    """

    info: Any = None
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category] = []


def parse_json(path: Path) -> AnnotationFile:
    """Read a file and check it without its images.

    Raises:
        DataError: the file does not parse, lists no images, or lists an image or an id twice.
    """
    try:
        content = AnnotationFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "file"
        more = f" (and {error.error_count() - 1} more faults)" if error.error_count() > 1 else ""
        raise DataError(f"{path}: not a COCO annotation file: {where}: {fault['msg']}{more}") from error
    if not content.images:
        raise DataError(f"{path}: lists no images")
    _require_different(path, "several images share an id", [image.id for image in content.images])
    _require_different(path, "an image is listed twice", [image.file_name for image in content.images])
    return content


def id_order(number_or_text: Id) -> tuple[bool, Id]:
    """Return the sort key of an id: numbers by their value, then texts."""
    return isinstance(number_or_text, str), number_or_text


def make_annotations(
    path: Path,
    content: AnnotationFile,
    files: Sequence[Path],
    classes: tuple[str, ...],
    labels: Mapping[Id, int],
    repairs: Repairs,
    sizes: KnownSizes | None = None,
) -> AnnotationSet:
    """Convert a parsed file to annotations.

    Args:
        path: json file, for messages.
        content: parsed file.
        files: image files in the order of `content.images`.
        classes: class names in label order.
        labels: label of each category id; a negative label makes every annotation of the category an ignored region.
        repairs: log to which repairs are added.
        sizes: sizes of images that may be absent, after those of the file; None reads the images' headers.

    Returns:
        The annotations; images without a readable header have no record.

    Raises:
        DataError: images are missing or of another size than declared, or annotations refer to unknown images or
            categories.
    """
    annotations = _group_by_image(path, content, labels)
    _note_scoring_differences(path, content, repairs)
    records, unreadable = [], []
    for image, file, size in zip(content.images, files, _find_sizes(path, content, files, sizes), strict=True):
        if size is None:
            unreadable.append(file)
            continue
        if None not in (image.height, image.width) and size != (image.height, image.width):
            raise DataError(
                f"{path}: declares that {image.file_name} is {image.width}×{image.height} px, "
                f"but the image is {size[1]}×{size[0]} px; its boxes would not fit"
            )
        indices = annotations[image.id]
        truth = _make_truth([content.annotations[index] for index in indices], labels)
        places = [f"{path}: annotations.{index} of {image.file_name}" for index in indices]
        repairs.note_boxes(truth.boxes_xywh, size, places)
        records.append(ImageRecord(file, image.id, size, truth))
    return AnnotationSet(classes, tuple(records), repairs, tuple(unreadable))


def _find_sizes(
    path: Path, content: AnnotationFile, files: Sequence[Path], sizes: KnownSizes | None
) -> Sequence[Size | None]:
    if sizes is None:
        require_none([file for file in files if not file.is_file()], f"{path}: listed images that are not there")
        return read_sizes(files)
    declared = [(image.height, image.width) if image.height and image.width else None for image in content.images]
    return sizes.find(files, declared)


def _require_different(path: Path, fault: str, values: Sequence[Id]) -> None:
    seen: set[Id] = set()
    for value in values:
        if value in seen:
            raise DataError(f"{path}: {fault}: {value}")
        seen.add(value)


def _group_by_image(path: Path, content: AnnotationFile, labels: Mapping[Id, int]) -> defaultdict[Id, list[int]]:
    """Group the indices of the annotations by the image's id."""
    images = {image.id for image in content.images}
    names = {category.id: category.name for category in content.categories}
    grouped: defaultdict[Id, list[int]] = defaultdict(list)
    for index, annotation in enumerate(content.annotations):
        if annotation.image_id not in images:
            raise DataError(f"{path}: annotations.{index} is of image {annotation.image_id}, which is not listed")
        if annotation.category_id not in labels:
            category = names.get(annotation.category_id, "not listed in categories")
            raise DataError(
                f"{path}: annotations.{index} has category {annotation.category_id} ({category}), "
                "which is not among data.classes"
            )
        grouped[annotation.image_id].append(index)
    return grouped


def _make_truth(annotations: Sequence[Annotation], labels: Mapping[Id, int]) -> GroundTruth:
    boxes = np.array([annotation.bbox for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    areas = np.array([np.nan if a.area is None else a.area for a in annotations], dtype=np.float64)
    return make_ground_truth(
        boxes,
        np.array([labels[annotation.category_id] for annotation in annotations], dtype=np.int64),
        areas=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas),
        crowd=np.array([annotation.iscrowd != 0 for annotation in annotations], dtype=bool),
        ignored=np.array([annotation.ignore != 0 for annotation in annotations], dtype=bool),
    )


def _note_scoring_differences(path: Path, content: AnnotationFile, repairs: Repairs) -> None:
    """Note annotations that pycocotools would fail on or count differently."""
    if without := sum(annotation.area is None for annotation in content.annotations):
        repairs.scored.append(f"{path.name}: {without} annotations have no `area`; the area of their box is used")
    numbers = [annotation.id for annotation in content.annotations if annotation.id is not None]
    if 0 in numbers:
        repairs.scored.append(f"{path.name}: an annotation has id 0; pycocotools treats a match with it as no match")
    if repeated := len(numbers) - len(set(numbers)):
        repairs.note(str(path), f"{repeated} annotations have the id of another one; kept, ids are not used")
        repairs.scored.append(
            f"{path.name}: {repeated} annotations have the id of another one; all count here, one per id in pycocotools"
        )
