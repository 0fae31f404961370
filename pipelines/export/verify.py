"""Verification of an exported file against PyTorch, on the same windows of the same images.

Detections are paired by class and position, not by rank, since nearly equal scores may change their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, RuntimeException
from torch import Tensor

from mrqm.data import collate
from mrqm.errors import UserError
from mrqm.inference.detector import Detector
from mrqm.inference.postprocess import detect
from mrqm.structures.batch import Batch
from mrqm.structures.detections import DetectionTensors

BATCH_SIZES = (1, 3)
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.1
"""Maximum difference of box coordinates, in px of the model's input."""
FAR = 2.0
"""Distance in px from which on two boxes are different detections."""


class OnnxError(UserError):
    """A file that ONNX refuses, or that ONNX Runtime cannot run."""


@dataclass
class Agreement:
    """Differences between ONNX Runtime and PyTorch.

    Attributes:
        images: number of compared images, over all batch sizes.
        detections: number of compared detections of PyTorch.
        unmatched: number of detections of either without a counterpart.
        scores: largest difference of scores of matched detections.
        boxes: largest difference of their box coordinates, in px of the model's input.
    """

    images: int = 0
    detections: int = 0
    unmatched: int = 0
    scores: float = 0.0
    boxes: float = 0.0

    @property
    def close(self) -> bool:
        """True if the two agree on at least one detection."""
        near = self.scores <= SCORE_TOLERANCE and self.boxes <= BOX_TOLERANCE
        return self.detections > 0 and not self.unmatched and near

    def add(self, expected: DetectionTensors, found: DetectionTensors) -> None:
        """Compare the detections of one image.

        Detections with no higher score than the last of PyTorch's are skipped, since their selection among equals is
        arbitrary.

        Args:
            expected: detections of PyTorch.
            found: detections of ONNX Runtime.
        """
        floor = SCORE_TOLERANCE + (float(expected["scores"][-1]) if len(expected["scores"]) else 0.0)
        self.images += 1
        self.detections += int((expected["scores"] > floor).sum())
        pairs = list(_pairs(expected, found))
        for side, own in ((expected, {a for a, _ in pairs}), (found, {b for _, b in pairs})):
            self.unmatched += sum(i not in own and s > floor for i, s in enumerate(side["scores"].tolist()))
        for a, b in pairs:
            if max(expected["scores"][a], found["scores"][b]) > floor:
                self.scores = max(self.scores, float((expected["scores"][a] - found["scores"][b]).abs()))
                self.boxes = max(self.boxes, float((expected["boxes"][a] - found["boxes"][b]).abs().max()))


def _pairs(expected: DetectionTensors, found: DetectionTensors) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices of equal detections: of the same class, nearest first, each in one pair."""
    apart = (expected["boxes"].unsqueeze(1) - found["boxes"]).abs().amax(-1)
    apart = apart + 100 * (expected["scores"].unsqueeze(1) - found["scores"]).abs()
    apart = apart.masked_fill(expected["labels"].unsqueeze(1) != found["labels"], torch.inf)
    used_rows, used_columns = set(), set()
    near = (apart < FAR).nonzero()
    for index in apart[near[:, 0], near[:, 1]].argsort().tolist():
        row, column = near[index].tolist()
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            yield row, column


class OnnxDetector:
    """An exported file in ONNX Runtime, on the CPU.

    Args:
        path: ONNX file.
        size: (height, width) of its batches in px.

    Raises:
        OnnxError: ONNX's checker or ONNX Runtime refuses the file.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        try:
            onnx.checker.check_model(str(path), full_check=True)
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, Fail, InvalidGraph) as error:
            raise OnnxError(f"{path}: the exported graph is not valid: {error}") from error
        self._size = size

    def __call__(self, batch: Batch) -> list[DetectionTensors]:
        """Detect the objects of each image of a batch, with boxes in px of the image.

        Raises:
            OnnxError: ONNX Runtime cannot run the graph on the batch.
        """
        padded, _, targets = batch
        sizes = torch.stack([target["orig_size"] for target in targets])
        images = torch.zeros(len(padded), 3, *self._size, dtype=torch.uint8)
        images[:, :, : padded.shape[2], : padded.shape[3]] = padded[:, :, : self._size[0], : self._size[1]]
        try:
            outputs = self._session.run(None, {"images": images.numpy(), "sizes": sizes.numpy()})
        except (Fail, InvalidArgument, RuntimeException) as error:
            raise OnnxError(f"ONNX Runtime fails on a batch {tuple(images.shape)}: {error}") from error
        boxes, scores, labels = (torch.from_numpy(output) for output in outputs)
        kept = scores > 0
        return [
            {"boxes": boxes[i][kept[i]], "scores": scores[i][kept[i]], "labels": labels[i][kept[i]]}
            for i in range(len(kept))
        ]


def compare(detector: Detector, exported: OnnxDetector, windows: Sequence[Tensor]) -> Agreement:
    """Predict the same windows with both, in batches of one and of three, and compare the detections.

    Args:
        detector: detector on the CPU, in full precision.
        exported: the same model in ONNX Runtime.
        windows: three or more images, uint8 (3, H, W) each.

    Returns:
        Differences between the two.
    """
    agreement = Agreement()
    for size in BATCH_SIZES:
        for begin in range(0, len(windows) - size + 1, size):
            part = windows[begin : begin + size]
            batch = collate([(window, {"orig_size": torch.tensor(window.shape[1:])}) for window in part])
            expected = detect(detector.model, batch, detector.config, detector.device)
            for ours, theirs in zip(expected, exported(batch), strict=True):
                agreement.add(ours, theirs)
    return agreement
