"""Splits of a data set's folder, by format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from mrqm.config import DataFormat
from mrqm.structures.annotations import DataError


def find_splits(data_format: DataFormat, source: Path, wanted: Sequence[str] = ()) -> dict[str, Path]:
    """Find the splits under a folder.

    Args:
        data_format: annotation format of the data set.
        source: folder of the data set.
        wanted: names of splits; empty takes all.

    Returns:
        The folder of each split by name, as `read_annotations` takes it.

    Raises:
        DataError: the folder does not exist, holds no split, or not all wanted ones.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    match data_format:
        case "visdrone":
            found = _subfolders(source, lambda folder: (folder / "annotations").is_dir())
        case "coco":
            found = _subfolders(source, lambda folder: any(folder.glob("*.json")))
        case "soda-d":
            found = {path.stem: source / path.stem for path in sorted((source / "Annotations").glob("*.json"))}
        case "yolo":
            found = _subfolders(source, lambda folder: (folder / "images").is_dir())
            if not found and (source / "images").is_dir():
                found = _subfolders(source / "images", lambda folder: True)
    if not found:
        raise DataError(f"{source}: no folder in it looks like a split of a {data_format} data set")
    if missing := [name for name in wanted if name not in found]:
        raise DataError(f"{source}: no split named {', '.join(missing)}; found {', '.join(found)}")
    return {name: found[name] for name in wanted} if wanted else found


def _subfolders(source: Path, is_split: Callable[[Path], bool]) -> dict[str, Path]:
    return {folder.name: folder for folder in sorted(source.iterdir()) if folder.is_dir() and is_split(folder)}


Split: TypeAlias = Literal["train", "val"]


SPLITS: tuple[Split, ...] = ("train", "val")
