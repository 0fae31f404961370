"""Prediction of many images into a folder: in this process, or by Ray Data with one actor per worker.

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
from pipelines.console.progress import ImageProgress
from pipelines.inference.inputs import find_images, name_results
from pipelines.inference.predictor import predict_images
from pipelines.inference.results_dir import PredictionFolder, Result
from pipelines.process.device import pick_device
from pipelines.registry.model_uri import checkpoint_folder, read_tracking
from pipelines.storage.data_cache import local_folders
from pipelines.storage.filesystem import is_uri


@dataclass(frozen=True)
class Options:
    """Options of a prediction.

    Attributes:
        overrides: `key=value` settings that take precedence over the model's.
        device: device, such as `cuda:1`; None for the GPU if there is one.
        workers: number of Ray actors; 0 to predict in this process.
        draw_from: minimum score of drawn detections; None for no pictures.
    """

    overrides: Sequence[str] = ()
    device: str | None = None
    workers: int = 0
    draw_from: float | None = 0.3


@dataclass(frozen=True)
class Summary:
    """Outcome of a prediction.

    Attributes:
        folder: folder of the results.
        images: number of images.
        done_before: number of images that were done when the command began.
        detections: number of detections in all images.
        faults: reasons why images were skipped, each with the name of the file.
    """

    folder: Path
    images: int
    done_before: int
    detections: int
    faults: list[str] = field(default_factory=list)


def predict(model: str, images: Sequence[str], out: Path, options: Options, progress: ImageProgress) -> Summary:
    """Predict all images, and write results and pictures as they arrive; the same call resumes after an interruption.

    Args:
        model: a checkpoint's folder or an MLflow model's URI; see `pipelines.registry.model_uri`.
        images: files, folders and glob patterns, and URIs of folders, which every node copies.
        out: folder of the results; see `pipelines.inference.results_dir`.
        options: options of the prediction.
        progress: display of the progress over images.

    Returns:
        Counts of images and detections.

    Raises:
        ModelSourceError: the model cannot be fetched.
        CheckpointError: there is no such checkpoint.
        ConfigError: an override is invalid.
        ImageListError: there are no images.
        PredictionFolderError: `out` has results of another prediction.
        ResourceError: the Ray cluster does not answer or is too small.
    """
    with local_folders(images, progress.line) as words:
        return _predict(model, find_images(words), tuple(filter(is_uri, images)), out, options, progress)


def _predict(
    model: str, paths: Sequence[Path], uris: tuple[str, ...], out: Path, options: Options, progress: ImageProgress
) -> Summary:
    with checkpoint_folder(model, read_tracking(None, options.overrides)) as checkpoint:
        detector = mrqm.load(checkpoint, "cpu", options.overrides)
        weights = hashlib.sha256((checkpoint / WEIGHTS).read_bytes()).hexdigest()
    settings = {"weights": weights, "draw_from": options.draw_from, **_inference_settings(detector.config)}
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
    """Yield the results of (index, path) pairs, from this process or from Ray's actors, in any order."""
    if not images:
        return
    if options.workers:
        from pipelines.inference.ray_predictor import predict_on_ray

        yield from predict_on_ray(detector, images, options.draw_from, options.workers, options.device, uris)
        return
    here = Detector(detector.model, detector.config, pick_device(options.device))
    yield from predict_images(here, images, options.draw_from, on_share)


def _inference_settings(config: Config) -> dict[str, Any]:
    """Select the settings that change the detections."""
    flat = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if has_role(key, Role.INFERENCE)}
