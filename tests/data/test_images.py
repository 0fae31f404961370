from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mrqm.data.images import ImageCache, UnreadableImageError, decode, read_sizes

Painted = Callable[..., NDArray[np.uint8]]


def save(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_sizes_are_height_and_width(tmp_path: Path, painted: Painted) -> None:
    assert read_sizes([save(tmp_path / "a.jpg", painted((30, 50)))]) == [(30, 50)]


def test_a_file_that_is_no_image_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not an image")
    assert read_sizes([tmp_path / "a.jpg", tmp_path / "absent.jpg"]) == [None, None]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_by_their_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    blocks = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", blocks, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    assert read_sizes([path]) == [(upright.height, upright.width)]
    np.testing.assert_array_equal(decode(path, (upright.height, upright.width)), upright)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, painted: Painted, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    Image.fromarray(painted((40, 60), [(0, 0, 30, 40)])).convert(mode).save(path)
    pixels = decode(path, (20, 30))
    assert pixels.shape == (20, 30, 3)
    assert pixels[10, 7].min() > 200
    assert pixels[10, 23].max() < 100


@pytest.mark.parametrize("size", [(101, 203), (102, 202), (103, 201)])
@pytest.mark.parametrize("scale", [0.5, 0.25, 0.3])
def test_reduced_decoding_equals_decoding_and_shrinking(tmp_path: Path, size: tuple[int, int], scale: float) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (9, 17, 3), dtype=np.uint8)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "a.jpg", quality=98)
    height, width = round(size[0] * scale), round(size[1] * scale)
    expected = np.asarray(
        Image.open(tmp_path / "a.jpg").resize((width, height), Image.Resampling.BILINEAR), dtype=float
    )
    pixels = decode(tmp_path / "a.jpg", (height, width))
    assert pixels.shape == (height, width, 3)
    assert np.abs(pixels - expected).mean() < 4


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", noise)
    path.write_bytes(path.read_bytes()[:2000])
    assert read_sizes([path]) == [(64, 64)]
    with pytest.raises(UnreadableImageError, match=r"a\.jpg: the image does not decode"):
        decode(path, (64, 64))


def test_the_cache_decodes_an_image_once(tmp_path: Path, painted: Painted) -> None:
    path = save(tmp_path / "a.png", painted((20, 30)))
    cache = ImageCache(1)
    assert cache.get(path, (20, 30)) is cache.get(path, (20, 30))


def test_the_cache_forgets_the_least_recently_used(tmp_path: Path, painted: Painted) -> None:
    size = (400, 400)  # 0.46 MiB each: two fit into one MiB
    a, b, c = (save(tmp_path / f"{name}.png", painted(size)) for name in "abc")
    cache = ImageCache(1)
    first, second = cache.get(a, size), cache.get(b, size)
    cache.get(a, size)
    cache.get(c, size)
    assert cache.get(a, size) is first
    assert cache.get(b, size) is not second


def test_a_cache_without_memory_still_decodes(tmp_path: Path, painted: Painted) -> None:
    path = save(tmp_path / "a.png", painted((20, 30)))
    cache = ImageCache(0)
    first = cache.get(path, (20, 30))
    assert first is not cache.get(path, (20, 30))
    np.testing.assert_array_equal(first, painted((20, 30)))
