"""Check of a data set and its conversion to the common format: `mrqm prepare visdrone SOURCE DESTINATION`.

Images are decoded, linked and tiled by Ray Data, on the cluster at RAY_ADDRESS if there is one. Its nodes must share
the destination, and also the source unless it is a URI, which each node copies. Every completed image is recorded in
the destination, so that the same command resumes a stopped one; a split's `annotations.json` is written last, so that
an unfinished destination is never mistaken for a data set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from mrqm.config import DataFormat
from mrqm.data.analysis.statistics import SplitReport, describe_split
from mrqm.data.formats.digest import data_digest, relative_names
from mrqm.data.formats.readers import read_annotations, read_own_classes
from mrqm.data.formats.splits import find_splits
from mrqm.data.formats.writer import ImageJob, ImageOutcome, WrittenImage, run_job, write_annotations
from mrqm.data.images.resizing import scaled_size
from mrqm.data.images.windows import drop_empty, tile_items, whole_items, window_truth
from mrqm.structures.annotations import AnnotationSet, DataError, ImageRecord
from pipelines.compute.session import ray_session
from pipelines.preparation.output_dir import Preparation, PrepareSettings
from pipelines.storage.data_cache import keep_copies, local_folders

MOST_BLOCKS = 400
"""Maximum number of blocks of images for Ray Data."""


@dataclass(frozen=True)
class Split:
    """A split with a job for each of its images."""

    name: str
    annotations: AnnotationSet
    jobs: list[ImageJob]

    def finish(self, outcomes: Sequence[ImageOutcome], destination: Path | None) -> SplitReport:
        """Write the annotations of all images that decode, and describe them.

        Args:
            outcomes: outcome of each job.
            destination: folder of the prepared data; None to write nothing.

        Returns:
            Report of the split.
        """
        readable = [not outcome.error for outcome in outcomes]
        annotations = self.annotations
        records = tuple(record for record, kept in zip(annotations.records, readable, strict=True) if kept)
        whole = AnnotationSet(annotations.classes, records, annotations.repairs)
        images = [image for job, kept in zip(self.jobs, readable, strict=True) if kept for image in job.images]
        if destination is not None:
            write_annotations(destination / self.name, annotations.classes, images)
        unreadable = [f"{path}: the image does not decode: no image header" for path in annotations.unreadable]
        unreadable += [outcome.error for outcome in outcomes if outcome.error]
        digest = data_digest(whole, [outcome.digest for outcome in outcomes if not outcome.error])
        return describe_split(whole, unreadable, digest, len(images))


def prepare(settings: PrepareSettings, destination: Path | None, console: Console) -> dict[str, SplitReport]:
    """Check a data set and, given a destination, convert it.

    Args:
        settings: settings of the preparation.
        destination: a new folder, or one in which the same command was stopped; None to check only.
        console: console for the progress.

    Returns:
        Reports by split.

    Raises:
        DataError: the data cannot be used.
        PreparationError: the destination has other content.
    """
    place = Preparation(destination, settings) if destination is not None else None
    if place is not None and (reports := place.finished()) is not None:
        console.print(f"{destination} is already prepared")
        return reports
    with local_folders([str(settings.source)], console.print) as (source,):
        return _prepare(settings, Path(source), destination, place, console)


def _prepare(
    settings: PrepareSettings, source: Path, destination: Path | None, place: Preparation | None, console: Console
) -> dict[str, SplitReport]:
    with console.status("reading annotations"):
        splits = _read_splits(settings, source, destination)
    if place is not None:
        place.begin()
    jobs = [job for split in splits for job in split.jobs]
    outcomes = dict(place.done(jobs)) if place is not None else {}
    todo = [index for index in range(len(jobs)) if index not in outcomes]
    if outcomes and todo:
        console.print(f"continuing: {len(outcomes)} of {len(jobs)} images are done")
    uris = (settings.source,) if isinstance(settings.source, str) else ()
    for position, outcome in _run_jobs([jobs[index] for index in todo], uris, console):
        outcomes[todo[position]] = outcome
        if place is not None:
            place.note(jobs[todo[position]], outcome)
    reports, begin = {}, 0
    for split in splits:
        end = begin + len(split.jobs)
        reports[split.name] = split.finish([outcomes[index] for index in range(begin, end)], destination)
        begin = end
    if place is not None:
        place.finish(reports)
    return reports


def _read_splits(settings: PrepareSettings, source: Path, destination: Path | None) -> list[Split]:
    folders = find_splits(settings.dataset, source, settings.splits)
    classes = settings.classes or _read_classes(settings.dataset, folders)
    splits = []
    for name, folder in folders.items():
        annotations = read_annotations(settings.dataset, folder, classes)
        jobs = _make_jobs(annotations, name, settings, destination)
        targets = [image.record.path for job in jobs for image in job.images]
        if len(set(targets)) != len(targets):
            twice = next(path for path in targets if targets.count(path) > 1)
            raise DataError(f"{folder}: two images would both be written to {twice}; rename one")
        splits.append(Split(name, annotations, jobs))
    return splits


def _read_classes(data_format: DataFormat, folders: dict[str, Path]) -> tuple[str, ...]:
    """Read the classes of the training split if it exists, since other splits may lack some of them."""
    training = next((folder for name, folder in folders.items() if "train" in name), None)
    return read_own_classes(data_format, training or next(iter(folders.values())))


def _make_jobs(
    annotations: AnnotationSet, split: str, settings: PrepareSettings, destination: Path | None
) -> list[ImageJob]:
    records = annotations.records
    if destination is None:
        return [ImageJob(record.path, record.size, ()) for record in records]
    folder = destination / split / "images"
    names = relative_names([record.path for record in records])
    if settings.tiles is None and settings.scale == 1:
        return [
            ImageJob(record.path, record.size, (WrittenImage(name, replace(record, path=folder / name)),))
            for name, record in zip(names, records, strict=True)
        ]
    jobs, number = [], 0
    for name, record in zip(names, records, strict=True):
        images = tuple(_make_tiles(name, record, split, settings, folder, number))
        jobs.append(ImageJob(record.path, record.size, images, settings.blackout_ignored))
        number += len(images)
    return jobs


def _make_tiles(
    name: str, record: ImageRecord, split: str, settings: PrepareSettings, folder: Path, number: int
) -> Iterator[WrittenImage]:
    """Yield the tiles of one image, numbered from `number` + 1; only those with objects for training images."""
    tile, resize = settings.tiles, partial(scaled_size, scale=settings.scale)
    if tile is None:
        items = whole_items([record], resize)
    else:
        items = tile_items([record], resize, tile, settings.overlap)
        if "train" in split:
            items = drop_empty(items, settings.min_area_ratio, 0.0, 0)
    for offset, item in enumerate(items, start=1):
        suffix = f"__{item.window.left}_{item.window.top}" if tile else ""
        file = Path(name).with_name(f"{Path(name).stem}{suffix}.png").as_posix()
        size = (tile, tile) if tile else item.size
        truth = window_truth(item, settings.min_area_ratio, (item.window.height, item.window.width))
        truth = replace(truth, areas=truth.areas * item.factors[:2].prod())
        placed = ImageRecord(folder / file, number + offset, size, truth)
        yield WrittenImage(file, placed, item)


def _run_jobs(jobs: Sequence[ImageJob], uris: tuple[str, ...], console: Console) -> Iterator[tuple[int, ImageOutcome]]:
    """Run jobs on Ray Data, and yield the position and outcome of each when it ends."""
    if not jobs:
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting Ray", total=len(jobs))
        with ray_session():
            progress.update(task, description="images")
            for row in _stream(jobs, uris):
                progress.advance(task)
                yield int(row["position"]), ImageOutcome(row["digest"], row["error"])


def _stream(jobs: Sequence[ImageJob], uris: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    rows = ray.data.from_items(
        [{"position": position} for position in range(len(jobs))], override_num_blocks=min(len(jobs), MOST_BLOCKS)
    )
    return rows.map_batches(_make_worker(ray.put(list(jobs)), uris), batch_size=None).iter_rows()


def _make_worker(
    shared: ray.ObjectRef, uris: tuple[str, ...]
) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    def work(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        keep_copies(uris)
        jobs = ray.get(shared)
        outcomes = [run_job(jobs[position]) for position in batch["position"]]
        return {
            "position": batch["position"],
            "digest": np.array([outcome.digest for outcome in outcomes]),
            "error": np.array([outcome.error for outcome in outcomes]),
        }

    return work
