"""A trained model as a function: an image of any size goes in, detections come out.

detector = mrqm.load("checkpoint")
detections = detector("street.jpg")
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from mrqm.checkpoint import load_checkpoint_config, load_model
from mrqm.config import Config
from mrqm.data import collate
from mrqm.data.tiling import Window, grid
from mrqm.engine import detect
from mrqm.models.mrqm import MRQM
from mrqm.postprocess import suppress

MERGE_IOU = 0.5
"""Detections of one class whose boxes overlap more are one object seen in two windows."""

Picture = str | Path | Image.Image | NDArray[np.uint8] | Tensor
Detections = dict[str, Tensor]


class Detector:
    """Looks at images the way the model was trained: at the same scale, through the same windows.

    Attributes:
        config: of the training run.
        classes: class names in label order.
    """

    def __init__(self, model: MRQM, config: Config, device: torch.device) -> None:
        assert config.data.classes is not None, "checkpoints name their classes"
        self.model, self.config, self.device = model.to(device).eval(), config, device
        self.classes = config.data.classes

    def __call__(self, image: Picture) -> Detections:
        """Detect.

        Args:
            image: a path, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W); RGB.

        Returns:
            `boxes` (k, 4) xyxy px of the image, `scores` (k,) and `labels` (k,), indices into `classes`; best first.

        Raises:
            ValueError: this is no image.
        """
        pixels = read_picture(image)
        scaled = self._scale(pixels)
        windows = iter(self._windows(scaled))
        found: list[Detections] = []
        while batch := list(islice(windows, self.config.evaluation.batch_size)):
            found += self._detect(scaled, batch)
        detections = self._merge(found)
        factor = torch.tensor(pixels.shape[:0:-1]) / torch.tensor(scaled.shape[:0:-1])  # width, height
        return detections | {"boxes": detections["boxes"] * factor.repeat(2)}

    def _scale(self, pixels: Tensor) -> Tensor:
        data = self.config.data
        factor = data.scale
        if data.tile is None and data.max_side is not None:
            factor = min(factor, data.max_side / max(pixels.shape[1:]))
        size = [max(1, round(side * factor)) for side in pixels.shape[1:]]
        return pixels if size == list(pixels.shape[1:]) else tv.resize(pixels, size, antialias=True)

    def _windows(self, scaled: Tensor) -> list[Window]:
        height, width = scaled.shape[1:]
        tile = self.config.data.tile
        return grid((height, width), tile.size, tile.overlap) if tile else [Window(0, 0, width, height)]

    def _detect(self, scaled: Tensor, windows: list[Window]) -> Iterator[Detections]:
        """Detections of some windows, in px of the scaled image."""
        cuts = [scaled[:, w.top : w.top + w.height, w.left : w.left + w.width] for w in windows]
        batch = collate([(cut, {"orig_size": torch.tensor(cut.shape[1:])}) for cut in cuts])
        assert batch is not None, "every window is readable"
        for window, detections in zip(windows, detect(self.model, batch, self.config, self.device), strict=True):
            offset = torch.tensor([window.left, window.top, window.left, window.top])
            yield detections | {"boxes": detections["boxes"] + offset}

    def _merge(self, found: list[Detections]) -> Detections:
        together = {name: torch.cat([part[name] for part in found]) for name in found[0]}
        if len(found) == 1:
            return together
        merged = suppress(together, MERGE_IOU)
        return {name: values[: self.config.evaluation.max_detections] for name, values in merged.items()}


def load(folder: str | Path, device: str | torch.device = "cpu") -> Detector:
    """A detector from a checkpoint folder.

    Raises:
        CheckpointError: the folder is no whole checkpoint.
    """
    folder = Path(folder)
    config = load_checkpoint_config(folder)
    return Detector(load_model(folder, config), config, torch.device(device))


def read_picture(image: Picture) -> Tensor:
    """A uint8 tensor (3, H, W) of whatever holds an image.

    Raises:
        ValueError: it is no image; the message names the file or the shape.
    """
    if isinstance(image, str | Path):
        path = image
        try:
            image = Image.open(path)
            image.load()
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"{path}: not a readable image: {error}") from error
    if isinstance(image, Image.Image):
        return tv.pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))
    channels_last = isinstance(image, np.ndarray)
    pixels = torch.from_numpy(image).permute(2, 0, 1) if isinstance(image, np.ndarray) and image.ndim == 3 else image
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) != 3:
        expected = "a uint8 array (H, W, 3)" if channels_last else "a uint8 tensor (3, H, W)"
        is_array = isinstance(image, np.ndarray | Tensor)
        raise ValueError(f"expected {expected}, got {f'{image.dtype} {tuple(image.shape)}' if is_array else image!r}")
    return pixels
