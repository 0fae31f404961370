"""Measure seconds and peak memory of scoring under each protocol, compared with plain pycocotools.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --images 137      a quarter of the images and the memory

The images are synthetic, of the size of VisDrone's validation set: 548 images with 70 objects of 10 classes, 3 ignored
regions and 500 detections each. Every protocol runs in a process of its own; its peak is that of the whole process,
next to the peak before scoring (imports and data). On a busy machine compare CPU seconds. Plain pycocotools counts 1,
10, 100 and 500 detections per class, S/M/L; the headline is that of 100.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mrqm.data.formats.visdrone import VISDRONE_CLASSES
from mrqm.evaluation import CocoProtocol, Protocol, SodaProtocol, VisDroneProtocol
from mrqm.evaluation.analysis.errors import decompose
from mrqm.evaluation.analysis.outcomes import find_outcomes
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections
from mrqm.structures.ground_truth import IGNORED_REGION, make_ground_truth

SIZE = (765, 1360)
OBJECTS, REGIONS, DETECTIONS = 70, 3, 500
PROTOCOLS: tuple[Protocol, ...] = (CocoProtocol(dense_limit=500), VisDroneProtocol(), SodaProtocol())
Data = tuple[list[ImageRecord], list[Detections]]


def make_image(image_id: int) -> tuple[ImageRecord, Detections]:
    """Make an image with objects of 6 to 60 px, about five detections for each, and half as many false positives."""
    rng = np.random.default_rng(image_id)
    boxes, labels = make_boxes(rng, OBJECTS, 6, 60), rng.integers(0, len(VISDRONE_CLASSES), OBJECTS)
    regions = make_boxes(rng, REGIONS, 50, 200)
    truth = make_ground_truth(
        np.concatenate([boxes, regions]), np.concatenate([labels, np.full(REGIONS, IGNORED_REGION)])
    )
    record = ImageRecord(Path(f"{image_id:07}.jpg"), image_id, SIZE, truth)
    chosen = rng.integers(0, OBJECTS, DETECTIONS * 2 // 3)
    near = boxes[chosen] + rng.normal(0, 2, (len(chosen), 4))
    near[:, 2:] = np.maximum(near[:, 2:], 1)
    strays = DETECTIONS - len(chosen)
    found = np.concatenate([near, make_boxes(rng, strays, 6, 60)])
    found_labels = np.concatenate([labels[chosen], rng.integers(0, len(VISDRONE_CLASSES), strays)])
    scores = rng.random(DETECTIONS)
    order = np.argsort(-scores)
    return record, Detections(found[order], scores[order], found_labels[order])


def make_boxes(rng: np.random.Generator, count: int, least: int, most: int) -> np.ndarray:
    """Draw boxes within an image.

    Args:
        rng: random generator.
        count: number of boxes N.
        least: least width and height in px.
        most: greatest width and height in px, exclusive.

    Returns:
        Boxes (N, 4), left, top, width and height in px.
    """
    left_top = rng.integers(0, [SIZE[1] - most, SIZE[0] - most], (count, 2))
    return np.concatenate([left_top, rng.integers(least, most, (count, 2))], axis=1).astype(np.float64)


def plain_pycocotools(records: Sequence[ImageRecord], detections: Sequence[Detections]) -> float:
    """Score with pycocotools alone, with ignored regions as crowds of every class.

    Args:
        records: images with their ground truth.
        detections: detections of each image.

    Returns:
        AP.
    """
    classes = range(len(VISDRONE_CLASSES))
    truth, results = [], []
    for record, found in zip(records, detections, strict=True):
        boxes, labels = record.truth.boxes_xywh.tolist(), record.truth.labels.tolist()
        pairs = [(box, label) for box, label in zip(boxes, labels, strict=True)]
        rows = [(box, k, label < 0) for box, label in pairs for k in ([label] if label >= 0 else classes)]
        truth += [annotation(record.image_id, box, k) | {"iscrowd": int(crowd)} for box, k, crowd in rows]
        rows = zip(found.boxes_xywh.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
        results += [annotation(record.image_id, box, k) | {"score": score} for box, k, score in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(make_coco(records, truth), make_coco(records, results), "bbox")
        evaluation.params.maxDets = [1, 10, 100, 500]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return float(precision[precision > -1].mean())


def annotation(image_id: int, box: Sequence[float], label: int) -> dict[str, object]:
    """Make one row of COCO's annotations or results.

    Args:
        image_id: id of the image.
        box: left, top, width and height in px.
        label: label of the class.

    Returns:
        The row, without id and score.
    """
    return {"image_id": image_id, "category_id": label, "bbox": box, "area": box[2] * box[3]}


def make_coco(records: Sequence[ImageRecord], annotations: list[dict[str, object]]) -> COCO:
    """Make the index of pycocotools.

    Args:
        records: images with their ground truth.
        annotations: rows of annotations or results, without ids.

    Returns:
        The index.
    """
    coco = COCO()
    coco.dataset = {
        "images": [{"id": record.image_id} for record in records],
        "categories": [{"id": label} for label in range(len(VISDRONE_CLASSES))],
        "annotations": [{"id": i, **row} for i, row in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def subjects() -> dict[str, Callable[[Data], float]]:
    """Return the functions to measure by their names in the table; each returns its headline."""
    scorers = {
        protocol.name: lambda data, protocol=protocol: protocol.score(*data, VISDRONE_CLASSES)["AP"]
        for protocol in PROTOCOLS
    }
    scorers["errors (TIDE)"] = lambda data: decompose(
        find_outcomes(*data, len(VISDRONE_CLASSES), PROTOCOLS[0].limit)
    ).mean_ap50[0]
    scorers["plain pycocotools"] = lambda data: plain_pycocotools(*data)
    return scorers


def measure(name: str, images: int) -> dict[str, float]:
    """Measure one function in this process.

    Args:
        name: name of the function.
        images: number of images.

    Returns:
        Seconds, CPU seconds, peak memory in MB before and after, and the headline.
    """
    made = [make_image(i) for i in range(images)]
    data = [record for record, _ in made], [found for _, found in made]
    before = peak()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    headline = subjects()[name](data)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    return {"seconds": seconds, "cpu": cpu_seconds, "before": before, "peak": peak(), "headline": headline}


def peak() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=548)
    parser.add_argument("--only", choices=tuple(subjects()), help="measure one here and print it as json")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.images)))
        return
    table = Table(
        "", "seconds", "CPU seconds", "peak MB", "before MB", "AP", box=SIMPLE, title=f"{arguments.images} images"
    )
    for name in subjects():
        command = [sys.executable, __file__, "--images", str(arguments.images), "--only", name]
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        table.add_row(name, *(f"{result[key]:.{digits}f}" for key, digits in COLUMNS.items()))
    Console().print(table)


COLUMNS = {"seconds": 1, "cpu": 1, "peak": 0, "before": 0, "headline": 3}

if __name__ == "__main__":
    main()
