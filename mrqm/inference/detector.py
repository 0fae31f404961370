"""Trained model as a function from images of any size to detections.

detector = mrqm.load("checkpoint")
detections = detector("street.jpg")
for detections in detector.detect_many(sorted(Path("flight").glob("*.jpg"))):
    ...
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrqm.checkpoint.folder import load_checkpoint_config, load_model
from mrqm.checkpoint.lookup import find_checkpoint
from mrqm.config import Config
from mrqm.data import collate
from mrqm.data.images.resizing import build_resize
from mrqm.inference.open_image import OpenImage, Picture, open_image
from mrqm.inference.postprocess import detect
from mrqm.inference.tile_merging import merge
from mrqm.models.mrqm import MRQM
from mrqm.structures.detections import DetectionTensors, WindowDetections
from mrqm.structures.window import Window

logger = logging.getLogger(__name__)


def _warn_of_cut(left_out: int) -> None:
    logger.warning("%d more detections in an image than evaluation.max_detections_per_image are left out", left_out)


class Detector:
    """Detector that processes images as in training: at the same scale, in the same windows.

    Args:
        model: trained model, which is moved to the device.
        config: configuration of the training run with class names; `evaluation` sets view, limits and merging.
        device: device of the computation.

    Attributes:
        config: configuration of the training run.
        classes: class names in label order.
    """

    def __init__(self, model: MRQM, config: Config, device: torch.device) -> None:
        assert config.data.classes is not None, "checkpoints name their classes"
        self.model, self.config, self.device = model.to(device).eval(), config, device
        self.classes = config.data.classes

    def __call__(self, image: Picture) -> DetectionTensors:
        """Detect objects in one image.

        Args:
            image: a path, the content of a file, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W); RGB.

        Returns:
            `boxes` (k, 4) xyxy px of the image, `scores` (k,) and `labels` (k,), indices into `classes`; best first.

        Raises:
            UnreadableImageError: the file does not decode.
            ValueError: the argument is no image.
        """
        return next(self.detect_many([image]))

    def detect_many(self, images: Iterable[Picture]) -> Iterator[DetectionTensors]:
        """Yield the detections of each image, as by calling the detector, with small images sharing batches."""
        return self.detect_open(map(self.open, images))

    def detect_open(
        self,
        images: Iterable[OpenImage],
        on_share: Callable[[float], None] = lambda _: None,
        on_cut: Callable[[int], None] = _warn_of_cut,
    ) -> Iterator[DetectionTensors]:
        """Yield the detections of images opened by `open`, with one image and one batch of windows in memory at most.

        Args:
            images: images, best opened lazily.
            on_share: callback after every batch with the fraction of the newest image's windows that are done, up to 1.
            on_cut: callback before an image's detections with their number above `evaluation.max_detections_per_image`,
                if any are left out.

        Yields:
            The detections of each image, in the order of the images.
        """
        most = self.config.evaluation.batch_size
        waiting: list[tuple[Tensor, int, Window]] = []
        unmerged: dict[int, _Unmerged] = {}
        for number, image in enumerate(images):
            unmerged[number] = _Unmerged(image.size, image.scaled_size, len(image.windows), [])
            for position, window in enumerate(image.windows, 1):
                waiting.append((image.cut(window), number, window))
                if len(waiting) == most:
                    self._predict(waiting, unmerged)
                    waiting = []
                    on_share(position / len(image.windows))
            if waiting and len(image.windows) > most:  # finish a large image before the next is opened
                self._predict(waiting, unmerged)
                waiting = []
            yield from self._merge_complete(unmerged, on_cut)
        if waiting:
            self._predict(waiting, unmerged)
        yield from self._merge_complete(unmerged, on_cut)

    def open(self, image: Picture) -> OpenImage:
        """Decode an image for `detect_open`.

        Raises:
            UnreadableImageError: the file does not decode.
            ValueError: the argument is no image.
        """
        data = self.config.data
        tile = data.tile if self.config.evaluation.view == "sliced" else None
        resize = build_resize(data, tiled=tile is not None)
        return open_image(image, resize, tile.size, tile.overlap) if tile else open_image(image, resize)

    def _predict(self, waiting: Sequence[tuple[Tensor, int, Window]], unmerged: dict[int, _Unmerged]) -> None:
        """Detect objects in a batch of windows and add them to the images of the windows."""
        batch = collate([(cut, {"orig_size": torch.tensor(cut.shape[1:])}) for cut, _, _ in waiting])
        found = detect(self.model, batch, self.config, self.device)
        for (_, number, window), detections in zip(waiting, found, strict=True):
            offset = torch.tensor([window.left, window.top, window.left, window.top])
            placed = detections | {"boxes": detections["boxes"] + offset}
            unmerged[number].found.append(WindowDetections(window, placed))

    def _merge_complete(
        self, unmerged: dict[int, _Unmerged], on_cut: Callable[[int], None]
    ) -> Iterator[DetectionTensors]:
        """Remove the images whose windows are all done and yield their merged detections, in order."""
        settings = self.config.evaluation
        for number in [number for number, image in unmerged.items() if len(image.found) == image.windows]:
            image = unmerged.pop(number)
            merged = merge(image.found, settings.merge, settings.merge_iou)
            factor = torch.tensor(image.size[::-1]) / torch.tensor(image.scaled_size[::-1])  # width, height
            most = settings.max_detections_per_image
            if most is not None and (left_out := len(merged["scores"]) - most) > 0:
                on_cut(left_out)
                merged = {name: values[:most] for name, values in merged.items()}
            yield merged | {"boxes": merged["boxes"] * factor.repeat(2)}


@dataclass(frozen=True)
class _Unmerged:
    """Detections so far in the windows of an image, with its native and scaled size and its number of windows."""

    size: tuple[int, int]
    scaled_size: tuple[int, int]
    windows: int
    found: list[WindowDetections]


def load(folder: str | Path, device: str | torch.device = "cpu", overrides: Sequence[str] = ()) -> Detector:
    """Load a detector from a checkpoint folder.

    Args:
        folder: folder of a checkpoint, of a run (its best checkpoint), or `RUN/last` (its newest); `starter` is the
            small detector that comes with the package.
        device: device of the computation, such as `cuda`.
        overrides: `key.path=value` settings that replace the checkpoint's, such as `evaluation.merge=wbf`.

    Returns:
        The detector.

    Raises:
        CheckpointError, ConfigError: there is no complete checkpoint; an override is not allowed.
    """
    folder = find_checkpoint(folder)
    config = load_checkpoint_config(folder, tuple(overrides))
    return Detector(load_model(folder, config), config, torch.device(device))
