"""Readers by annotation format."""

from __future__ import annotations

from pathlib import Path

from mrqm.config import DataFormat
from mrqm.data.formats.class_names import name_numbers
from mrqm.data.formats.coco import read_coco, read_coco_categories, read_coco_classes
from mrqm.data.formats.image_sizes import KnownSizes
from mrqm.data.formats.soda_d import SODA_CLASSES, read_soda
from mrqm.data.formats.visdrone import VISDRONE_CLASSES, read_visdrone
from mrqm.data.formats.yolo import find_names, read_yolo, read_yolo_classes
from mrqm.structures.annotations import AnnotationSet


def read_annotations(
    data_format: DataFormat, folder: Path, classes: tuple[str, ...] | None = None, sizes: KnownSizes | None = None
) -> AnnotationSet:
    """Read one split; see the format's reader for the layout of the folder and the errors.

    Args:
        data_format: annotation format of the split.
        folder: folder of the split.
        classes: class names in label order; None takes those of the format or the split.
        sizes: sizes of images that may be absent; None reads the images' headers.

    Returns:
        The annotations of the split.
    """
    read = {"visdrone": read_visdrone, "coco": read_coco, "soda-d": read_soda, "yolo": read_yolo}[data_format]
    return read(folder, classes, sizes)


def name_class_numbers(data_format: DataFormat, folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """List the names of a data set's own class numbers, in the order of the numbers.

    Args:
        data_format: annotation format of the data set.
        folder: folder of a split.
        classes: class names in label order, which also name the numbers where nothing else does.

    Returns:
        The names.

    Raises:
        DataError: the data's own names are not usable.
    """
    match data_format:
        case "visdrone":
            return name_numbers(VISDRONE_CLASSES, classes)
        case "soda-d":
            return name_numbers(SODA_CLASSES, classes)
        case "yolo" if find_names(folder):
            return read_yolo_classes(folder)
    return classes


def read_own_classes(data_format: DataFormat, folder: Path) -> tuple[str, ...]:
    """Read the class names, in label order, that the format prescribes or the data in a folder names.

    Args:
        data_format: annotation format of the data set.
        folder: folder of a split.

    Returns:
        The class names in label order.

    Raises:
        DataError: the data has to be read and cannot be.
    """
    match data_format:
        case "visdrone":
            return VISDRONE_CLASSES
        case "soda-d":
            return SODA_CLASSES
        case "coco":
            return read_coco_classes(folder)
        case "yolo":
            return read_yolo_classes(folder)


def read_scored_classes(data_format: DataFormat, folder: Path) -> tuple[str, ...]:
    """Read the class names, in label order, for scoring results in a folder: all that its annotations list.

    A training takes the categories that have objects; an evaluation also has to know those that only other data has.

    Args:
        data_format: annotation format of the data set.
        folder: folder of a split.

    Returns:
        The class names in label order.

    Raises:
        DataError: the data has to be read and cannot be.
    """
    return read_coco_categories(folder) if data_format == "coco" else read_own_classes(data_format, folder)
