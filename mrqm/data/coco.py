"""COCO json beside its images, as exported by most annotation tools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import BaseModel, FiniteFloat, ValidationError

from mrqm.data.images import read_sizes
from mrqm.data.records import AnnotationSet, DataError, ImageRecord, Repairs, require_folder, require_none

_NAMES = ("_annotations.coco.json", "annotations.json")


class _Category(BaseModel):
    id: int
    name: str


class _Image(BaseModel):
    id: int
    file_name: str
    height: int | None = None
    width: int | None = None


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    iscrowd: int = 0


class _File(BaseModel):
    """The parts of a COCO file that detection needs; everything else is passed over."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(folder: Path, classes: tuple[str, ...] | None = None) -> AnnotationSet:
    """Read a folder with one COCO json and its images, beside it or under `images`.

    Categories are joined by name, so gaps in their numbers do not matter. Annotations with `iscrowd` become ignored
    regions: they cover several objects that nobody told apart.

    Args:
        folder: holds `_annotations.coco.json`, `annotations.json`, or one other json file.
        classes: names in label order, which the file's categories must match; None takes the categories that have
            annotations, in the order of their numbers (exports often list a supercategory that has none).

    Raises:
        DataError: no json or several, one that does not parse, missing images or images of another size than it says,
            references to images or categories that it does not list, or classes that do not match.
    """
    path = find_json(folder)
    content = _parse(path)
    classes = classes if classes is not None else _used_classes(path, content)
    labels = _label_of_category(path, content, classes)
    annotations = _annotations_of_image(path, content, labels)
    files = [_find_image(folder, image.file_name) for image in content.images]
    require_none([file for file in files if not file.is_file()], f"{path}: listed images that are not there")
    repairs = Repairs()
    records, unreadable = [], []
    for image, file, size in zip(content.images, files, read_sizes(files), strict=True):
        if size is None:
            unreadable.append(file)
            continue
        if None not in (image.height, image.width) and size != (image.height, image.width):
            raise DataError(
                f"{path}: says that {image.file_name} is {image.width}×{image.height} px, "
                f"but the image is {size[1]}×{size[0]} px; its boxes would not fit"
            )
        records.append(_make_record(file, image.id, size, annotations[image.id], labels, repairs))
    return AnnotationSet(classes, tuple(records), repairs, tuple(unreadable))


def read_coco_classes(folder: Path) -> tuple[str, ...]:
    """Names of the categories that have annotations, in the order of their numbers; raises as `read_coco`."""
    path = find_json(folder)
    return _used_classes(path, _parse(path))


def find_json(folder: Path) -> Path:
    """The COCO json of a folder; `DataError` if there is none, or more than one and none with a usual name."""
    require_folder(folder)
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: expected one COCO json or one named {' or '.join(_NAMES)}; found {names}")
    return found[0]


def _parse(path: Path) -> _File:
    try:
        content = _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "file"
        more = f" (and {error.error_count() - 1} more faults)" if error.error_count() > 1 else ""
        raise DataError(f"{path}: not a COCO annotation file: {where}: {fault['msg']}{more}") from error
    if not content.images:
        raise DataError(f"{path}: lists no images")
    if len({image.id for image in content.images}) != len(content.images):
        raise DataError(f"{path}: several images share an id")
    return content


def _used_classes(path: Path, content: _File) -> tuple[str, ...]:
    used = {annotation.category_id for annotation in content.annotations}
    names = [category.name for category in sorted(content.categories, key=lambda c: c.id) if category.id in used]
    if not names:
        raise DataError(f"{path}: no annotations, so no classes; name them with data.classes")
    return tuple(dict.fromkeys(names))


def _label_of_category(path: Path, content: _File, classes: tuple[str, ...]) -> dict[int, int]:
    """Labels by category number, for the categories among the classes."""
    known = {category.name for category in content.categories}
    missing = [name for name in classes if name not in known]
    if missing:
        raise DataError(
            f"{path}: no category named {', '.join(missing)}; data.classes must name the file's categories: "
            + ", ".join(sorted(known))
        )
    return {category.id: classes.index(category.name) for category in content.categories if category.name in classes}


def _annotations_of_image(path: Path, content: _File, labels: Mapping[int, int]) -> defaultdict[int, list[_Annotation]]:
    images = {image.id for image in content.images}
    names = {category.id: category.name for category in content.categories}
    grouped: defaultdict[int, list[_Annotation]] = defaultdict(list)
    for index, annotation in enumerate(content.annotations):
        if annotation.image_id not in images:
            raise DataError(f"{path}: annotations.{index} is of image {annotation.image_id}, which is not listed")
        if annotation.category_id not in labels:
            category = names.get(annotation.category_id, "not listed in categories")
            raise DataError(
                f"{path}: annotations.{index} has category {annotation.category_id} ({category}), "
                "which is not among data.classes"
            )
        grouped[annotation.image_id].append(annotation)
    return grouped


def _find_image(folder: Path, name: str) -> Path:
    beside = folder / name
    return beside if beside.is_file() else folder / "images" / name


def _make_record(
    file: Path,
    image_id: int,
    size: tuple[int, int],
    annotations: list[_Annotation],
    labels: Mapping[int, int],
    repairs: Repairs,
) -> ImageRecord:
    xywh = np.array([annotation.bbox for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    boxes, kept = repairs.clip(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), size)
    label = np.array([labels[annotation.category_id] for annotation in annotations], dtype=np.int64)[kept]
    is_crowd = np.array([annotation.iscrowd != 0 for annotation in annotations], dtype=bool)[kept]
    return ImageRecord(file, image_id, size, boxes[~is_crowd], label[~is_crowd], boxes[is_crowd], label[is_crowd])
