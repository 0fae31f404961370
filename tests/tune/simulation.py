"""Simulated sweeps, without Ray or training: the scores of trials are computed from their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mrqm.config import Config
from tune.search.trial_scheduler import TrialScheduler
from tune.space.sampling import ConfigSampler
from tune.space.schema import make_space
from tune.state.history import History
from tune.state.journal import Journal
from tune.state.messages import Epoch, Task
from tune.state.records import SessionBegan

EPOCHS = 9
Score = Callable[[Mapping[str, Any], int], float]


class Killed(Exception):
    """The simulated death of the driver."""


class Simulation:
    """A sweep in a folder; `run` resumes where the last one was killed."""

    def __init__(self, config: Config, folder: Path, score: Score, **space: Any) -> None:
        self.sampler = ConfigSampler(make_space({"budget": {"trials": 9}} | space), config)
        self.folder, self.score = folder, score

    def run(self, kill_after: int | None = None, trials: int | None = None, slots: int = 1) -> History:
        """Run the sweep; die after `kill_after` epochs, before the next one is reported."""
        journal = Journal(self.folder / "journal.jsonl")
        journal.write(SessionBegan(trials=trials or self.sampler.space.budget.trials or 0))
        scheduler = TrialScheduler(self.sampler, journal, self.folder, EPOCHS)
        work: list[tuple[Task, int]] = []
        done = 0
        while not scheduler.is_over() or work:
            while len(work) < slots and (task := scheduler.next()):
                work.append((task, epoch_of(task)))
            task, epoch = work.pop(0)
            if done == kill_after:
                journal.close()
                raise Killed
            done += 1
            if scheduler.report(task.trial, self.train(task, epoch + 1)):
                work.append((task, epoch + 1))
        journal.close()
        return journal

    def train(self, task: Task, epoch: int) -> Epoch:
        checkpoint = self.folder / f"trial-{task.trial:04d}" / f"epoch_{epoch:04d}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        metrics = {"coco/AP": self.score(task.params, epoch)}
        return Epoch(epoch, 10 * epoch, 1.0, metrics, str(checkpoint), True, epoch == EPOCHS)


def epoch_of(task: Task) -> int:
    if task.checkpoint is None:
        return 0
    assert Path(task.checkpoint).is_dir(), "a trial resumes from a checkpoint that exists"
    return int(Path(task.checkpoint).name.split("_")[1])
