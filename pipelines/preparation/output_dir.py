"""The destination folder of a preparation: settings, progress, data and reports.

prepare.json        settings
progress.jsonl      a line for every completed image; removed at the end
SPLIT/              annotations.json and images
report.json, report.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mrqm.config import DataFormat, FolderOrUri, Section
from mrqm.data.analysis.statistics import SplitReport
from mrqm.data.formats.writer import ImageJob, ImageOutcome
from mrqm.errors import UserError
from mrqm.files import write_whole
from mrqm.redaction import redact
from pipelines.preparation.report import to_markdown

SETTINGS, PROGRESS, REPORT, READABLE = "prepare.json", "progress.jsonl", "report.json", "report.md"
_REPORTS = TypeAdapter(dict[str, SplitReport])


class PreparationError(UserError):
    """Contradictory settings, or a destination with other content."""


class PrepareSettings(Section):
    """Settings of a preparation.

    Attributes:
        dataset: format of the source.
        source: absolute folder with the splits, or its URI.
        splits: names of the splits; empty for all.
        classes: names in label order; None for the source's own.
        tiles: side of tiles in px of the scaled images; None for whole images.
        overlap: overlap of neighbouring tiles in px.
        scale: scaling factor of the images.
        min_area_ratio: maximum visible share of an object's area in a tile for which it becomes an ignored box.
        blackout_ignored: true to paint ignored regions of tiles black, except under objects.
    """

    dataset: DataFormat
    source: FolderOrUri
    splits: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    tiles: int | None = None
    overlap: int = 0
    scale: float = 1.0
    min_area_ratio: float = 0.4
    blackout_ignored: bool = False


def make_settings(**values: Any) -> PrepareSettings:
    """Validate settings.

    Raises:
        PreparationError: a value is not allowed; the message names it.
    """
    try:
        settings = PrepareSettings(**values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        message = fault["msg"].removeprefix("Value error, ")
        raise PreparationError(redact(f"{fault['loc'][0]}: {message}; got {fault['input']!r}")) from error
    if settings.overlap and (settings.tiles is None or settings.overlap >= settings.tiles):
        raise PreparationError(f"overlap={settings.overlap} must be below tiles={settings.tiles}; change --overlap")
    return settings


class Preparation:
    """Destination folder of a preparation.

    Args:
        folder: destination, which need not exist.
        settings: settings of the preparation.

    Raises:
        PreparationError: the folder has other content, or a preparation with other settings.
    """

    def __init__(self, folder: Path, settings: PrepareSettings) -> None:
        self._folder = folder
        self._settings = settings.model_dump(mode="json")
        if (folder / SETTINGS).is_file():
            self._require_same(json.loads((folder / SETTINGS).read_text()))
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise PreparationError(f"{folder}: has other content; name a new or empty folder")

    def finished(self) -> dict[str, SplitReport] | None:
        """Read the reports of a finished preparation; None if it is not finished."""
        path = self._folder / REPORT
        return _REPORTS.validate_json(path.read_bytes()) if path.is_file() else None

    def begin(self) -> None:
        """Create the folder and write the settings."""
        write_whole(self._folder / SETTINGS, json.dumps(self._settings, indent=1))

    def done(self, jobs: Sequence[ImageJob]) -> Iterator[tuple[int, ImageOutcome]]:
        """Yield positions and outcomes of completed jobs with an unchanged source and existing files."""
        noted = {entry["image"]: entry for entry in self._read_progress()}
        for position, job in enumerate(jobs):
            entry = noted.get(str(job.path))
            if entry is None or entry["stamp"] != _stamp(job.path):
                continue
            if entry["error"] or all(image.record.path.is_file() for image in job.images):
                yield position, ImageOutcome(entry["digest"], entry["error"])

    def note(self, job: ImageJob, outcome: ImageOutcome) -> None:
        """Record a completed job.

        Args:
            job: completed job.
            outcome: digest of the image, or its error.
        """
        entry = {"image": str(job.path), "stamp": _stamp(job.path), "digest": outcome.digest, "error": outcome.error}
        with (self._folder / PROGRESS).open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def finish(self, reports: Mapping[str, SplitReport]) -> None:
        """Write the reports; the progress is no longer needed."""
        write_whole(self._folder / READABLE, to_markdown(self._settings, reports))
        write_whole(self._folder / REPORT, _REPORTS.dump_json(dict(reports), indent=1))
        (self._folder / PROGRESS).unlink(missing_ok=True)

    def _require_same(self, earlier: dict[str, Any]) -> None:
        now = self._settings
        if differing := [key for key in now if earlier.get(key) != now[key]]:
            changes = ", ".join(f"{key} was {earlier.get(key)!r} and is {now[key]!r}" for key in differing)
            raise PreparationError(
                f"{self._folder}: prepared with other settings: {changes}; name another folder or remove this one"
            )

    def _read_progress(self) -> Iterator[dict[str, Any]]:
        path = self._folder / PROGRESS
        if not path.is_file():
            return
        text = path.read_text()
        whole, _, rest = text.rpartition("\n")
        if rest:  # an incomplete last line, which the next line must not continue
            write_whole(path, f"{whole}\n" if whole else "")
        for line in whole.splitlines():
            yield json.loads(line)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
