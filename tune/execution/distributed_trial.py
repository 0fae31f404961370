"""A trial on several workers: a run of Ray Train within a process of Ray Tune.

The workers wait after every epoch for the scheduler's decision, so that a trial that is stopped ends by itself and
leaves no processes, no reservation of the cluster and no surplus epoch.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import ray
import ray.train
import ray.train.torch
from ray.actor import ActorHandle
from ray.train import FailureConfig, LoggingConfig, RunConfig
from ray.train import ScalingConfig as RayScaling

from mrqm.config import Config
from mrqm.errors import UserError
from pipelines.compute.resources import shortages
from pipelines.compute.torch_backend import RayInterfaceConfig
from pipelines.compute.torch_trainer import InterruptibleTrainer
from pipelines.process.configure import configure_process
from tune.execution.epoch_barrier import EpochBarrier
from tune.execution.train_epochs import train_epochs
from tune.state.messages import Epoch, Waiting


class Job(TypedDict):
    """The arguments of a worker."""

    config: Config
    start: Path | None
    barrier: ActorHandle


def train_on_workers(config: Config, start: Path | None) -> Generator[Epoch | Waiting, None, None]:
    """Train a configuration on its workers; closing the generator ends them.

    Args:
        config: configuration of the trial.
        start: folder of the checkpoint to start from; None to start from scratch.

    Yields:
        Epochs, and reasons to wait for resources or storage.

    Raises:
        UserError: the configuration or its data cannot be used.
        TrainingFailedError: a worker failed.
    """
    yield from map(Waiting, shortages(config.scaling))
    barrier: ActorHandle = ray.remote(num_cpus=0)(EpochBarrier).remote()
    reached = 0
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(_make_trainer(config, start, barrier).fit)
        try:
            while True:
                awaited = barrier.next.remote()
                while not ray.wait([awaited], timeout=0.5)[0]:
                    if training.done():
                        training.result()  # raises the error of the workers
                epoch = pickle.loads(ray.get(awaited))  # noqa: S301  # trusted: from the workers of this trial
                if isinstance(epoch, ValueError):
                    raise epoch
                yield epoch
                if isinstance(epoch, Waiting):
                    continue
                reached = epoch.epoch
                ray.get(barrier.decide.remote(reached, proceed=True))
        finally:
            ray.get(barrier.decide.remote(reached, proceed=False))


def _make_trainer(config: Config, start: Path | None, barrier: ActorHandle) -> InterruptibleTrainer:
    scaling = config.scaling
    return InterruptibleTrainer(
        _train,
        train_loop_config={"config": config, "start": start, "barrier": barrier},
        torch_config=RayInterfaceConfig(),
        scaling_config=RayScaling(
            num_workers=scaling.num_workers,
            use_gpu=scaling.use_gpu,
            resources_per_worker={"CPU": scaling.cpus_per_worker, **({"GPU": 1} if scaling.use_gpu else {})},
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,  # a new run each time: the sweep, not Ray Train, resumes trials
            storage_path=str(Path(config.output_dir) / ".tune"),
            failure_config=FailureConfig(max_failures=0),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _train(job: Job) -> None:
    """Train on one of the workers."""
    configure_process()
    is_first = ray.train.get_context().get_world_rank() == 0
    try:
        for epoch in train_epochs(job["config"], job["start"], ray.train.torch.get_device()):
            if is_first:
                ray.get(job["barrier"].report.remote(pickle.dumps(epoch)))
            if isinstance(epoch, Waiting):
                continue
            if epoch.finished or not ray.get(job["barrier"].wait.remote(epoch.epoch)):
                return
    except UserError as error:
        ray.get(job["barrier"].report.remote(pickle.dumps(error)))
        raise
