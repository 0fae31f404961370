"""The images that a command names, and the names of their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from glob import has_magic
from pathlib import Path

from mrqm.data.images.decoding import SUFFIXES
from mrqm.errors import UserError


class ImageListError(UserError):
    """A path or pattern without images."""


def find_images(words: Iterable[str]) -> list[Path]:
    """Find the images in files, folders with their subfolders, and glob patterns; each once, as absolute paths.

    Raises:
        ImageListError: a path or pattern has no images, or none is given.
    """
    images: dict[Path, None] = {}
    for word in words:
        found = [path.resolve() for path in _expand(word)]
        if not found:
            raise ImageListError(f"{word}: no images there; expected files ending in {', '.join(sorted(SUFFIXES))}")
        images |= dict.fromkeys(found)
    if not images:
        raise ImageListError("no images named: give files, folders or glob patterns")
    return list(images)


def _expand(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if _is_image(file))
    if path.is_file():
        return [path]  # named explicitly, so with any suffix
    if has_magic(word):
        return sorted(file for file in Path(path.anchor).glob(word.removeprefix(path.anchor)) if _is_image(file))
    raise ImageListError(f"{word}: no such file or folder")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def name_results(paths: Sequence[Path]) -> list[str]:
    """Make a unique name for each image's results: its stem, with as many parent folders as needed.

    Args:
        paths: absolute, distinct paths. Images that differ only in their suffix keep it in their names.
    """
    stems = Counter(path.with_suffix("") for path in paths)
    parts = [(path if stems[path.with_suffix("")] > 1 else path.with_suffix("")).parts[1:] for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["__".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
        taken = Counter(name.casefold() for name in names)  # some file systems ignore case
        longer = [taken[name.casefold()] > 1 and d < len(p) for name, d, p in zip(names, depths, parts, strict=True)]
        if not any(longer):
            return names
        depths = [depth + more for depth, more in zip(depths, longer, strict=True)]
