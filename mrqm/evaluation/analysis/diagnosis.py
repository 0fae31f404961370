"""Diagnosis of results with a score near zero: other readings of the file under which they fit.

The measure is the best IoU that each object has with a detection, averaged over objects: first with detections of any
class, to find the format of the boxes and the meaning of image ids; then with those of its own class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mrqm.evaluation.analysis.readings import BoxReading, box_readings, class_readings, image_readings
from mrqm.evaluation.protocols.matching import Array, overlaps
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections

SAMPLE = 2000
"""Number of objects in the sample, in images spread evenly over all."""
MOST_DETECTIONS = 500
"""Greatest number of detections taken from an image, the best ones."""
FITS, BETTER = 0.3, 2.0
"""Least mean IoU of an accepted reading, and least factor by which it exceeds that of the results as they are."""
CLOSE = 0.9
"""Least ratio of the IoU with objects of the same class to that with any, at which a meaning of classes is accepted."""
SHOWN = 3
"""Number of other readings that are shown."""


class Fit(NamedTuple):
    """One reading of the results, and the mean over objects of the best IoU."""

    what: str
    iou: float


@dataclass(frozen=True)
class Diagnosis:
    """Fit of results under several readings.

    Attributes:
        fits: fits of the results as they are, and of the best other readings.
        advice: most likely reading of the results, or the statement that no other fits better.
    """

    fits: tuple[Fit, ...]
    advice: str


def diagnose(records: Sequence[ImageRecord], detections: Sequence[Detections], classes: Sequence[str]) -> Diagnosis:
    """Try other readings of results.

    Args:
        records: annotated images.
        detections: detections in each image, in descending order of score, as read from the file.
        classes: class names in label order.

    Returns:
        The best readings, and advice.
    """
    sample = _Sample(records, detections)
    own: list[int | None] = list(range(len(records)))
    plain, *forms = box_readings({record.size for record in records})
    as_is = Fit(f"as they are: {plain.what}", sample.fit(plain, own))
    tried = [(Fit(form.what, sample.fit(form, own)), form, own) for form in forms]
    tried += [(Fit(what, sample.fit(plain, of)), plain, of) for what, of in image_readings(records).items()]
    tried.sort(key=lambda entry: -entry[0].iou)
    best, form, images = tried[0]
    accepted = _is_better(best, as_is)
    advice = [best.what] if accepted else []
    if not accepted:
        best, form, images = as_is, plain, own
    fits = [as_is, *(fit for fit, _, _ in tried[:SHOWN])]
    if best.iou >= FITS:
        of_class, other = _fit_classes(sample, form, images, classes)
        fits += [of_class, *other]
        if of_class.iou * BETTER <= best.iou:
            fitting = [fit.what for fit in other if fit.iou >= CLOSE * best.iou]
            confusion = sample.confuse(form, images, len(classes))
            advice.append(fitting[0] if fitting else _describe_classes(confusion, classes))
    reading = " and ".join(advice)
    conclusion = f"they fit if read as follows: {reading}" if reading else "no other reading fits better"
    return Diagnosis(tuple(fits), conclusion)


def _fit_classes(
    sample: _Sample, form: BoxReading, images: Sequence[int | None], classes: Sequence[str]
) -> tuple[Fit, list[Fit]]:
    """Compute the fit with objects of the same class, and of other meanings of classes, best first."""
    own = np.arange(len(classes))
    of_class = Fit("with objects of the same class only", sample.fit(form, images, own))
    others = [Fit(what, sample.fit(form, images, meant)) for what, meant in class_readings(classes).items()]
    return of_class, sorted(others, key=lambda fit: -fit.iou)


def _describe_classes(confusion: Array, classes: Sequence[str]) -> str:
    """Describe the class of the annotations that the detections of each class overlap most."""
    pairs = [
        f"{name} is {classes[int(row.argmax())]}"
        for name, row in zip(classes, confusion, strict=True)
        if row.any() and classes[int(row.argmax())] != name
    ]
    return f"classes are others ({', '.join(pairs)})" if pairs else "classes are others"


def _is_better(fit: Fit, than: Fit) -> bool:
    return fit.iou >= max(FITS, BETTER * than.iou)


class _Sample:
    """Sample of the images, with all objects in them that a detector has to detect."""

    def __init__(self, records: Sequence[ImageRecord], detections: Sequence[Detections]) -> None:
        self._records, self._detections = records, detections
        self._chosen = list(_choose(records))

    def fit(self, form: BoxReading, images: Sequence[int | None], meant: Array | None = None) -> float:
        """Average the best IoU over objects.

        Args:
            form: format of the boxes.
            images: position of the record whose detections each record has; None for no detections.
            meant: (C,) class that each label stands for, which has to be the object's; None counts detections of any
                class.

        Returns:
            The mean IoU; 0 without objects.
        """
        best = []
        for ious, found, objects in self._compare(form, images):
            counted = ious if meant is None else ious * (meant[found][:, None] == objects)
            best.append(counted.max(axis=0, initial=0))
        return float(np.concatenate(best).mean()) if best else 0.0

    def confuse(self, form: BoxReading, images: Sequence[int | None], num_classes: int) -> Array:
        """Sum the best IoUs by the class of the detection and that of the object, (C, C)."""
        sums = np.zeros((num_classes, num_classes))
        for ious, found, objects in self._compare(form, images):
            if len(found):
                np.add.at(sums, (found[ious.argmax(axis=0)], objects), ious.max(axis=0))
        return sums

    def _compare(self, form: BoxReading, images: Sequence[int | None]) -> Iterator[tuple[Array, Array, Array]]:
        """Yield IoUs (K, N), labels of detections (K,) and of objects (N,), of each image."""
        nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))
        for index in self._chosen:
            source, record = images[index], self._records[index]
            found = nothing if source is None else self._detections[source]
            truth = record.truth.take(record.truth.is_object)
            boxes = form.read(found.boxes_xywh[:MOST_DETECTIONS], record.size)
            ious = overlaps(boxes, truth.boxes_xywh, np.zeros(len(truth), dtype=bool))
            yield ious, found.labels[:MOST_DETECTIONS], truth.labels


def _choose(records: Sequence[ImageRecord]) -> Iterator[int]:
    """Yield the positions of images with objects, spread evenly, until there are enough objects."""
    there = [index for index, record in enumerate(records) if record.truth.is_object.any()]
    objects = sum(int(records[index].truth.is_object.sum()) for index in there)
    yield from there[:: max(1, objects // SAMPLE)]
