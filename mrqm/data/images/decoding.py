"""Image files: sizes from headers, decoding at a reduced scale, and a bounded cache of decoded images."""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mrqm.structures.annotations import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""Lower-case suffixes of image files."""

MAX_PIXELS = 2**30
"""Greatest number of pixels (32,768 × 32,768 px): as an array they take 3 GiB, and while decoding 7 GiB."""

_DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors that Pillow raises for files that are not, or not wholly, images."""
_AWAY = (
    errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EREMOTEIO,
)  # fmt: skip
"""Errors of an unreachable file system, as opposed to damaged images."""

_STRIP_PIXELS = 2**22

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that turns an image of an EXIF orientation upright; 1 is upright."""


Source = Path | bytes
"""Image file, or its content."""


class Columns(NamedTuple):
    """Neighbouring columns of px of an image."""

    left: int
    width: int


Strips = dict[Columns, NDArray[np.uint8]]
"""Pixels of an image by its columns, each (3, height, width)."""


class UnreadableImageError(DataError):
    """An image that does not decode."""


def read_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Read (height, width) of images from their headers; None where a header cannot be read."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(read_size, paths))


def read_size(source: Source) -> tuple[int, int] | None:
    """Read (height, width) of an image from its header; None where that cannot be read."""
    try:
        with _open(source) as image:
            return image.size if _orientation(image) >= 5 else (image.height, image.width)
    except _DECODING_ERRORS:
        return None


def _open(source: Source) -> Image.Image:
    with _pixel_limit:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)


class _PixelLimit:
    """Pillow's limit of px, which holds for the whole process, raised while files are opened in any thread."""

    def __init__(self) -> None:
        self._lock, self._opening, self._former = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            if not self._opening:
                self._former, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
            self._opening += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._opening -= 1
            if not self._opening:
                Image.MAX_IMAGE_PIXELS = self._former


_pixel_limit = _PixelLimit()


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 5 and above exchange width and height."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to look for a late chunk
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def decode(source: Source, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode an image upright and in RGB, resized to (height, width).

    16 bits per channel become 8 by their high byte, CMYK and palettes become RGB, and alpha is left out. A JPEG that is
    to be shrunk is decoded at the next larger of 1/2, 1/4 and 1/8 by libjpeg, which is much faster.

    Args:
        source: image file, or its content.
        size: (height, width) of the result in px.

    Returns:
        (height, width, 3) uint8.

    Raises:
        UnreadableImageError: the image does not decode, is larger than `MAX_PIXELS`, or has no defined white.
        OSError: its file system is unreachable.
    """
    try:
        with _open(source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} px are more than {MAX_PIXELS:,}; cut it into parts")
            orientation = _orientation(image)
            width, height = size if orientation >= 5 else size[::-1]
            # One px less than wanted: libjpeg and round() may disagree on half of 1363 px, 681.5.
            reduced = image.draft("RGB", (max(1, width - 1), max(1, height - 1)))
            # The last px of a reduced image may lie half beyond the image; the box ends where the image does.
            box = reduced[1] if reduced else (0, 0, *image.size)
            image.load()
            if image.size == (width, height) == box[2:] and orientation == 1:
                return _read_strips(image)
            rgb = _to_rgb(image)
            if rgb.size != (width, height) or box[2:] != rgb.size:
                rgb = rgb.resize((width, height), Image.Resampling.BILINEAR, box=box)
            return np.array(rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb)
    except _DECODING_ERRORS as error:
        if isinstance(error, OSError) and error.errno in _AWAY:
            raise
        raise UnreadableImageError(f"{describe(source)}: the image does not decode: {error}") from error


def describe(source: Source) -> str:
    """Name an image in an error: its path, or the size of its content."""
    return f"{len(source):,} bytes" if isinstance(source, bytes) else str(source)


def _read_strips(image: Image.Image) -> NDArray[np.uint8]:
    """Read the RGB pixels of an image some rows at a time, so that a huge one is not held twice more."""
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(_to_rgb(strip))
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):  # older Pillow clips these at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"{image.mode} px of 32 bits have no defined white; convert the image to 8 or 16 bits")
    return image.convert("RGB")


class ImageCache:
    """Cache of decoded images of one process; the least recently used are removed first.

    Args:
        megabytes: greatest memory in MiB; 0 keeps none. A single larger image is kept until the next,
            so that its tiles can be cut one after the other.
    """

    def __init__(self, megabytes: int) -> None:
        self._capacity = megabytes * 2**20
        self._used = 0
        self._images: OrderedDict[Path, Strips] = OrderedDict()

    def get(
        self,
        path: Path,
        size: tuple[int, int],
        columns: Sequence[Columns],
        finish: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> Strips:
        """Decode an image through the cache; see `decode`.

        Args:
            path: image file.
            size: (height, width) of the decoded image in px.
            columns: wanted parts of the image; always the same for one path.
            finish: function that changes a freshly decoded image (height, width, 3) in place; always the same for one
                path.

        Returns:
            Pixels (3, height, width) uint8 of each part, shared and not to be written to. Planar colours make cutting
            windows much faster than interleaved ones, and windows as wide as a part are three times as fast as others.
        """
        strips = self._images.get(path)
        if strips is not None:
            self._images.move_to_end(path)
            return strips
        image = decode(path, size)
        if finish is not None:
            finish(image)
        planes = image.transpose(2, 0, 1)
        strips = {part: np.ascontiguousarray(planes[:, :, part.left : part.left + part.width]) for part in columns}
        if self._capacity == 0:
            return strips
        self._used += _bytes(strips)
        self._images[path] = strips
        while self._used > self._capacity and len(self._images) > 1:
            _, forgotten = self._images.popitem(last=False)
            self._used -= _bytes(forgotten)
        return strips

    def clear(self) -> None:
        """Forget all images."""
        self._images.clear()
        self._used = 0


def _bytes(strips: Strips) -> int:
    return sum(strip.nbytes for strip in strips.values())
