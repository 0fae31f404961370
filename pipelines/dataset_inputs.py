"""The data of a run as MLflow's dataset inputs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from mrqm.config import Config
from mrqm.data import DetectionDataset
from mrqm.data.digest import data_digest, file_digest
from pipelines.journal import DatasetUsed
from pipelines.tracking import Tracker

Split: TypeAlias = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")

logger = logging.getLogger(__name__)


@contextmanager
def datasets_noted(
    tracker: Tracker, config: Config, datasets: Mapping[str, DetectionDataset], val_digest: str
) -> Iterator[None]:
    """Note what a run validates on and, once its digest is known, what it trains on.

    That digest needs every image, which may take minutes: it is taken by one thread while the run goes on, and given up
    when the run fails.
    """
    tracker.log_dataset(_describe(config, "val", datasets["val"], val_digest))
    if tracker.knows_dataset("training"):
        yield
        return
    given_up = threading.Event()
    thread = threading.Thread(
        target=_note_training, args=(tracker, config, datasets["train"], given_up), name="digest", daemon=True
    )
    thread.start()
    try:
        yield
    except BaseException:
        given_up.set()
        raise
    finally:
        thread.join()


def _note_training(tracker: Tracker, config: Config, dataset: DetectionDataset, given_up: threading.Event) -> None:
    contents = []
    try:
        for record in dataset.annotations.records:
            if given_up.is_set():
                return
            contents.append(file_digest(record.path))
    except OSError as error:
        logger.warning("%s; the training data has no digest in MLflow", error)
        return
    tracker.log_dataset(_describe(config, "train", dataset, data_digest(dataset.annotations, contents)))


def _describe(config: Config, split: Split, dataset: DetectionDataset, digest: str) -> DatasetUsed:
    folder = config.data.train if split == "train" else config.data.val
    return DatasetUsed(
        context="training" if split == "train" else "validation",
        name=f"{config.data.name}/{PurePosixPath(folder).name}",
        digest=digest,
        source=f"{config.data.root}/{folder}",
        counts=dataset.describe(),
    )
