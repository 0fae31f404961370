"""The data of a run as MLflow's dataset inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from mrqm.config import Config
from mrqm.data import DetectionDataset
from mrqm.data.formats.splits import SPLITS, Split
from pipelines.tracking.event_log import DatasetUsed
from pipelines.tracking.tracker import Tracker


def note_datasets(
    tracker: Tracker, config: Config, datasets: Mapping[str, DetectionDataset], digests: Mapping[str, str]
) -> None:
    """Log the training and validation data of a run, once.

    Args:
        tracker: tracker of the run.
        config: training configuration.
        datasets: data sets by split.
        digests: digests by `data.train` and `data.val`.
    """
    for split in SPLITS:
        tracker.log_dataset(_describe(config, split, datasets[split], digests[f"data.{split}"]))


def _describe(config: Config, split: Split, dataset: DetectionDataset, digest: str) -> DatasetUsed:
    folder = config.data.train if split == "train" else config.data.val
    return DatasetUsed(
        context="training" if split == "train" else "validation",
        name=f"{config.data.name}/{PurePosixPath(folder).name}",
        digest=digest,
        source=f"{config.data.root}/{folder}",
        counts=dataset.describe(),
    )
