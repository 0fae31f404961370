"""An exported file against PyTorch: the same windows of the same images through both.

Detections are paired by class and place, not by rank: those that score nearly alike may change places.
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
from mrqm.structures.detections import Detections

BATCH_SIZES = (1, 3)
SCORE_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.1
"""Px of the model's input."""
FAR = 2.0
"""Px; what is further apart is not the same detection."""


class OnnxError(UserError):
    """A file that ONNX does not accept, or that does not do what the model does."""


@dataclass
class Agreement:
    """How far ONNX Runtime and PyTorch are apart.

    Attributes:
        images: looked at, those of every batch size counted.
        detections: of PyTorch that were compared.
        unmatched: detections of either that the other does not have.
        scores, boxes: largest differences of the others; boxes in px of the model's input.
    """

    images: int = 0
    detections: int = 0
    unmatched: int = 0
    scores: float = 0.0
    boxes: float = 0.0

    @property
    def close(self) -> bool:
        """Whether the two agree, on something."""
        near = self.scores <= SCORE_TOLERANCE and self.boxes <= BOX_TOLERANCE
        return self.detections > 0 and not self.unmatched and near

    def add(self, expected: Detections, found: Detections) -> None:
        """Compare the detections of one image.

        What scores no more than the last that found room is left out: which of equals gets it is chance.
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


def _pairs(expected: Detections, found: Detections) -> Iterator[tuple[int, int]]:
    """Indices of detections that are the same, each in one pair: of a class, nearest first."""
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
        path: of the file.
        size: (height, width) of its batches.

    Raises:
        OnnxError: ONNX's checker or ONNX Runtime does not take the file.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        try:
            onnx.checker.check_model(str(path), full_check=True)
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, Fail, InvalidGraph) as error:
            raise OnnxError(f"{path}: the exported graph is not valid: {error}") from error
        self._size = size

    def __call__(self, batch: Batch) -> list[Detections]:
        """Detections of each image of a batch, in its px.

        Raises:
            OnnxError: ONNX Runtime cannot run the graph on it.
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
    """Look at windows, uint8 (3, H, W), through both, in batches of one and of three.

    Args:
        detector: on the CPU, in full precision.
        exported: the same model in ONNX.
        windows: at least three.
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
