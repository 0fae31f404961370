"""Population Based Training, one generation at a time: the worst trials continue from copies of the best ones' weights.

All trials of a generation wait for the last one, so that its exploits depend on scores and seed alone: not on the speed
of processes, and not on interruptions of the sweep.

Jaderberg et al., "Population Based Training of Neural Networks", 2017.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Set
from functools import partial
from pathlib import Path

from pipelines.failures.storage_wait import write_patiently
from tune.space.sampling import DRAWS, ConfigSampler
from tune.space.schema import Params
from tune.state.checkpoints import copy_whole
from tune.state.history import Trial
from tune.state.journal import Journal
from tune.state.records import Exploit, GenerationEnded

RESAMPLED = 0.25
"""Probability that an exploit draws a new value of a key instead of perturbing it."""

logger = logging.getLogger(__name__)


class Population:
    """A population of trials, whose generations end together.

    Args:
        sampler: sampler of the sweep's trials.
        journal: journal of the sweep.
        folder: folder of the sweep.
        epochs: epochs of a whole trial.
    """

    def __init__(self, sampler: ConfigSampler, journal: Journal, folder: Path, epochs: int) -> None:
        self._sampler, self._journal, self._folder, self._epochs = sampler, journal, folder, epochs
        self._space = sampler.space

    @property
    def _target(self) -> int:
        """Epoch at which the current generation ends."""
        return min(self._journal.generation + self._space.scheduler.perturbation_interval, self._epochs)

    def waits(self, trial: Trial) -> bool:
        """Tell if a trial waits for the others of its generation."""
        return trial.epoch >= self._target

    def next(self, busy: Set[int]) -> Trial | None:
        """Return a trial that is neither busy nor waiting; end the generation if all wait."""
        if ready := [t for t in self._journal.running() if t.number not in busy and not self.waits(t)]:
            return min(ready, key=lambda trial: trial.epoch)
        incomplete = len(self._journal.trials) < self._journal.wanted_trials
        if busy or incomplete or not self._journal.running():
            return None
        self._end_generation()
        return self.next(busy)

    def _end_generation(self) -> None:
        epoch, objective = self._target, self._space.objective[0]
        generator = random.Random(f"{self._space.search.seed} {epoch}")
        ranked = [
            (list(t.curve(objective).values()) or [-math.inf * objective.sign], t) for t in self._journal.running()
        ]
        ranked.sort(key=lambda pair: -objective.sign * pair[0][-1])
        size = min(math.ceil(len(ranked) * self._space.scheduler.quantile_fraction), len(ranked) // 2)
        best = [trial for _, trial in ranked[:size]]
        worst = [trial for _, trial in ranked[len(ranked) - size :]]
        exploits = tuple(self._exploit(trial, generator.choice(best), epoch, generator) for trial in worst)
        self._journal.write(GenerationEnded(epoch=epoch, exploits=exploits))

    def _exploit(self, trial: Trial, source_trial: Trial, epoch: int, generator: random.Random) -> Exploit:
        assert source_trial.checkpoint is not None, "a trial that waits has a checkpoint"
        checkpoint = f"{trial.name}/epoch_{epoch:04d}_of_{source_trial.name}"
        copy = partial(copy_whole, self._folder / source_trial.checkpoint, self._folder / checkpoint)
        write_patiently(copy, checkpoint, logger.warning)
        params = self._explore(source_trial.params, generator)
        return Exploit(trial=trial.number, source_trial=source_trial.number, params=params, checkpoint=checkpoint)

    def _explore(self, params: Params, generator: random.Random) -> Params:
        for _ in range(DRAWS):
            moved = {}
            for key, value in params.items():
                parameter = self._space.parameters[key]
                afresh = generator.random() < RESAMPLED
                moved[key] = parameter.draw(generator) if afresh else parameter.move(value, generator)
            if self._sampler.violation(moved) is None:
                return moved
        return dict(params)
