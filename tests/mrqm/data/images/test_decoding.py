from __future__ import annotations

import errno
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mrqm.data.images import decoding as images
from mrqm.data.images.decoding import Columns, ImageCache, UnreadableImageError, decode, read_sizes

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


def remember(cache: ImageCache, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read the whole image through the cache."""
    whole = Columns(0, size[1])
    return cache.get(path, size, [whole])[whole]


def test_the_cache_decodes_an_image_once(tmp_path: Path, painted: Painted) -> None:
    path = save(tmp_path / "a.png", painted((20, 30)))
    cache = ImageCache(1)
    assert remember(cache, path, (20, 30)) is remember(cache, path, (20, 30))


def test_the_cache_forgets_the_least_recently_used(tmp_path: Path, painted: Painted) -> None:
    size = (400, 400)  # 0.46 MiB each: two fit into one MiB
    a, b, c = (save(tmp_path / f"{name}.png", painted(size)) for name in "abc")
    cache = ImageCache(1)
    first, second = remember(cache, a, size), remember(cache, b, size)
    remember(cache, a, size)
    remember(cache, c, size)
    assert remember(cache, a, size) is first
    assert remember(cache, b, size) is not second


def test_columns_that_overlap_count_twice(tmp_path: Path, painted: Painted) -> None:
    size, columns = (400, 400), [Columns(0, 300), Columns(100, 300)]  # 0.69 MiB: one fits into one MiB
    a, b = (save(tmp_path / f"{name}.png", painted(size)) for name in "ab")
    cache = ImageCache(1)
    first = cache.get(a, size, columns)
    cache.get(b, size, columns)
    assert cache.get(a, size, columns) is not first


def test_the_cache_keeps_the_columns_that_are_wanted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    columns = [Columns(0, 12), Columns(10, 20)]
    strips = ImageCache(1).get(save(tmp_path / "a.png", pixels), (20, 30), columns)
    assert list(strips) == columns
    np.testing.assert_array_equal(strips[columns[1]], pixels[:, 10:].transpose(2, 0, 1))


def test_a_cache_without_memory_still_decodes(tmp_path: Path, painted: Painted) -> None:
    path = save(tmp_path / "a.png", painted((20, 30)))
    cache = ImageCache(0)
    first = remember(cache, path, (20, 30))
    assert first is not remember(cache, path, (20, 30))
    np.testing.assert_array_equal(first.transpose(1, 2, 0), painted((20, 30)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("size", [(4, 256), (2, 128)])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    ramp = np.arange(256, dtype=np.uint16).repeat(2)[None, ::2].repeat(4, axis=0) * 257
    path = save(tmp_path / f"a{suffix}", ramp)
    expected = np.array(Image.fromarray((ramp >> 8).astype(np.uint8)).resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode(path, size), expected[..., None].repeat(3, axis=2))


def test_16_bit_rgb_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    pixels = np.array([[[0x0000, 0x12FF, 0xFFFF], [0x8000, 0x7FFF, 0x0100]]], dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(_png_16_bit_rgb(pixels))
    np.testing.assert_array_equal(decode(path, (1, 2)), pixels >> 8)


def test_32_bit_images_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.ones((3, 4), dtype=np.float32))
    with pytest.raises(UnreadableImageError, match=r"a\.tif: .*convert the image to 8 or 16 bits"):
        decode(path, (3, 4))


def test_colours_survive_every_mode(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8).repeat(8, 1)
    colours = colours.repeat(16, 0)
    for mode in ("P", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.tif"
        Image.fromarray(colours).convert(mode).save(path)
        np.testing.assert_array_equal(decode(path, (16, 32)), colours)


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    pixels = np.full((4, 5, 4), (10, 200, 30, 0), dtype=np.uint8)
    assert (decode(save(tmp_path / "a.png", pixels), (4, 5)) == (10, 200, 30)).all()


def test_strips_join_to_the_whole_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (37, 23, 3), dtype=np.uint8)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 23 * 5)
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", noise), (37, 23)), noise)


@pytest.mark.slow
def test_a_huge_image_is_read_within_five_bytes_a_pixel(tmp_path: Path) -> None:
    Image.new("1", (14_000, 14_000), 1).save(tmp_path / "a.png")  # Pillow alone refuses more than 179 million px
    code = (
        "import resource, sys; from pathlib import Path; from mrqm.data.images.decoding import decode, read_sizes\n"
        "path = Path(sys.argv[1]); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert read_sizes([path]) == [(14_000, 14_000)]; pixels = decode(path, (14_000, 14_000))\n"
        "assert pixels[::4999, ::4999].min() == 255\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.png")], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    assert int(result.stdout) * 1024 < 5 * 14_000**2


def test_an_image_beyond_the_limit_is_refused_with_what_to_do(
    tmp_path: Path, painted: Painted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    path = save(tmp_path / "a.png", painted((20, 30)))
    with pytest.raises(UnreadableImageError, match=r"a\.png: .*30×20 px are more than 500; cut it into parts"):
        decode(path, (20, 30))


def test_the_cache_keeps_a_single_image_that_exceeds_it(tmp_path: Path, painted: Painted) -> None:
    size = (700, 700)  # 1.4 MiB
    a, b = save(tmp_path / "a.png", painted(size)), save(tmp_path / "b.png", painted((20, 30)))
    cache = ImageCache(1)
    first = remember(cache, a, size)
    assert remember(cache, a, size) is first
    remember(cache, b, (20, 30))
    assert remember(cache, a, size) is not first


def test_the_cache_finishes_an_image_once(tmp_path: Path, painted: Painted) -> None:
    finished: list[int] = []
    cache = ImageCache(1)
    for _ in range(2):
        path = save(tmp_path / "a.png", painted((20, 30)))
        cache.get(path, (20, 30), [Columns(0, 30)], lambda pixels: finished.append(pixels.size))
    assert finished == [1800]


def _png_16_bit_rgb(pixels: NDArray[np.uint16]) -> bytes:
    """Write a PNG of 16 bits per channel, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_an_image_is_not_to_blame_for_a_file_system_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every image would be passed over as one that does not decode."""

    def away(source: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", str(source))

    monkeypatch.setattr("mrqm.data.images.decoding.Image.open", away)
    with pytest.raises(OSError, match="Stale file handle"):
        decode(tmp_path / "x.jpg", (8, 8))
