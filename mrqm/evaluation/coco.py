"""COCO average precision through pycocotools, with area bins and detections per image by choice, exact over workers."""

import contextlib
import io
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch import distributed as dist
from torchvision.ops import box_convert

Array = NDArray[Any]
ALL_AREAS = (0.0, 1e10)  # px², the bin of the headline figures


class _ImageResult(NamedTuple):
    """What one image contributes; boxes are float64 xywh in native px."""

    detection_boxes: Array  # (K, 4), by falling score
    detection_scores: Array  # (K,)
    detection_labels: Array  # (K,)
    object_boxes: Array  # (N, 4)
    object_labels: Array  # (N,)
    ignore_boxes: Array  # (M, 4)
    ignore_labels: Array  # (M,)


class CocoEvaluator:
    """Collects detections image by image and scores them by COCO's rules.

    IoU 0.50:0.05:0.95, 101 recall points, matching per image and class. Ignored boxes are crowds of their class, or of
    every class where they have none: a detection that lies in one is neither right nor wrong. An object's area is the
    area of its box.

    Args:
        classes: names in label order.
        area_bins: name → (least, most) area in px² of the native image, both inclusive.
        max_detections: highest-scoring detections per image and class that are counted.
    """

    def __init__(
        self, classes: Sequence[str], area_bins: Mapping[str, tuple[float, float]], max_detections: int
    ) -> None:
        self.classes = tuple(classes)
        self.area_bins = dict(area_bins)
        self.max_detections = max_detections
        self._images: dict[int, _ImageResult] = {}

    def update(self, detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add a batch of images.

        Args:
            detections: per image `boxes` (K, 4) xyxy in native px, `scores` (K,), `labels` (K,).
            targets: per image `boxes` (N, 4) and `ignore_boxes` (M, 4) normalised cxcywh, `labels` (N,),
                `ignore_labels` (M,), `image_id` (), `orig_size` (2,) height and width in native px.

        Raises:
            ValueError: an image_id comes a second time.
        """
        for detection, target in zip(detections, targets, strict=True):
            image_id = int(target["image_id"])
            if image_id in self._images:
                raise _repeated(image_id)
            height, width = target["orig_size"].tolist()
            self._images[image_id] = _ImageResult(
                box_convert(_float64(detection["boxes"]), "xyxy", "xywh").numpy(),
                _float64(detection["scores"]).numpy(),
                detection["labels"].cpu().numpy(),
                _native_xywh(target["boxes"], height, width),
                target["labels"].cpu().numpy(),
                _native_xywh(target["ignore_boxes"], height, width),
                target["ignore_labels"].cpu().numpy(),
            )

    def compute(self) -> dict[str, float]:
        """Score the images of all ranks; where torch.distributed runs, every rank calls this and gets the same figures.

        Returns:
            `AP`, `AP50`, `AP75`, `AP_<bin>` for every area bin, `AR` (recall averaged over IoU and classes) and
            `AP/<class>`, in [0, 1]; NaN where there is no object to find.

        Raises:
            ValueError: two ranks saw the same image_id.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self._score(self._images)
        self._refuse_shared_images()
        parts: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(self._images, parts)
        metrics = [self._score(dict(ChainMap(*parts))) if parts else {}]
        dist.broadcast_object_list(metrics)
        return metrics[0]

    def _refuse_shared_images(self) -> None:
        """Every rank looks at all ranks' ids, so that all stop together and none waits for ever."""
        ids: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(ids, list(self._images))
        for image_id, times in Counter(chain.from_iterable(ids)).items():
            if times > 1:
                raise _repeated(image_id)

    def _score(self, images: Mapping[int, _ImageResult]) -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            evaluation = _SparseCOCOeval(
                self._coco(images, self._objects(images)), self._coco(images, _detections(images)), "bbox"
            )
            evaluation.params.maxDets = [self.max_detections]
            evaluation.params.areaRng = [ALL_AREAS, *self.area_bins.values()]
            evaluation.params.areaRngLbl = ["all", *self.area_bins]
            evaluation.evaluate()
            evaluation.accumulate()
        # pycocotools' own summarize() knows only its default maxDets and areas.
        precision = evaluation.eval["precision"][..., 0]  # (IoU, recall, class, area)
        recall = evaluation.eval["recall"][..., 0]  # (IoU, class, area)
        metrics = {
            "AP": _mean(precision[..., 0]),
            "AP50": _mean(precision[0, ..., 0]),
            "AP75": _mean(precision[5, ..., 0]),
        }
        metrics |= {f"AP_{name}": _mean(precision[..., i]) for i, name in enumerate(self.area_bins, start=1)}
        metrics["AR"] = _mean(recall[..., 0])
        return metrics | {f"AP/{name}": _mean(precision[:, :, k, 0]) for k, name in enumerate(self.classes)}

    def _coco(self, images: Iterable[int], annotations: list[dict[str, Any]]) -> COCO:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id} for image_id in images],
            "categories": [{"id": label, "name": name} for label, name in enumerate(self.classes)],
            # ids from 1: pycocotools takes a match with id 0 for no match
            "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
        }
        coco.createIndex()
        return coco

    def _objects(self, images: Mapping[int, _ImageResult]) -> list[dict[str, Any]]:
        annotations = []
        for image_id, image in images.items():
            for box, label in zip(image.object_boxes.tolist(), image.object_labels.tolist(), strict=True):
                annotations.append(_annotation(image_id, label, box, crowd=False))
            for box, label in zip(image.ignore_boxes.tolist(), image.ignore_labels.tolist(), strict=True):
                crowd_of = [label] if label >= 0 else range(len(self.classes))
                annotations += [_annotation(image_id, k, box, crowd=True) for k in crowd_of]
        return annotations


class _SparseCOCOeval(COCOeval):
    """COCOeval that compares only the pairs that overlap: the same matches, many times faster in dense images."""

    def evaluateImg(  # noqa: N802 - pycocotools' name
        self, image_id: int, label: int, area: Sequence[float], limit: int
    ) -> dict[str, Any] | None:
        """Match one image's detections of one class; returns the entries that `accumulate` reads, by falling score."""
        objects, found = self._gts[image_id, label], self._dts[image_id, label]
        if not objects and not found:
            return None
        found = sorted(found, key=lambda d: -d["score"])[:limit]  # stable, as in computeIoU
        least, most = area
        ignored = np.array([o["iscrowd"] or not least <= o["area"] <= most for o in objects], dtype=bool)
        order = np.argsort(ignored, kind="stable")  # objects that count come first
        ignored, crowd = ignored[order], np.array([o["iscrowd"] for o in objects], dtype=bool)[order]
        ious = np.asarray(self.ious[image_id, label]).reshape(len(found), len(objects))[:, order]
        matches = _match(ious, self.params.iouThrs, ignored, crowd)
        matched = matches >= 0
        outside = np.array([not least <= d["area"] <= most for d in found], dtype=bool)
        costs_nothing = ~matched & outside
        costs_nothing[matched] = ignored[matches[matched]]
        return {
            "dtScores": [d["score"] for d in found],
            "dtMatches": matched,
            "dtIgnore": costs_nothing,
            "gtIgnore": ignored,
        }


def _match(ious: Array, thresholds: Array, ignored: Array, crowd: Array) -> Array:
    """COCO's greedy matching.

    Args:
        ious: (D, G), detections by falling score, ignored objects last.
        thresholds: (T,) rising.
        ignored: (G,) objects that do not count.
        crowd: (G,) objects that any number of detections may match.

    Returns:
        (T, D) index of the object that each detection matches, -1 for none.
    """
    candidates: dict[int, list[tuple[int, float]]] = {}
    for d, g in zip(*(indices.tolist() for indices in np.nonzero(ious >= thresholds[0])), strict=True):
        candidates.setdefault(d, []).append((g, ious.item(d, g)))
    is_ignored, is_crowd = ignored.tolist(), crowd.tolist()
    matches = np.full((len(thresholds), len(ious)), -1)
    for t, threshold in enumerate(np.minimum(thresholds, 1 - 1e-10).tolist()):
        taken: set[int] = set()
        for d, overlaps in candidates.items():
            best, best_iou = -1, threshold
            for g, iou in overlaps:
                if iou < best_iou or (g in taken and not is_crowd[g]):
                    continue
                if best >= 0 and is_ignored[g] and not is_ignored[best]:
                    break  # an object that counts is preferred to any ignored one
                best, best_iou = g, iou
            if best >= 0:
                matches[t, d] = best
                taken.add(best)
    return matches


def _detections(images: Mapping[int, _ImageResult]) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": label, "bbox": box, "area": box[2] * box[3], "score": score}
        for image_id, image in images.items()
        for box, score, label in zip(
            image.detection_boxes.tolist(),
            image.detection_scores.tolist(),
            image.detection_labels.tolist(),
            strict=True,
        )
    ]


def _annotation(image_id: int, label: int, box: list[float], crowd: bool) -> dict[str, Any]:
    # To a tenth of a px²: normalised float32 boxes must not push an object of exactly 32×32 px over its bin's border.
    area = round(box[2] * box[3], 1)
    return {"image_id": image_id, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}


def _native_xywh(boxes: Tensor, height: int, width: int) -> Array:
    """Normalised cxcywh (N, 4) → float64 xywh (N, 4) in native px."""
    scale = _float64(boxes).new_tensor([width, height, width, height])
    return box_convert(_float64(boxes) * scale, "cxcywh", "xywh").numpy()


def _float64(values: Tensor) -> Tensor:
    return values.detach().cpu().double()


def _mean(values: Array) -> float:
    """Mean of the entries that pycocotools filled; -1 marks classes and areas without objects."""
    filled = values[values > -1]
    return float(filled.mean()) if filled.size else float("nan")


def _repeated(image_id: int) -> ValueError:
    return ValueError(
        f"image_id {image_id} was evaluated twice; every item of the data set needs its own image_id "
        "and must be seen by one rank only"
    )
