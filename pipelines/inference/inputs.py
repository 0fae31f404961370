"""Which images a command's words stand for, and what their results are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from glob import has_magic
from pathlib import Path

from mrqm.data.images.decoding import SUFFIXES
from mrqm.errors import UserError


class ImageListError(UserError):
    """Words that stand for no image."""


def find_images(words: Iterable[str]) -> list[Path]:
    """The images among files, folders with all below them, and glob patterns; each once, as absolute paths.

    Raises:
        ImageListError: a word stands for no image, or there are no words.
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
        return [path]  # whatever it is called: it was named
    if has_magic(word):
        return sorted(file for file in Path(path.anchor).glob(word.removeprefix(path.anchor)) if _is_image(file))
    raise ImageListError(f"{word}: no such file or folder")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def name_results(paths: Sequence[Path]) -> list[str]:
    """A name for each image's results, no two the same: its stem, and as many folders before it as that takes.

    Args:
        paths: absolute and different. Images that differ in their suffix alone keep it in their names.
    """
    stems = Counter(path.with_suffix("") for path in paths)
    parts = [(path if stems[path.with_suffix("")] > 1 else path.with_suffix("")).parts[1:] for path in paths]
    depths = [1] * len(paths)
    while True:
        names = ["__".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
        taken = Counter(name.casefold() for name in names)  # some file systems do not tell case
        longer = [taken[name.casefold()] > 1 and d < len(p) for name, d, p in zip(names, depths, parts, strict=True)]
        if not any(longer):
            return names
        depths = [depth + more for depth, more in zip(depths, longer, strict=True)]
