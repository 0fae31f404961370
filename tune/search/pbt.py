"""Population Based Training, a generation at a time: the worst trials go on from copies of the best ones' weights.

All trials wait for the last one before a generation is judged, so that what happens depends on scores and seed alone:
not on which process was faster, and not on how often the sweep was stopped.
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
"""Probability that an exploit draws a key afresh instead of moving it."""

logger = logging.getLogger(__name__)


class Population:
    """Which trials work, which rest, and what becomes of a generation.

    Args:
        candidates: what trials may be.
        journal: of the sweep.
        folder: of the sweep.
        epochs: of a whole trial.
    """

    def __init__(self, candidates: ConfigSampler, journal: Journal, folder: Path, epochs: int) -> None:
        self._candidates, self._journal, self._folder, self._epochs = candidates, journal, folder, epochs
        self._space = candidates.space

    @property
    def _target(self) -> int:
        """Epoch at which the present generation ends."""
        return min(self._journal.generation + self._space.scheduler.perturbation_interval, self._epochs)

    def rests(self, trial: Trial) -> bool:
        """Whether a trial waits for the others."""
        return trial.epoch >= self._target

    def next(self, busy: Set[int]) -> Trial | None:
        """A trial that nobody works on and that does not rest; ends the generation if all do."""
        if ready := [t for t in self._journal.running() if t.number not in busy and not self.rests(t)]:
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
        assert source_trial.checkpoint is not None, "a trial that rests has a checkpoint"
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
            if self._candidates.violation(moved) is None:
                return moved
        return dict(params)
