"""Copies of the detectors that trainings start from (`model.init`), in the folder of the run or sweep.

    runs/demo/ancestors/3f2a90c1d4e58b67/    model.safetensors · config.yaml · ancestor.json

The copy is made when the run begins and used from then on, on every node: an alias may move to another version, and a
run that is an ancestor may train on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mrqm.checkpoint.files import CONFIG, WEIGHTS
from pipelines.storage.filesystem import Storage

FOLDER, RECORD = "ancestors", "ancestor.json"
CLASSES_LENGTH = 4000
"""Greatest length of the class names in a tag, which MLflow limits to 5,000 characters or more."""


class AncestorRecord(BaseModel):
    """Origin of the weights that a training starts from.

    Attributes:
        source: value of `model.init`.
        version: NAME/NUMBER of the registered version; None if it does not come from a registry.
        sha256: digest of the file of weights.
        classes: class names in label order; None if unknown.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    version: str | None
    sha256: str
    classes: tuple[str, ...] | None

    @property
    def tags(self) -> dict[str, str]:
        """Tags for MLflow."""
        tags = {"init.source": self.source, "init.sha256": self.sha256}
        if self.version is not None:
            tags["init.version"] = self.version
        if self.classes is not None:
            tags["init.classes"] = json.dumps(self.classes, ensure_ascii=False)[:CLASSES_LENGTH]
        return tags


def keep_ancestor(storage: Storage, weights: Path, record: AncestorRecord) -> None:
    """Copy weights, and the configuration beside them, into the folder of a run or sweep unless they are there.

    Args:
        storage: folder of the run or sweep.
        weights: file of weights on this machine.
        record: origin of the weights.

    Raises:
        OSError: the storage is full or unreachable.
    """
    name = _folder_of(record.source)
    if read_record(storage, record.source) == record:
        return
    with storage.scratch_folder(FOLDER) as scratch:
        folder = scratch / Path(name).name
        folder.mkdir()
        shutil.copy(weights, folder / WEIGHTS)
        if weights.name == WEIGHTS and (weights.parent / CONFIG).is_file():
            shutil.copy(weights.parent / CONFIG, folder)
        (folder / RECORD).write_text(record.model_dump_json(indent=2))
        if storage.local:
            (storage.local / FOLDER).mkdir(exist_ok=True)
        storage.upload_folder(folder, name, last=RECORD)


def read_record(storage: Storage, source: str) -> AncestorRecord | None:
    """Read the origin of the copy that a run or sweep has of a detector; None if it has none.

    Args:
        storage: folder of the run or sweep.
        source: value of `model.init`.

    Returns:
        The record that `keep_ancestor` wrote.
    """
    content = storage.read(f"{_folder_of(source)}/{RECORD}")
    return None if content is None else AncestorRecord.model_validate_json(content)


@contextmanager
def kept_weights(storage: Storage, source: str | None) -> Iterator[Path | None]:
    """Provide the copy of the weights on this machine while the context is open.

    Args:
        storage: folder of the run or sweep.
        source: value of `model.init`.

    Yields:
        File of weights; None without `model.init`.
    """
    if source is None:
        yield None
        return
    with storage.folder_on_disk(_folder_of(source)) as folder:
        yield folder / WEIGHTS


def _folder_of(source: str) -> str:
    return f"{FOLDER}/{hashlib.sha256(source.encode()).hexdigest()[:16]}"
