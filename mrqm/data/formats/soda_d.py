"""SODA-D as released: `Annotations/{train,val,test}.json` and the images under `Images`.

Categories 1 to 9 are the classes; category 10, "ignore", marks regions that are not annotated.
"""

from __future__ import annotations

from pathlib import Path

from mrqm.data.formats.class_names import name_numbers
from mrqm.data.formats.coco_schema import Id, make_annotations, parse_json
from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.structures.annotations import IGNORED_REGION, AnnotationSet, DataError, Repairs, require_folder

SODA_CLASSES = (
    "people",
    "rider",
    "bicycle",
    "motor",
    "vehicle",
    "traffic-sign",
    "traffic-light",
    "traffic-camera",
    "warning-cone",
)
"""Categories 1 to 9 of SODA-D, in the order of their numbers."""

_IGNORE = 10


def read_soda(folder: Path, classes: tuple[str, ...] | None = None, sizes: KnownSizes | None = None) -> AnnotationSet:
    """Read one split of SODA-D's raw form.

    Annotations of category 10 become ignored regions, and annotations of a class with the `ignore` flag become ignored
    objects of that class. SODA-D has no crowds: `iscrowd` is not used, as in its own tools.

    Args:
        folder: `ROOT/train` selects the split of `ROOT/Annotations/train.json` and need not exist. The images
            are in `ROOT/Images`, or `ROOT/Images/train`.
        classes: class names in label order: SODA-D's nine in any order, or, of other data in this layout, the names of
            categories 1, 2, …; None takes SODA-D's nine.
        sizes: sizes of images that may be absent; None reads the images' headers.

    Returns:
        The annotations of the split.

    Raises:
        DataError: a folder or the json is missing, the json does not parse, an image is missing, or an annotation
            refers to an unknown image or category.
    """
    classes = classes if classes is not None else SODA_CLASSES
    if len(classes) >= _IGNORE:
        raise DataError(f"data.classes names {len(classes)} classes; SODA-D has {len(SODA_CLASSES)}")
    root, split = folder.parent, folder.name
    for part in (root, root / "Annotations", *([] if sizes else [root / "Images"])):
        require_folder(part)
    path = root / "Annotations" / f"{split}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))) or "none"
        raise DataError(f"{path}: no such file; splits that are there: {known}")
    content = parse_json(path)
    for annotation in content.annotations:
        annotation.iscrowd = 0
    own = name_numbers(SODA_CLASSES, classes)
    labels: dict[Id, int] = {_IGNORE: IGNORED_REGION, **{i: classes.index(name) for i, name in enumerate(own, start=1)}}
    files = [_find_image(root / "Images", split, image.file_name) for image in content.images]
    return make_annotations(path, content, files, classes, labels, Repairs(), sizes)


def _find_image(images: Path, split: str, name: str) -> Path:
    of_split = images / split / name
    return of_split if of_split.is_file() else images / name
