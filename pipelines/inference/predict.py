"""Detections of many images into a folder: in this process, or by Ray Data with one actor per worker.

summary = predict("runs/demo/epoch_0012", ["flight/"], Path("out"))
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrqm
from mrqm.checkpoint.files import WEIGHTS
from mrqm.config import Config, Role, has_role
from mrqm.config.dotted import flatten
from mrqm.inference.detector import Detector
from pipelines.compute.device import pick_device
from pipelines.console.progress import ImageProgress
from pipelines.inference.inputs import find_images, name_results
from pipelines.inference.predictor import predict_images
from pipelines.inference.results_dir import PredictionFolder, Result
from pipelines.registry.model_uri import checkpoint_folder, read_tracking
from pipelines.storage.data_cache import local_folders
from pipelines.storage.filesystem import is_uri


@dataclass(frozen=True)
class Options:
    """How to predict.

    Attributes:
        overrides: `key=value` settings that win over the model's.
        device: such as `cuda:1`; None takes the GPU if there is one.
        workers: Ray actors; 0 predicts in this process.
        draw_from: least score of what pictures show; None draws none.
    """

    overrides: Sequence[str] = ()
    device: str | None = None
    workers: int = 0
    draw_from: float | None = 0.3


@dataclass(frozen=True)
class Summary:
    """What came of a prediction.

    Attributes:
        folder: of the results.
        images: all of them.
        done_before: of these, done when the command began.
        detections: in all images.
        faults: why images were skipped, each naming its file.
    """

    folder: Path
    images: int
    done_before: int
    detections: int
    faults: list[str] = field(default_factory=list)


def predict(model: str, images: Sequence[str], out: Path, options: Options, progress: ImageProgress) -> Summary:
    """Detect in all images, draw, and write results as they come; the same call continues what was interrupted.

    Args:
        model: a checkpoint's folder or an MLflow model's URI; see `pipelines.registry.model_uri`.
        images: files, folders and glob patterns, and URIs of folders, of which every node makes a copy.
        out: folder of the results; see `pipelines.inference.results_dir`.
        options: how.
        progress: told about every image.

    Raises:
        ModelSourceError, CheckpointError, ConfigError, ImageListError, PredictionFolderError, ResourceError: what was
            named cannot be used.
    """
    with local_folders(images, progress.line) as words:
        return _predict(model, find_images(words), tuple(filter(is_uri, images)), out, options, progress)


def _predict(
    model: str, paths: Sequence[Path], uris: tuple[str, ...], out: Path, options: Options, progress: ImageProgress
) -> Summary:
    with checkpoint_folder(model, read_tracking(None, options.overrides)) as checkpoint:
        detector = mrqm.load(checkpoint, "cpu", options.overrides)
        weights = hashlib.sha256((checkpoint / WEIGHTS).read_bytes()).hexdigest()
    settings = {"weights": weights, "draw_from": options.draw_from, **_deciding(detector.config)}
    folder = PredictionFolder(out, paths, name_results(paths), detector.classes, settings)
    missing = [(index, paths[index]) for index in folder.missing()]
    faults = []
    with progress.counting(len(paths), done=len(paths) - len(missing)):
        for result in _predict_everywhere(detector, missing, options, uris, progress.show_share):
            if result.fault:
                faults.append(result.fault)
                progress.line(f"skipped: {result.fault}")
            else:
                folder.write(result)
            if result.left_out:
                most = detector.config.evaluation.max_detections_per_image
                progress.line(
                    f"{paths[result.index]}: {result.left_out:,} detections left out beyond the best {most:,} "
                    "(evaluation.max_detections_per_image)"
                )
            progress.advance()
    count = folder.finish()
    return Summary(out, len(paths), len(paths) - len(missing), count, faults)


def _predict_everywhere(
    detector: Detector,
    images: Sequence[tuple[int, Path]],
    options: Options,
    uris: tuple[str, ...],
    on_share: Callable[[float], None],
) -> Iterator[Result]:
    """Results of (index, path) pairs, here or by Ray's actors, in any order."""
    if not images:
        return
    if options.workers:
        from pipelines.inference.ray_predictor import predict_on_ray

        yield from predict_on_ray(detector, images, options.draw_from, options.workers, options.device, uris)
        return
    here = Detector(detector.model, detector.config, pick_device(options.device))
    yield from predict_images(here, images, options.draw_from, on_share)


def _deciding(config: Config) -> dict[str, Any]:
    """The settings that change what is found."""
    flat = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if has_role(key, Role.INFERENCE)}
