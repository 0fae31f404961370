"""Train a configuration on Ray: `mrqm train -c configs/demo.yaml`.

The driver checks everything that can be checked in seconds, starts Ray Train, shows what its workers report, writes it
to MLflow, and registers the best checkpoint. The same command again continues where the run stopped.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ray.train import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer
from rich.console import Console

from mrqm.checkpoint import METRICS, TRAINING
from mrqm.config import Config, ConfigError
from mrqm.data import build_dataset
from mrqm.data.digest import data_digest
from mrqm.engine import StepReport
from mrqm.evaluation import build_protocol
from mrqm.models.backbone import build_backbone
from pipelines.display import Display
from pipelines.events import PROTOCOL, EpochReport, Evaluating, Event, FailureNotes, Line, Note, Refused, Started
from pipelines.register import register
from pipelines.report import relative
from pipelines.resources import describe_resources, ray_session, require_room, wait_for_room
from pipelines.runs import RunFolder, Summary, with_absolute_paths
from pipelines.tracking import Tracker
from pipelines.worker import train_worker

RESTARTS = 3
"""How often workers that died are started again from the latest checkpoint."""
SCORE = f"{PROTOCOL}/AP"


def train(config: Config, console: Console | None = None) -> Summary:
    """Train, evaluate, track and register; a finished run is only looked up.

    Args:
        config: of the run; `name` and `output` say which run it is.
        console: where progress is shown.

    Raises:
        ConfigError, DataError, RunError, ResourceError, TrackingError: what has to change before this can run.
        KeyboardInterrupt: the user or the system ended it; the same call continues.
    """
    config = with_absolute_paths(config)
    folder = RunFolder(config)
    columns = ["AP", "AP50", "AP75", *(f"AP_{name}" for name in list(config.evaluation.area_bins)[:1])]
    with folder.claimed(config), Display(console or Console(), columns) as display:
        if summary := folder.read_summary():
            display.line(f"run {config.name} is finished: {relative(folder.path)}")
            return summary
        display.line(f"run       {config.name}, {config.train.epochs} epochs on {describe_resources(config.scaling)}")
        stamp = {f"protocol.{PROTOCOL}": build_protocol(PROTOCOL, config.evaluation).version}
        stamp["data.digest"] = _check_inputs(config, display)
        display.phase("starting Ray")
        with ray_session():
            require_room(config.scaling)
            with Tracker(config, folder) as tracker:
                display.line(f"output    {relative(folder.path)}")
                display.line(f"mlflow    {tracker.uri}, run {tracker.run_id}")
                tracker.tag(stamp)
                result = _fit(config, folder, tracker, display)
                display.phase("registering the best checkpoint")
                summary = _conclude(config, folder, tracker, result, stamp)
        folder.write_summary(summary)
    return summary


def _check_inputs(config: Config, display: Display) -> str:
    """Read everything that workers will need, so that what is wrong with it is said before they start.

    Returns:
        The digest of the validation data, on which every metric depends.
    """
    build_backbone(config.model.backbone, channels_last=config.model.channels_last)
    resume = config.train.resume
    if resume not in ("auto", "never") and not (Path(resume) / TRAINING).is_file():
        raise ConfigError(
            f"train.resume={resume}: no checkpoint's folder: it has no {TRAINING}; auto, never or a folder"
        )
    display.phase("reading annotations")
    for split in ("train", "val"):
        data = build_dataset(config, split)
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in data.describe().items())
        display.line(f"{split:<10}{counts}, {len(data.classes)} classes")
        if repairs := data.annotations.repairs.summary():
            display.note(f"{split}: {repairs}")
    return data_digest(data.annotations)


def _fit(config: Config, folder: RunFolder, tracker: Tracker, display: Display) -> Result:
    """Run Ray Train here and, in a thread, listen to its workers."""
    line, ended = Line(), threading.Event()
    wait_for_room(config.scaling, display.phase)
    display.phase(f"starting {describe_resources(config.scaling)}")
    trainer = _make_trainer(config, line)
    with ThreadPoolExecutor(1) as pool, _stoppable() as stop:
        listening = pool.submit(_listen, line, ended, stop, folder, tracker, display)
        try:
            result = trainer.fit()
        except (SystemExit, TrainingFailedError) as failure:
            ended.set()
            listening.result()  # raises what made the listener stop the training, if it did
            if isinstance(failure, SystemExit):  # what Ray Train makes of Ctrl-C
                raise KeyboardInterrupt from failure
            raise
        finally:
            ended.set()
        listening.result()
    return result


def _listen(
    line: Line, ended: threading.Event, stop: Callable[[], None], folder: RunFolder, tracker: Tracker, display: Display
) -> None:
    """Show and track what workers report; stop the training when there is no use in going on."""
    try:
        for event in line.receive(ended):
            _handle(event, folder, tracker, display)
    except Exception:
        if not ended.wait(1):  # unless it is ending anyway, everything at once
            stop()
        raise


def _handle(event: Event, folder: RunFolder, tracker: Tracker, display: Display) -> None:
    match event:
        case Started():
            display.started(event)
        case StepReport():
            display.step(event)
            tracker.log_step(event)
        case Evaluating():
            display.evaluating(event)
        case EpochReport():
            display.epoch(event)
            tracker.log_epoch(event, folder.write_picture(event.epoch, event.picture) if event.picture else None)
        case Note():
            display.note(event.text)
        case Refused():
            raise event.error


def _make_trainer(config: Config, line: Line) -> TorchTrainer:
    scaling = config.scaling
    gpus = {"GPU": 1} if scaling.use_gpu else {}
    return TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "line": line},
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker, **gpus},
        ),
        run_config=RunConfig(
            name=config.name,
            storage_path=str(config.output),
            failure_config=FailureConfig(max_failures=RESTARTS),
            checkpoint_config=CheckpointConfig(num_to_keep=config.keep_checkpoints, checkpoint_score_attribute=SCORE),
            callbacks=[FailureNotes(line)],
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _conclude(config: Config, folder: RunFolder, tracker: Tracker, result: Result, stamp: Mapping[str, str]) -> Summary:
    """Register the best checkpoint with what its metrics depend on."""
    # Epochs that were not evaluated have no score; of equals the latest is best.
    kept = reversed(result.best_checkpoints or [])
    best, _ = max(kept, key=lambda checkpoint: checkpoint[1].get(SCORE, -math.inf))
    checkpoint = Path(best.path)
    metrics = json.loads((checkpoint / METRICS).read_text())
    model = register(tracker, checkpoint, metrics, config.tracking.register_as, stamp)
    epoch = int(checkpoint.name.rpartition("_")[2])
    picture = folder.picture(epoch)
    return Summary(
        name=config.name,
        folder=str(folder.path),
        checkpoint=str(checkpoint),
        epoch=epoch,
        metrics=metrics,
        picture=str(picture) if picture.is_file() else None,
        tracking_uri=tracker.uri,
        run_id=tracker.run_id,
        model_uri=model.uri,
        registered_as=f"{model.name} version {model.version}" if model.name else None,
    )


@contextmanager
def _stoppable() -> Iterator[Callable[[], None]]:
    """Let SIGTERM, which clusters send to stop a job, end a training as Ctrl-C does; undo what Ray does to Ctrl-C.

    Ray Train answers Ctrl-C by asking its controller to stop. SIGTERM often comes to all processes at once, so that no
    controller may be left to ask.

    Yields:
        What stops the training from another thread. Outside of the main thread nothing can: it does nothing.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield lambda: None
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield lambda: signal.pthread_kill(main.ident or 0, signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
