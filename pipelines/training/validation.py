"""Asynchronous evaluation: an actor evaluates the checkpoints in order while the workers continue to train."""

from __future__ import annotations

import time
from contextlib import ExitStack

import ray
import torch
from ray.exceptions import RayError

from mrqm.checkpoint.lookup import SCORE
from mrqm.config import Config
from mrqm.engine.trainer import Trainer
from pipelines.compute.message_queue import MessageQueue
from pipelines.failures.classification import classify
from pipelines.failures.policy import Decision, FailurePolicy
from pipelines.failures.taxonomy import Failure, TrainingError
from pipelines.process.configure import configure_process
from pipelines.storage.checkpoints import CheckpointStore
from pipelines.storage.data_cache import data_cache
from pipelines.storage.run_dir import RunFolder
from pipelines.training.epoch_reports import report_epoch

RETRIES = 3
"""Number of retries of an evaluation whose process or node died."""


class Validator:
    """Ray actor that evaluates checkpoints of one run, with the resources of one worker.

    Args:
        config: training configuration. The message queue is an argument of each call instead, since a restartable
            actor cannot keep a handle of another actor.
    """

    def __init__(self, config: Config) -> None:
        configure_process()
        torch.set_num_threads(config.scaling.cpus_per_worker)
        self._data = ExitStack()  # open as long as the actor lives
        self._data.enter_context(data_cache(config.data))
        self._trainer = Trainer(config, torch.device("cuda" if config.scaling.use_gpu else "cpu"))
        self._store = RunFolder(config).checkpoints

    def evaluate(self, name: str, queue: MessageQueue) -> None:
        """Evaluate a checkpoint, add the metrics to it and report its epoch.

        Args:
            name: name of the checkpoint's folder.
            queue: message queue to the driver.
        """
        trainer = self._trainer
        with self._store.open(name) as folder:
            trainer.load(folder)
        scores = trainer.evaluate()
        losses = self._store.metrics(name)
        self._store.score(name, scores)
        queue.send(report_epoch(trainer, losses | scores, evaluated=True))


class AsyncEvaluator:
    """The driver's side of asynchronous evaluation: requests evaluations, and completes all of them at the end.

    Args:
        config: training configuration.
        checkpoints: checkpoints of the run.
        queue: message queue for the reports of epochs.
    """

    def __init__(self, config: Config, checkpoints: CheckpointStore, queue: MessageQueue) -> None:
        options = {"num_cpus": config.scaling.cpus_per_worker, "num_gpus": int(config.scaling.use_gpu)}
        options |= {"max_restarts": -1, "max_task_retries": RETRIES}
        self._store, self._queue = checkpoints, queue
        self._actor = ray.remote(Validator).options(**options).remote(config)
        self._asked: dict[str, ray.ObjectRef] = {}
        for name in self._store.waiting():
            self.begin(name)

    def begin(self, name: str) -> None:
        """Request the evaluation of a checkpoint, after those requested earlier."""
        if name in self._store.waiting():
            self._asked[name] = self._actor.evaluate.remote(name, self._queue)

    def poll(self) -> list[str]:
        """Return messages about evaluations that failed since the last call; they are retried at the end."""
        faults = []
        for name in [name for name, task in self._asked.items() if ray.wait([task], timeout=0)[0]]:
            try:
                ray.get(self._asked.pop(name))
            except RayError as error:
                why = classify(error).message
                faults.append(f"checkpoint {name} could not be evaluated, a retry follows at the end: {why}")
        return faults

    def finish(self) -> None:
        """Wait until all checkpoints that are due, and the last one, are evaluated.

        Raises:
            TrainingError: a checkpoint cannot be evaluated.
        """
        for task in self._asked.values():
            ray.wait([task])
        last = [name for name in self._store.newest_first()[:1] if SCORE not in self._store.metrics(name)]
        for name in dict.fromkeys([*self._store.waiting(), *last]):
            self._evaluate_at_last(name)
        self._store.prune()
        ray.kill(self._actor)  # a Ray process that ends by itself may hang in its destructors

    def _evaluate_at_last(self, name: str) -> None:
        """Evaluate a checkpoint, with retries after transient failures."""
        earlier: list[Failure] = []
        while True:
            try:
                return ray.get(self._actor.evaluate.remote(name, self._queue))
            except RayError as error:
                failure = classify(error)
                verdict = FailurePolicy().decide(failure, earlier)
                if verdict.decision is Decision.RAISE:
                    raise TrainingError(f"checkpoint {name} cannot be evaluated: {failure.message}") from error
                earlier.append(failure)
                time.sleep(verdict.delay)
