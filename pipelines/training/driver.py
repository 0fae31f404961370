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
from mrqm.config.batch_scaling import describe_batch, resolve_batch
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
from pipelines.process.signals import Stop, stoppable
from pipelines.registry.ancestors.source import ancestor_on_disk
from pipelines.registry.register import register_if_possible
from pipelines.storage.absolute_paths import with_absolute_paths
from pipelines.storage.checkpoints import epochs_of
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
from pipelines.training.run_context import RunContext, read_inputs
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
    batch = describe_batch(config)
    config = resolve_batch(with_absolute_paths(config))
    folder = RunFolder(config)
    columns = ["AP", "AP50", "AP75", *(f"AP_{name}" for name in list(config.evaluation.area_bins)[:1])]
    explained = storage_faults_explained(folder.storage.url)
    with explained, ExitStack() as data, folder.claimed(), Display(console or Console(), columns) as display:
        ancestor = data.enter_context(ancestor_on_disk(config.model.init, folder.storage, config.tracking))
        known = fingerprint_of(config).with_init(ancestor.record if ancestor else None)
        former = require_same(config, folder, known)
        if summary := folder.read_summary():
            display.line(f"run {config.name} is finished: {relative(folder.storage.url)}")
            return summary
        display.line(f"run       {config.name}, {config.train.epochs} epochs on {describe_resources(config.scaling)}")
        if batch:
            display.line(f"batch     {batch}")
        run = read_inputs(config, folder, ancestor, display, data)
        if former and (unknown := describe_unknown(former)):
            display.note(unknown)
        require_store(config, folder)
        display.phase("starting Ray")
        with ray_session(), stoppable() as stop:
            require_room(config.scaling, extra_workers=config.evaluation.asynchronous)
            begin(config, folder, run.fingerprint)
            run.keep_ancestor()
            with Tracker(config, folder, parent_run, tags) as tracker:
                summary = _train_tracked(run, tracker, display, stop)
        summary = replace(summary, pending=tracker.pending)
        if summary.complete:
            folder.write_summary(summary)
    return summary


def _train_tracked(run: RunContext, tracker: Tracker, display: Display, stop: Stop) -> Summary:
    """Train and register, with descriptions in MLflow of the run and its result."""
    display.line(f"output    {relative(run.folder.storage.url)}")
    display.line(f"mlflow    {run_place(tracker.shown_uri, tracker.run_id)}")
    note = describe_run(run.config, run.datasets)
    tracker.tag(run.stamp | {MLFLOW_RUN_NOTE: note})
    note_datasets(tracker, run.config, run.datasets, run.fingerprint.content)
    _fit(run, tracker, display, stop)
    display.phase("registering the best checkpoint")
    summary = _conclude(run, tracker)
    tracker.tag({MLFLOW_RUN_NOTE: f"{note}\n\n{describe_outcome(summary)}"})
    return summary


def _fit(run: RunContext, tracker: Tracker, display: Display, stop: Stop) -> None:
    """Run Ray Train and, in a thread, handle the messages of its workers, on which it may be stopped."""
    queue, ended = MessageQueue(), threading.Event()
    config, folder = run.config, run.folder
    evaluators = int(config.evaluation.asynchronous)
    for shortage in shortages(config.scaling, extra_workers=evaluators):
        display.phase(shortage)
    display.phase(f"starting {describe_resources(config.scaling)}")
    resumed = bool(folder.checkpoints.newest_first())
    validation = AsyncEvaluator(config, folder.checkpoints, queue) if evaluators else None
    interruptions = Interruptions(folder.storage, resumed)
    handler = MessageHandler(folder, tracker, display, interruptions, config.scaling, validation)
    trainer = _make_trainer(run, queue)
    with ThreadPoolExecutor(1) as pool:
        handling = pool.submit(handler.listen, queue, ended, stop.interrupt)
        try:
            trainer.fit()
            if validation is not None:
                display.phase("evaluating")
                validation.finish()
        except (KeyboardInterrupt, TrainingFailedError) as failure:
            ended.set()
            if stop.requested:  # any other failure is a consequence
                raise KeyboardInterrupt from failure
            handling.result()  # raises the error for which the handler stopped the training, if it did
            if isinstance(failure, ControllerError):  # raised by the callback
                raise failure.controller_failure from failure
            raise
        finally:
            ended.set()
        handling.result()


def _make_trainer(run: RunContext, queue: MessageQueue) -> InterruptibleTrainer:
    scaling, storage = run.config.scaling, run.folder.storage
    gpus = {"GPU": 1} if scaling.use_gpu else {}
    return InterruptibleTrainer(
        train_worker,
        train_loop_config={"config": run.config, "queue": queue},
        torch_config=RayInterfaceConfig(),
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker, **gpus},
        ),
        run_config=RunConfig(
            name=run.config.name,
            storage_path=storage.path.rpartition("/")[0],
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=-1),  # the callback decides
            callbacks=[FailureCallback(queue, run.folder.checkpoints)],
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _conclude(run: RunContext, tracker: Tracker) -> Summary:
    """Draw the curves, and register the best checkpoint with the protocol and data of its metrics."""
    config, folder, store = run.config, run.folder, run.folder.checkpoints
    curves = folder.path / "curves.png"
    write_patiently(lambda: plot_training(curves, tracker.metrics()), curves.name, logger.warning)
    tracker.log_file(curves)
    name = store.best()
    if name is None:
        raise TrainingError(f"no checkpoint in {folder.storage.url} was evaluated; remove the run and train again")
    scores = select_protocol(store.metrics(name), VALIDATION)
    with store.open(name) as checkpoint:
        model = register_if_possible(config, tracker, checkpoint, scores, run.stamp)
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
