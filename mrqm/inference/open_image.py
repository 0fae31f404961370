"""Decoding of an image of any kind at the scale of the model's input, and the windows that a detector cuts from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from mrqm.data.images.decoding import Source, UnreadableImageError, decode, describe, read_size
from mrqm.data.images.resizing import Resize
from mrqm.data.images.tiling import grid
from mrqm.structures.window import Window

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8] | Tensor

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


def open_image(image: Picture, resize: Resize, tile_size: int | None = None, overlap: int = 0) -> OpenImage:
    """Decode an image.

    Args:
        image: a path, the content of a file, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W); RGB.
        resize: function from the native (height, width) in px to that of the model's input.
        tile_size: side of the windows in px of the model's input; None for one window, the whole image.
        overlap: overlap of neighbouring windows in px of the model's input.

    Returns:
        The decoded image with its windows.

    Raises:
        UnreadableImageError: the file does not decode.
        ValueError: the argument is no image.
    """
    if isinstance(image, str | Path | bytes):
        source = Path(image) if isinstance(image, str) else image
        size = _read_size(source)
        scaled = resize(size)
        pixels = decode(source, (min(size[0], scaled[0]), min(size[1], scaled[1])))
    else:
        pixels = _to_array(image)
        size = (pixels.shape[0], pixels.shape[1])
        scaled = resize(size)
    windows = grid(scaled, tile_size, overlap) if tile_size else [Window(0, 0, scaled[1], scaled[0])]
    return OpenImage(pixels, size, scaled, windows)


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
