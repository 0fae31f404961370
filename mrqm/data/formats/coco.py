"""COCO json beside its images, as exported by most annotation tools and written by `mrqm prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrqm.data.formats.coco_schema import AnnotationFile, Id, id_order, make_annotations, parse_json
from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.data.images.decoding import SUFFIXES
from mrqm.structures.annotations import IGNORED_REGION, OTHER_OBJECT, AnnotationSet, DataError, Repairs, require_folder

_NAMES = ("_annotations.coco.json", "annotations.json")

MARKER = "mrqm"
"""Key of `info` in a prepared file, under which the numbers of `IGNORED_CATEGORIES` are listed."""
IGNORED_CATEGORIES = {"ignored region": IGNORED_REGION, "others": OTHER_OBJECT}
"""Labels of the categories in a prepared file that are no classes."""


def read_coco(folder: Path, classes: tuple[str, ...] | None = None, sizes: KnownSizes | None = None) -> AnnotationSet:
    """Read a folder with one COCO json and its images, beside it or under `images`.

    Categories are matched by name, so gaps in their numbers do not matter. Annotations with `iscrowd`, which
    cover a group of objects, or `ignore` become ignored boxes. In a prepared file the categories
    `ignored region` and `others` become ignored boxes of that kind.

    Args:
        folder: folder with `_annotations.coco.json`, `annotations.json`, or one other json file.
        classes: class names in label order, which the file's categories must match; None takes the categories that have
            annotations, in the order of their numbers (exports often list a supercategory that has none), or all
            classes of a prepared file.
        sizes: sizes of images that may be absent; None reads the images' headers.

    Returns:
        The annotations of the folder.

    Raises:
        DataError: no json or several, one that does not parse, missing images or images of another size than declared,
            images listed twice, references to images or categories that are not listed, or classes that do not match.
    """
    path, content = _parse_folder(folder)
    classes = classes if classes is not None else _file_classes(path, content)
    labels = _label_of_category(path, content, classes)
    files = [_find_image(folder, image.file_name) for image in content.images]
    repairs = Repairs()
    if unlisted := _find_unlisted(files):
        repairs.note(str(path), f"{len(unlisted)} images are not listed and not used, first {unlisted[0]}")
    return make_annotations(path, content, files, classes, labels, repairs, sizes)


def read_coco_classes(folder: Path) -> tuple[str, ...]:
    """List the names of the categories that have annotations, in the order of their numbers; raises as `read_coco`."""
    return _file_classes(*_parse_folder(folder))


def read_coco_categories(folder: Path) -> tuple[str, ...]:
    """List the names of all categories that are classes, with or without annotations; raises as `read_coco`."""
    _, content = _parse_folder(folder)
    ignored = _ignored_categories(content)
    listed = sorted(content.categories, key=lambda category: id_order(category.id))
    return tuple(dict.fromkeys(category.name for category in listed if category.id not in ignored))


def read_category_labels(folder: Path, classes: tuple[str, ...]) -> dict[Id, int | None]:
    """Map category ids to labels.

    Args:
        folder: folder of the split, as for `read_coco`.
        classes: class names in label order.

    Returns:
        The label of each category's id; None for those that are not among the classes.

    Raises:
        DataError: the json is missing or does not parse, or a class has no category.
    """
    path, content = _parse_folder(folder)
    labels = _label_of_category(path, content, classes)
    return {c.id: label if (label := labels.get(c.id, -1)) >= 0 else None for c in content.categories}


def find_json(folder: Path) -> Path:
    """Find the COCO json of a folder.

    Raises:
        DataError: there is none, or more than one and none with a usual name.
    """
    require_folder(folder)
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder}: expected one COCO json or one named {' or '.join(_NAMES)}; found {names}")
    return found[0]


def _parse_folder(folder: Path) -> tuple[Path, AnnotationFile]:
    """Parse the json of a folder and check that it names its categories."""
    path = find_json(folder)
    content = parse_json(path)
    if not content.categories:
        raise DataError(f"{path}: lists no categories, which name the numbers under category_id")
    return path, content


def _ignored_categories(content: AnnotationFile) -> dict[Id, int]:
    """Map category numbers to the labels of the ignored categories of a prepared file; empty for any other file."""
    marked = content.info.get(MARKER) if isinstance(content.info, dict) else None
    if not isinstance(marked, dict):
        return {}
    return {marked[name]: label for name, label in IGNORED_CATEGORIES.items() if name in marked}


def _file_classes(path: Path, content: AnnotationFile) -> tuple[str, ...]:
    ignored = _ignored_categories(content)
    used = {annotation.category_id for annotation in content.annotations}
    names = [
        category.name
        for category in sorted(content.categories, key=lambda c: id_order(c.id))
        if category.id not in ignored and (ignored or category.id in used)
    ]
    if not names:
        raise DataError(f"{path}: no annotations, so no classes; name them with data.classes")
    return tuple(dict.fromkeys(names))


def _label_of_category(path: Path, content: AnnotationFile, classes: tuple[str, ...]) -> dict[Id, int]:
    """Map category numbers to labels, for the categories among the classes and the ignored ones."""
    ignored = _ignored_categories(content)
    categories = [category for category in content.categories if category.id not in ignored]
    known = {category.name for category in categories}
    missing = [name for name in classes if name not in known]
    if missing:
        raise DataError(
            f"{path}: no category named {', '.join(missing)}: data.classes is {list(classes)}, and the file's "
            f"categories are {[category.name for category in categories]}; name these, in any order"
        )
    return ignored | {c.id: classes.index(c.name) for c in categories if c.name in classes}


def _find_image(folder: Path, name: str) -> Path:
    beside = folder / name
    return beside if beside.is_file() else folder / "images" / name


def _find_unlisted(files: Sequence[Path]) -> list[Path]:
    folders = {file.parent for file in files if file.is_file()}
    found = {path for folder in folders for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    return sorted(found - set(files))
