"""Sizes of images that may be absent, because scoring results against annotations needs no pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from mrqm.data.formats.text import read_lines
from mrqm.data.images.decoding import read_sizes
from mrqm.structures.annotations import DataError

Size = tuple[int, int]
"""(height, width) in px."""


class KnownSizes:
    """Sizes from a list, from annotations and, where neither has one, from the headers of images.

    Args:
        path: list of sizes: lines of name, width and height with commas or spaces between, or a json with `images` as
            COCO and `mrqm predict` write them; None for no list.

    Raises:
        DataError: the list does not parse.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        listed = list(_read_list(path)) if path else []
        self._listed = {PurePosixPath(name).stem: size for name, size in listed}
        self._listed |= {PurePosixPath(name).name: size for name, size in listed}

    def find(self, images: Sequence[Path], declared: Sequence[Size | None] | None = None) -> list[Size]:
        """Find the sizes of images.

        Args:
            images: paths of the images, which may be absent.
            declared: (height, width) in px of each image according to the annotations; None where they declare none.

        Returns:
            (height, width) in px of each image.

        Raises:
            DataError: the size of an image is unknown.
        """
        own = declared or [None] * len(images)
        sizes = [
            size or self._listed.get(image.name) or self._listed.get(image.stem)
            for image, size in zip(images, own, strict=True)
        ]
        unknown = [index for index, size in enumerate(sizes) if size is None]
        for index, size in zip(unknown, read_sizes([images[index] for index in unknown]), strict=True):
            sizes[index] = size
        if missing := [image for image, size in zip(images, sizes, strict=True) if size is None]:
            raise DataError(
                f"{missing[0]}: its size is in neither the annotations nor {self._path or 'a list (--sizes)'} nor the "
                f"image, nor are those of {len(missing) - 1} others; give --sizes FILE with lines of name,width,height"
            )
        return [size for size in sizes if size is not None]


def _read_list(path: Path) -> Iterator[tuple[str, Size]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected lines of name,width,height")
    lines = read_lines(path)
    if path.suffix.lower() == ".json":
        yield from _parse_json(path, "\n".join(lines))
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *sides = [part.strip() for part in (line.rsplit(",", 2) if "," in line else line.rsplit(None, 2))]
        if len(sides) == 2 and all(side.isascii() and side.isdecimal() and int(side) for side in sides):
            yield name, (int(sides[1]), int(sides[0]))
        elif number > 1 or any(character.isdecimal() for side in sides for character in side):  # no heading
            raise DataError(f"{path}:{number}: cannot read {line!r}; expected name,width,height")


def _parse_json(path: Path, text: str) -> Iterator[tuple[str, Size]]:
    try:
        for image in json.loads(text)["images"]:
            if image.get("height") and image.get("width"):
                yield image["file_name"], (int(image["height"]), int(image["width"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected `images` with file_name, width and height, as COCO has them") from error
