"""What was found in images, whoever found it: detections in memory and in the result files that benchmarks take.

COCO      one json:              [{"image_id": 7, "category_id": 1, "bbox": [left, top, width, height], "score": 0.9}]
VisDrone  one text per image:    left,top,width,height,score,category,-1,-1
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from mrqm.data.lines import read_lines
from mrqm.data.records import DataError, ImageRecord, require_none, xywh_to_xyxy, xyxy_to_xywh
from mrqm.data.visdrone import VISDRONE_CLASSES, parse_row
from mrqm.files import write_whole

DECIMALS = 4  # of px in result files
_FIELDS = "left,top,width,height,score,category,-1,-1"


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image.

    Attributes:
        boxes: (K, 4) float64 xyxy in native px.
        scores: (K,) float64, falling.
        labels: (K,) int64, 0-based.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]


class _Result(TypedDict):
    """One object of a COCO result file; whatever else it holds is passed over."""

    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    score: FiniteFloat


_RESULTS = TypeAdapter(list[_Result])


def read_coco_results(
    path: Path, records: Sequence[ImageRecord], labels: Mapping[int, int]
) -> tuple[ImageDetections, ...]:
    """Read a COCO result file.

    Args:
        path: a json list; an empty one says that nothing was found.
        records: the images that were looked at.
        labels: label of each category number.

    Returns:
        Detections of every record, by falling score; equal scores stay in the file's order.

    Raises:
        DataError: no file, an empty one or one that does not parse, NaN, negative sizes, or images or categories that
            the annotations do not have.
    """
    results = _parse_results(path)
    image_ids = np.array([result["image_id"] for result in results], dtype=np.int64)
    category_ids = np.array([result["category_id"] for result in results], dtype=np.int64)
    xywh = np.array([result["bbox"] for result in results], dtype=np.float64).reshape(-1, 4)
    scores = np.array([result["score"] for result in results], dtype=np.float64)
    _require_known(path, "image", image_ids, [record.image_id for record in records])
    _require_known(path, "category", category_ids, labels)
    if (negative := np.flatnonzero((xywh[:, 2:] < 0).any(axis=1))).size:
        index = int(negative[0])
        raise DataError(
            f"{path}: entry {index} has bbox {xywh[index].tolist()}; expected [left, top, width, height] in px"
        )
    order = np.lexsort((-scores, image_ids))
    image_ids, xywh, scores = image_ids[order], xywh[order], scores[order]
    label = np.array([labels[category] for category in category_ids[order].tolist()], dtype=np.int64)
    found = []
    for record in records:
        part = slice(*np.searchsorted(image_ids, [record.image_id, record.image_id + 1]))
        found.append(ImageDetections(xywh_to_xyxy(xywh[part]), scores[part], label[part]))
    return tuple(found)


def read_visdrone_results(
    folder: Path, records: Sequence[ImageRecord], classes: Sequence[str] = VISDRONE_CLASSES
) -> tuple[ImageDetections, ...]:
    """Read a folder of VisDrone result texts, one for each image and named like it.

    Args:
        folder: an empty text in it says that nothing was found in that image.
        records: the images that were looked at.
        classes: names of categories 1, 2, …

    Returns:
        Detections of every record, by falling score; equal scores stay in the file's order.

    Raises:
        DataError: texts that are missing or belong to no image, lines that do not parse, or unknown categories.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one text file per image")
    paths = [folder / f"{record.path.stem}.txt" for record in records]
    if len(set(paths)) != len(paths):
        raise DataError(f"{folder}: several images are named {Counter(paths).most_common(1)[0][0].stem}")
    missing = [path for path in paths if not path.is_file()]
    require_none(missing, f"{folder}: images without result file (an empty file would mean that nothing was found)")
    strangers = sorted(set(folder.glob("*.txt")) - set(paths))
    require_none(strangers, f"{folder}: result files of images that the annotations do not have")
    return tuple(_read_text(path, classes) for path in paths)


def write_coco_results(path: Path, detections: Mapping[int, ImageDetections], category_ids: Sequence[int]) -> None:
    """Write a COCO result file.

    Args:
        path: the json; a file that is there is replaced.
        detections: by image_id.
        category_ids: number of each label's category.
    """
    results = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for image_id, found in detections.items()
        for box, score, label in zip(_bboxes(found.boxes), found.scores.tolist(), found.labels.tolist(), strict=True)
    ]
    write_whole(path, json.dumps(results))


def write_visdrone_results(folder: Path, detections: Mapping[str, ImageDetections]) -> None:
    """Write VisDrone result texts, rows by falling score as its toolkit wants them; label 0 is category 1.

    Args:
        folder: is made; texts of the same names are replaced.
        detections: by the image file's stem; an image where nothing was found gets an empty text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stem, found in detections.items():
        order = np.argsort(-found.scores, kind="stable")
        rows = zip(_bboxes(found.boxes[order]), found.scores[order].tolist(), found.labels[order].tolist(), strict=True)
        lines = [_line(box, score, label + 1) for box, score, label in rows]
        (folder / f"{stem}.txt").write_text("".join(lines))


def _bboxes(boxes_xyxy: NDArray[np.float64]) -> list[list[float]]:
    return xyxy_to_xywh(boxes_xyxy).round(DECIMALS).tolist()


def _line(xywh: list[float], score: float, category: int) -> str:
    return ",".join([*(f"{value:.12g}" for value in xywh), str(score), str(category), "-1", "-1"]) + "\n"


def _parse_results(path: Path) -> list[_Result]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a json list of detections")
    content = path.read_bytes()
    if not content.strip():
        raise DataError(f"{path}: empty file; where nothing was found the file holds []")
    try:
        return _RESULTS.validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f" {part}" for part in fault["loc"])
        more = f" (and {error.error_count() - 1} more faults)" if error.error_count() > 1 else ""
        raise DataError(f"{path}: not a COCO result file: entry{where}: {fault['msg']}{more}") from error


def _require_known(path: Path, what: str, ids: NDArray[np.int64], known: Sequence[int] | Mapping[int, int]) -> None:
    """Raise `DataError` if results name an image or category that the annotations do not have."""
    unknown = ~np.isin(ids, np.array(list(known), dtype=np.int64))
    if unknown.any():
        index = int(np.flatnonzero(unknown)[0])
        raise DataError(
            f"{path}: {len(np.unique(ids[unknown]))} {what} ids that the annotations do not have, "
            f"first {what}_id {ids[index]} in entry {index}; are these results of the same data set?"
        )


def _read_text(path: Path, classes: Sequence[str]) -> ImageDetections:
    lines = read_lines(path)
    parsed = [_parse_line(path, number, line, classes) for number, line in enumerate(lines, start=1) if line.strip()]
    rows = np.array(parsed, dtype=np.float64).reshape(-1, 8)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return ImageDetections(xywh_to_xyxy(rows[:, :4]), rows[:, 4], rows[:, 5].astype(np.int64) - 1)


def _parse_line(path: Path, number: int, line: str, classes: Sequence[str]) -> list[float]:
    row = parse_row(f"{path}:{number}", line, _FIELDS)
    if min(row[2:4]) < 0:
        raise DataError(f"{path}:{number}: negative width or height in {line!r}; expected {_FIELDS} in px")
    if row[5] not in range(1, len(classes) + 1):
        names = ", ".join(f"{category} {name}" for category, name in enumerate(classes, start=1))
        raise DataError(f"{path}:{number}: unknown category {row[5]:g}; known are {names}")
    return row
