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

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from mrqm.checkpoint.folder import load_checkpoint_config, load_model
from mrqm.checkpoint.lookup import find_checkpoint
from mrqm.config import Config
from mrqm.data import collate
from mrqm.data.images.decoding import Source, UnreadableImageError, decode, describe, read_size
from mrqm.data.images.resizing import build_resize
from mrqm.data.images.tiling import grid
from mrqm.inference.postprocess import detect
from mrqm.inference.tile_merging import merge
from mrqm.models.mrqm import MRQM
from mrqm.structures.detections import DetectionTensors, WindowDetections
from mrqm.structures.window import Window

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8] | Tensor

logger = logging.getLogger(__name__)

_MARGIN = 4  # px around a window that its resizing depends on


@dataclass(frozen=True)
class OpenImage:
    """Decoded image and the windows that are cut from it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, decoded at the scale of the model's input, but never larger than the file.
        size: native (height, width) in px.
        scaled_size: (height, width) in px at the scale of the model's input.
        windows: windows in px of the scaled image.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    scaled_size: tuple[int, int]
    windows: list[Window]

    def cut(self, window: Window) -> Tensor:
        """Cut a window as uint8 (3, height, width), with the pixels that resizing the whole image would give."""
        left, top, width, height = window
        y, x = self.pixels.shape[0] / self.scaled_size[0], self.pixels.shape[1] / self.scaled_size[1]
        if self.scaled_size == self.pixels.shape[:2]:
            part = self.pixels[top : top + height, left : left + width]
        else:
            reach_x, reach_y = int(_MARGIN * max(x, 1)), int(_MARGIN * max(y, 1))
            begin_x, begin_y = max(0, int(left * x) - reach_x), max(0, int(top * y) - reach_y)
            end_x, end_y = int((left + width) * x) + reach_x, int((top + height) * y) + reach_y
            source = Image.fromarray(self.pixels[begin_y:end_y, begin_x:end_x])
            box = (
                left * x - begin_x, top * y - begin_y,
                min((left + width) * x - begin_x, source.width), min((top + height) * y - begin_y, source.height),
            )  # fmt: skip
            part = np.asarray(source.resize((width, height), Image.Resampling.BILINEAR, box=box))
        return torch.from_numpy(np.array(part)).permute(2, 0, 1)


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
        if isinstance(image, str | Path | bytes):
            source = Path(image) if isinstance(image, str) else image
            size = _read_size(source)
            scaled = resize(size)
            pixels = decode(source, (min(size[0], scaled[0]), min(size[1], scaled[1])))
        else:
            pixels = _to_array(image)
            size = (pixels.shape[0], pixels.shape[1])
            scaled = resize(size)
        windows = grid(scaled, tile.size, tile.overlap) if tile else [Window(0, 0, scaled[1], scaled[0])]
        return OpenImage(pixels, size, scaled, windows)

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
        folder: folder of a checkpoint, of a run (its best checkpoint), or `RUN/last` (its newest).
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


def _read_size(source: Source) -> tuple[int, int]:
    if isinstance(source, Path) and not source.is_file():
        raise UnreadableImageError(f"{source}: no such file")
    size = read_size(source)
    if size is None:
        raise UnreadableImageError(f"{describe(source)}: the image does not decode: no image header")
    return size


def _to_array(image: Image.Image | NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """Convert an image in memory to (H, W, 3) uint8, or raise a `ValueError` that names type and shape."""
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, Tensor):
        pixels, axes, expected = image.cpu().numpy(), (1, 2, 0), "a uint8 tensor (3, H, W)"
    else:
        pixels, axes, expected = image, (0, 1, 2), "a uint8 array (H, W, 3)"
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"expected {expected}, got {pixels!r}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[axes[2]] != 3:
        raise ValueError(f"expected {expected}, got {pixels.dtype} {pixels.shape}")
    return pixels.transpose(axes)
