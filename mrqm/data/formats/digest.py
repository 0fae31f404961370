"""Digest of a data set: equal for equal images and annotations, in any folder and any format.

The digest is computed from what the readers return, so that a source and its converted form (`mrqm prepare` without
tiles) have the same one. Ids, the folder's location and the order of files do not affect it; a renamed image, another
byte in it, or another box, area, flag, label or class name does. Hashing reads every image once: about 0.5 GB per
second and core.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mrqm.structures.annotations import AnnotationSet, ImageRecord

DIGEST_VERSION = 1
"""Version that is raised when the same data gets another digest."""


def data_digest(annotations: AnnotationSet, contents: Sequence[str] | None = None) -> str:
    """Compute the digest of a data set.

    Args:
        annotations: annotations from a reader; unreadable images do not affect the digest.
        contents: `file_digest` of every record's image; None reads the images.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: an image cannot be read.
    """
    records = annotations.records
    if contents is None:
        with ThreadPoolExecutor() as pool:
            contents = list(pool.map(file_digest, [record.path for record in records]))
    names = relative_names([record.path for record in records])
    total = hashlib.sha256("\n".join(annotations.classes).encode())
    for name, content, record in sorted(zip(names, contents, records, strict=True), key=lambda entry: entry[0]):
        for part in _describe(name, content, record):
            total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relative_names(paths: Sequence[Path]) -> list[str]:
    """Name files relative to the deepest folder that holds them all, with `/` between folders."""
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - resolve() would follow links
    if not absolute:
        return []
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]


def _describe(name: str, content: str, record: ImageRecord) -> Iterator[bytes]:
    yield name.encode()
    yield content.encode()
    yield np.array(record.size, dtype="<i8").tobytes()
    truth = record.truth
    columns = (truth.labels, truth.areas, truth.crowd, truth.ignored)
    rows = np.concatenate([truth.boxes_xywh, np.stack(columns, axis=1)], axis=1).astype("<f8")
    yield rows[np.lexsort(rows.T)].tobytes()
