"""Evaluation of a model, or of result files, under one or several protocols.

result = evaluate(Request(model="runs/demo/epoch_0012", protocols=("coco", "visdrone")), ImageProgress(console))
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

import mrqm
from mrqm.checkpoint.files import CONFIG, WEIGHTS
from mrqm.checkpoint.folder import load_checkpoint_config
from mrqm.config import Config, load_config
from mrqm.data import AnnotationSet, build_dataset
from mrqm.data.formats.digest import data_digest, file_digest
from mrqm.data.results.writer import Results
from mrqm.evaluation import build_protocol, score_under
from mrqm.evaluation.analysis.diagnosis import Diagnosis
from mrqm.evaluation.analysis.ground_truth_notes import describe_ground_truth
from mrqm.evaluation.protocols.protocol import DetectionLimit
from mrqm.inference.dataset_inference import DatasetPredictions, View, count_views, predict_dataset
from mrqm.inference.detector import Detector
from pipelines.console.progress import ImageProgress
from pipelines.evaluation.request import EvaluationError, Request, check_protocol, check_view
from pipelines.evaluation.result_files import listed_sizes, read_or_blank, read_result_files, read_scored
from pipelines.evaluation.result_notes import diagnose_near_zero, note_doubts, note_order
from pipelines.process.device import pick_device
from pipelines.registry.model_uri import checkpoint_folder, describe_model, read_tracking
from pipelines.storage.data_cache import data_cache
from pipelines.storage.filesystem import MLFLOW_SCHEMES


@dataclass(frozen=True)
class EvaluationResult:
    """Result of an evaluation.

    Attributes:
        subject: name of the evaluated model or predictions, for display.
        view: view of the images for the model; None for predictions.
        found: detections with the annotations.
        metrics: metrics by name, such as `coco/AP`.
        versions: version of each protocol, by its name.
        limit: limit of the detections that the first protocol's AP counts.
        comparable: tool with comparable metrics for each protocol, by its name.
        data_digest: digest of the images and annotations; see `mrqm.data.formats.digest`.
        config: configuration of the evaluation; its `tracking` section names the MLflow store.
        weights: SHA-256 of the model's weights; None for predictions.
        notes: notes for readers of the metrics, each a sentence.
        diagnosis: diagnosis of predictions with an AP near 0.
    """

    subject: str
    view: View | None
    found: DatasetPredictions
    metrics: dict[str, float]
    versions: dict[str, str]
    limit: DetectionLimit
    comparable: dict[str, str]
    data_digest: str
    config: Config
    weights: str | None = None
    notes: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None


class _Source(NamedTuple):
    """Detections to score, with the annotations."""

    name: str
    config: Config
    annotations: AnnotationSet
    found: DatasetPredictions
    view: View | None = None
    weights: str | None = None
    results: Results | None = None


def evaluate(request: Request, progress: ImageProgress) -> EvaluationResult:
    """Predict or read detections, and score them.

    Args:
        request: model or predictions to evaluate, and the protocols.
        progress: display of the progress over images.

    Returns:
        The result, with metrics and detections.

    Raises:
        EvaluationError: the request contradicts itself or the data.
        ConfigError: the configuration is invalid.
        DataError: the data or the predictions cannot be read.
        CheckpointError: there is no such checkpoint.
        ModelSourceError: the model cannot be fetched.
    """
    if (request.model is None) == (request.predictions is None):
        raise EvaluationError("give either a model or --predictions")
    for name in request.protocols:
        check_protocol(name)
    with ExitStack() as data:
        if request.predictions is not None:
            subject = _read_predictions(request, request.predictions, data)
        else:
            subject = _predict(request, progress, data)
        return _score(subject, request.protocols)


def _score(subject: _Source, names: Sequence[str]) -> EvaluationResult:
    found, annotations = subject.found, subject.annotations
    protocols = [build_protocol(check_protocol(name), subject.config.evaluation) for name in names]
    digest, digest_notes = _digest(annotations)
    result = EvaluationResult(
        subject.name, subject.view, found,
        score_under(protocols, found.records, found.detections, found.classes),
        versions={protocol.name: protocol.version for protocol in protocols},
        limit=protocols[0].limit,
        comparable={protocol.name: protocol.comparable_with for protocol in protocols},
        data_digest=digest,
        config=subject.config,
        weights=subject.weights,
        notes=(*annotations.repairs.scored, *describe_ground_truth(found.records), *digest_notes),
    )  # fmt: skip
    return result if subject.results is None else _explain(result, subject.results, annotations)


def _explain(result: EvaluationResult, results: Results, annotations: AnnotationSet) -> EvaluationResult:
    """Add notes and a diagnosis to the result of predictions."""
    path, metrics = Path(result.subject), result.metrics
    doubts = (*note_doubts(path, results), *note_order(path, results, annotations, metrics))
    return replace(
        result,
        notes=(*results.notes, *result.notes, *doubts),
        diagnosis=diagnose_near_zero(results, annotations, metrics),
    )


def _digest(annotations: AnnotationSet) -> tuple[str, tuple[str, ...]]:
    """Compute the digest, and a note where images are missing and not part of it."""
    if all(record.path.is_file() for record in annotations.records):
        return data_digest(annotations), ()
    digest = data_digest(annotations, [""] * len(annotations.records))
    return digest, ("images are missing: the digest covers the annotations alone, and differs from that with images",)


def _predict(request: Request, progress: ImageProgress, data: ExitStack) -> _Source:
    assert request.model is not None
    if request.sizes is not None:
        raise EvaluationError("--sizes is for --predictions; a model reads the images themselves")
    tracking = read_tracking(request.config, request.overrides)
    with checkpoint_folder(request.model, tracking) as checkpoint:
        trained = load_checkpoint_config(checkpoint, tuple(request.overrides))
        data_config = _with_data_of(request, trained, checkpoint)
        config = data_config.with_classes(trained.data.classes)
        if request.model.startswith(MLFLOW_SCHEMES):  # the result is logged to the store that has the model
            config = config.model_copy(update={"tracking": tracking})
        _require_store(request, config)
        view = check_view(request.view, config)
        data.enter_context(data_cache(config.data))
        dataset = build_dataset(data_config, "val", classes=config.data.classes)
        device = pick_device(request.device)
        detector = Detector(mrqm.load(checkpoint, device).model, config, device)
        weights = file_digest(checkpoint / WEIGHTS)
    with progress.counting(count_views(dataset, view), done=0):
        found = predict_dataset(detector, dataset, view, progress.advance)
    return _Source(describe_model(request.model), config, dataset.annotations, found, view, weights)


def _require_store(request: Request, config: Config) -> None:
    """Check, before minutes of work, that the result can be logged to MLflow."""
    if request.track:
        from pipelines.tracking.store import require_experiment

        require_experiment(config.tracking)


def _with_data_of(request: Request, trained: Config, checkpoint: Path) -> Config:
    """Merge the checkpoint's configuration with the sections of the file, if there is one, and the data's classes.

    Raises:
        EvaluationError: the data's classes are not the model's.
    """
    settings = load_config(request.config or checkpoint / CONFIG, request.overrides)
    known, named = trained.data.classes or (), settings.data.classes
    if named is not None and sorted(named) != sorted(known):
        raise EvaluationError(
            f"data.classes of {request.config or 'the command line'} is {list(named)}, but {request.model} was trained "
            f"on {list(known)}; evaluate on data with these classes, in any order"
        )
    sections = {name: getattr(settings, name) for name in ("data", "evaluation", "tracking")}
    return trained.model_copy(update=sections).with_classes(named or known)


def _read_predictions(request: Request, path: Path, data: ExitStack) -> _Source:
    if request.config is None:
        raise EvaluationError("predictions need annotations: give -c FILE whose data section names them")
    if request.view is not None:
        raise EvaluationError("--view is for a model, not for --predictions; remove it")
    config = load_config(request.config, request.overrides)
    _require_store(request, config)
    data.enter_context(data_cache(config.data))
    annotations = read_scored(config.data, request.sizes or listed_sizes(path))
    results = read_result_files(path, annotations, config.data)

    def read_image(index: int) -> torch.Tensor:
        return read_or_blank(annotations.records[index])

    found = DatasetPredictions(annotations.classes, annotations.records, results.detections, read_image)
    return _Source(str(path), config, annotations, found, results=results)
