"""Training of a configuration on Ray: `mrqm train -c configs/demo.yaml`.

The driver checks everything that can be checked in seconds, starts Ray Train, displays the reports of its workers, logs
them to MLflow, and registers the best checkpoint. The same command resumes a stopped run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType

from ray.train import (
    ControllerError,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from rich.console import Console

from mrqm.config import Config
from mrqm.structures.metric import VALIDATION, select_protocol
from pipelines.compute.message_queue import MessageQueue
from pipelines.compute.resources import describe_resources, require_room, shortages
from pipelines.compute.session import ray_session
from pipelines.compute.torch_backend import RayInterfaceConfig
from pipelines.compute.torch_trainer import InterruptibleTrainer
from pipelines.console.format import relative
from pipelines.console.links import run_place
from pipelines.console.training_display import Display
from pipelines.failures.storage_wait import storage_faults_explained, write_patiently
from pipelines.failures.taxonomy import TrainingError
from pipelines.preflight.inputs import check_inputs, check_space
from pipelines.process.signals import Stop, stoppable
from pipelines.registry.register import register_if_possible
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.checkpoints import CheckpointStore, epochs_of
from pipelines.storage.data_cache import data_cache
from pipelines.storage.filesystem import open_storage
from pipelines.storage.fingerprint import begin, describe_unknown, fingerprint_of, require_same
from pipelines.storage.run_dir import RunFolder
from pipelines.storage.run_summary import Summary
from pipelines.tracking.dataset_inputs import note_datasets
from pipelines.tracking.descriptions import describe_outcome, describe_run
from pipelines.tracking.mlflow_names import MLFLOW_RUN_NOTE
from pipelines.tracking.tracker import Tracker, require_store
from pipelines.training.failure_callback import FailureCallback
from pipelines.training.interruptions import Interruptions
from pipelines.training.message_handler import MessageHandler
from pipelines.training.plots import plot_training
from pipelines.training.validation import AsyncEvaluator
from pipelines.training.worker import train_worker

logger = logging.getLogger(__name__)


def train(
    config: Config,
    console: Console | None = None,
    parent_run: str | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Train, evaluate, track and register; for a finished run, only read its summary.

    Args:
        config: training configuration; `name` and `output_dir` identify the run.
        console: console for the progress; None for the standard output.
        parent_run: id of the parent MLflow run, as a sweep's trial has one.
        tags: further tags of the MLflow run.

    Returns:
        Summary of the finished run.

    Raises:
        ConfigError: the configuration is invalid.
        DataError: the data cannot be used.
        RunError: the folder has another run, or another process trains in it.
        StorageError: the storage cannot be written or is full.
        ResourceError: the Ray cluster does not answer or is too small.
        TrackingError: the MLflow store cannot be used.
        TrainingError: workers failed, and a restart is useless.
        KeyboardInterrupt: the user or the system stopped the training; the same call resumes it.
    """
    config = with_absolute_paths(config)
    folder, fingerprint = RunFolder(config), fingerprint_of(config)
    columns = ["AP", "AP50", "AP75", *(f"AP_{name}" for name in list(config.evaluation.area_bins)[:1])]
    explained = storage_faults_explained(folder.storage.url)
    with explained, ExitStack() as data, folder.claimed(), Display(console or Console(), columns) as display:
        former = require_same(config, folder, fingerprint)
        if summary := folder.read_summary():
            display.line(f"run {config.name} is finished: {relative(folder.storage.url)}")
            return summary
        display.line(f"run       {config.name}, {config.train.epochs} epochs on {describe_resources(config.scaling)}")
        data.enter_context(data_cache(config.data, display.phase))
        datasets = check_inputs(config, display)
        check_space(config, folder)
        display.phase("computing the digests of the data")
        fingerprint = fingerprint.with_data(datasets)
        require_same(config, folder, fingerprint)
        if former and (unknown := describe_unknown(former)):
            display.note(unknown)
        stamp = fingerprint.stamp
        require_store(config, folder)
        display.phase("starting Ray")
        with ray_session(), stoppable() as stop:
            require_room(config.scaling, beside=config.evaluation.asynchronous)
            begin(config, folder, fingerprint)
            with Tracker(config, folder, parent_run, tags) as tracker:
                display.line(f"output    {relative(folder.storage.url)}")
                display.line(f"mlflow    {run_place(tracker.shown_uri, tracker.run_id)}")
                note = describe_run(config, datasets)
                tracker.tag(stamp | {MLFLOW_RUN_NOTE: note})
                note_datasets(tracker, config, datasets, fingerprint.content)
                _fit(config, folder, tracker, display, stop)
                display.phase("registering the best checkpoint")
                summary = _conclude(config, folder, tracker, stamp)
                tracker.tag({MLFLOW_RUN_NOTE: f"{note}\n\n{describe_outcome(summary)}"})
        summary = replace(summary, pending=tracker.pending)
        if summary.complete:
            folder.write_summary(summary)
    return summary


def _fit(config: Config, folder: RunFolder, tracker: Tracker, display: Display, stop: Stop) -> None:
    """Run Ray Train and, in a thread, handle the messages of its workers, on which it may be stopped."""
    line, ended = MessageQueue(), threading.Event()
    beside = config.evaluation.asynchronous
    for shortage in shortages(config.scaling, beside=beside):
        display.phase(shortage)
    display.phase(f"starting {describe_resources(config.scaling)}")
    continued = bool(CheckpointStore.of_run(config).newest_first())
    validation = AsyncEvaluator(config, line) if beside else None
    incidents = Interruptions(folder.storage, continued)
    listener = MessageHandler(folder, tracker, display, incidents, config.scaling, validation)
    trainer = _make_trainer(config, line)
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(listener.listen, line, ended, stop.interrupt)
        try:
            trainer.fit()
            if validation is not None:
                display.phase("evaluating")
                validation.finish()
        except (KeyboardInterrupt, TrainingFailedError) as failure:
            ended.set()
            if stop.requested:  # any other failure is a consequence
                raise KeyboardInterrupt from failure
            listening.result()  # raises the error for which the handler stopped the training, if it did
            if isinstance(failure, ControllerError):  # raised by the callback
                raise failure.controller_failure from failure
            raise
        finally:
            ended.set()
        listening.result()


def _make_trainer(config: Config, line: MessageQueue) -> InterruptibleTrainer:
    scaling, folder = config.scaling, open_storage(config.output_dir, config.name)
    gpus = {"GPU": 1} if scaling.use_gpu else {}
    return InterruptibleTrainer(
        train_worker,
        train_loop_config={"config": config, "line": line},
        torch_config=RayInterfaceConfig(),
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker, **gpus},
        ),
        run_config=RunConfig(
            name=config.name,
            storage_path=folder.path.rpartition("/")[0],
            storage_filesystem=folder.filesystem,
            failure_config=FailureConfig(max_failures=-1),  # the callback decides
            callbacks=[FailureCallback(line, config.output_dir, config.name)],
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _conclude(config: Config, folder: RunFolder, tracker: Tracker, stamp: Mapping[str, str]) -> Summary:
    """Draw the curves, and register the best checkpoint with the protocol and data of its metrics."""
    curves = folder.path / "curves.png"
    write_patiently(lambda: plot_training(curves, tracker.metrics()), curves.name, logger.warning)
    tracker.log_file(curves)
    store = CheckpointStore.of_run(config)
    name = store.best()
    if name is None:
        raise TrainingError(f"no checkpoint in {folder.storage.url} was evaluated; remove the run and train again")
    scores = select_protocol(store.metrics(name), VALIDATION)
    with store.open(name) as checkpoint:
        model = register_if_possible(config, tracker, checkpoint, scores, stamp)
    epoch = epochs_of(name)
    picture = folder.picture(epoch)
    return Summary(
        name=config.name,
        folder=folder.storage.url,
        checkpoint=f"{folder.storage.url}/{name}",
        epoch=epoch,
        metrics=scores,
        picture=str(picture) if picture.is_file() else None,
        tracking_uri=tracker.shown_uri,
        run_id=tracker.run_id,
        model_uri=model.uri if model else None,
        registered_as=f"{model.name} version {model.version}" if model and model.name else None,
    )
