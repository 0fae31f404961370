"""Which reader belongs to which format."""

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
    """Read one split; see the format's reader for what is in the folder and what is raised.

    Args:
        data_format: of the split.
        folder: that holds it.
        classes: names in label order; None takes the format's or the split's own.
        sizes: where sizes come from if images need not be there.
    """
    read = {"visdrone": read_visdrone, "coco": read_coco, "soda-d": read_soda, "yolo": read_yolo}[data_format]
    return read(folder, classes, sizes)


def name_class_numbers(data_format: DataFormat, folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a data set's own class numbers, in the order of the numbers.

    Args:
        folder: of a split.
        classes: names in label order, which also name the numbers where nobody else does.

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
    """Class names in label order that the format prescribes, or that the data in a folder names.

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
    """Class names in label order by which results for a folder are scored: all that its annotations list.

    A training takes the categories that have objects; an evaluation has to know those too that only other data has.

    Raises:
        DataError: the data has to be read and cannot be.
    """
    return read_coco_categories(folder) if data_format == "coco" else read_own_classes(data_format, folder)
