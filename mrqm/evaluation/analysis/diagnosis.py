"""Why results that may be good score next to nothing: how well they would fit if they were read otherwise.

The measure is the best IoU that each object has with a detection, averaged over objects: first with detections of any
class, until it is clear what the boxes are and of which images; then with those of its own class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mrqm.evaluation.analysis.readings import BoxReading, box_readings, class_readings, image_readings
from mrqm.evaluation.protocols.matching import Array, overlaps
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import ImageDetections

SAMPLE = 2000
"""Objects that are looked at, in images taken evenly from all."""
MOST_DETECTIONS = 500
"""Of an image, the best."""
FITS, BETTER = 0.3, 2.0
"""A reading is believed that has at least this mean IoU, and at least so many times that of the results as they are."""
CLOSE = 0.9
"""A meaning of classes is believed under which objects are found by nearly as much as by detections of any class."""
SHOWN = 3
"""Other readings that are shown."""


class Fit(NamedTuple):
    """One reading of the results, and the mean over objects of the best IoU."""

    what: str
    iou: float


@dataclass(frozen=True)
class Diagnosis:
    """How well results fit.

    Attributes:
        fits: of the results as they are, and of the readings that fit best.
        advice: what the results most likely are; or that nothing fits better.
    """

    fits: tuple[Fit, ...]
    advice: str


def diagnose(
    records: Sequence[ImageRecord], detections: Sequence[ImageDetections], classes: Sequence[str]
) -> Diagnosis:
    """Try other readings of results.

    Args:
        records: annotated images.
        detections: what was found in each of them, by falling score, as it was read.
        classes: names in label order.

    Returns:
        Which readings fit best, and what to make of it.
    """
    sample = _Sample(records, detections)
    own: list[int | None] = list(range(len(records)))
    plain, *forms = box_readings({record.size for record in records})
    as_is = Fit(f"as they are: {plain.what}", sample.fit(plain, own))
    tried = [(Fit(form.what, sample.fit(form, own)), form, own) for form in forms]
    tried += [(Fit(what, sample.fit(plain, of)), plain, of) for what, of in image_readings(records).items()]
    tried.sort(key=lambda entry: -entry[0].iou)
    best, form, images = tried[0]
    believed = _is_better(best, as_is)
    advice = [best.what] if believed else []
    if not believed:
        best, form, images = as_is, plain, own
    fits = [as_is, *(fit for fit, _, _ in tried[:SHOWN])]
    if best.iou >= FITS:
        of_class, other = _fit_classes(sample, form, images, classes)
        fits += [of_class, *other]
        if of_class.iou * BETTER <= best.iou:
            fitting = [fit.what for fit in other if fit.iou >= CLOSE * best.iou]
            confusion = sample.confuse(form, images, len(classes))
            advice.append(fitting[0] if fitting else _describe_classes(confusion, classes))
    said = " and ".join(advice)
    return Diagnosis(tuple(fits), f"they fit if read so: {said}" if said else "no other reading fits better")


def _fit_classes(
    sample: _Sample, form: BoxReading, images: Sequence[int | None], classes: Sequence[str]
) -> tuple[Fit, list[Fit]]:
    """The fit with objects of the same class, and of other meanings of classes, best first."""
    own = np.arange(len(classes))
    of_class = Fit("so, with objects of the same class only", sample.fit(form, images, own))
    others = [Fit(what, sample.fit(form, images, meant)) for what, meant in class_readings(classes).items()]
    return of_class, sorted(others, key=lambda fit: -fit.iou)


def _describe_classes(confusion: Array, classes: Sequence[str]) -> str:
    """Which class of the annotations the detections of each class lie on most."""
    pairs = [
        f"{name} is {classes[int(row.argmax())]}"
        for name, row in zip(classes, confusion, strict=True)
        if row.any() and classes[int(row.argmax())] != name
    ]
    return f"classes are others ({', '.join(pairs)})" if pairs else "classes are others"


def _is_better(fit: Fit, than: Fit) -> bool:
    return fit.iou >= max(FITS, BETTER * than.iou)


class _Sample:
    """Some of the images, with all objects that are to be found in them."""

    def __init__(self, records: Sequence[ImageRecord], detections: Sequence[ImageDetections]) -> None:
        self._records, self._detections = records, detections
        self._chosen = list(_choose(records))

    def fit(self, form: BoxReading, images: Sequence[int | None], meant: Array | None = None) -> float:
        """Mean over objects of the best IoU.

        Args:
            form: of the boxes.
            images: for each record the position of the one whose detections it has; None for none.
            meant: the label that each label stands for, to be the object's; None: detections of any class count.
        """
        best = []
        for ious, found, objects in self._compare(form, images):
            counted = ious if meant is None else ious * (meant[found][:, None] == objects)
            best.append(counted.max(axis=0, initial=0))
        return float(np.concatenate(best).mean()) if best else 0.0

    def confuse(self, form: BoxReading, images: Sequence[int | None], num_classes: int) -> Array:
        """(C, C): best IoUs, summed by the class of the detection and that of the object."""
        sums = np.zeros((num_classes, num_classes))
        for ious, found, objects in self._compare(form, images):
            if len(found):
                np.add.at(sums, (found[ious.argmax(axis=0)], objects), ious.max(axis=0))
        return sums

    def _compare(self, form: BoxReading, images: Sequence[int | None]) -> Iterator[tuple[Array, Array, Array]]:
        """IoUs (K, N), labels of detections (K,) and of objects (N,), of each image."""
        nothing = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))
        for index in self._chosen:
            source, record = images[index], self._records[index]
            found = nothing if source is None else self._detections[source]
            truth = record.truth.take(record.truth.is_object)
            boxes = form.read(found.boxes_xywh[:MOST_DETECTIONS], record.size)
            ious = overlaps(boxes, truth.boxes_xywh, np.zeros(len(truth), dtype=bool))
            yield ious, found.labels[:MOST_DETECTIONS], truth.labels


def _choose(records: Sequence[ImageRecord]) -> Iterator[int]:
    """Positions of images with objects, spread evenly, until there are enough objects."""
    there = [index for index, record in enumerate(records) if record.truth.is_object.any()]
    objects = sum(int(records[index].truth.is_object.sum()) for index in there)
    yield from there[:: max(1, objects // SAMPLE)]
