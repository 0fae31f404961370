"""Measure the regret of sweeps that spend a quarter of the cost of a whole grid.

    python benchmarks/search_efficiency.py

Searcher, pruner and trial scheduler are those of `mrqm tune`; only the training is replaced, by results of real short
runs (search_table.py, search_surrogate.py). ASHA begins to stop trials after `--grace` epochs: AP before that does not
predict the result of a trial, as the printed rank correlations show.

The cost of a sweep is the number of epochs that its trials train; its result is the best AP that one of them reaches.
The regret is the difference from the best AP of the whole table. The AP of a single run also depends on chance: the
expected regret compares configurations by the fit, which removes it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from search_surrogate import Array, Surrogate
from search_table import TABLE, Row, load_grid, read_table

from pipelines.process.configure import configure_process
from tune.search.trial_scheduler import TrialScheduler
from tune.space.sampling import ConfigSampler
from tune.space.schema import Space, make_space
from tune.state.journal import Journal
from tune.state.messages import Epoch, Task
from tune.state.records import SessionBegan

SEARCHES = (("tpe", "asha"), ("random", "asha"), ("tpe", "none"), ("random", "none"))
"""Search algorithms, each with a scheduler."""
AIM = 0.01
"""Largest regret of a sweep that has found the best configuration."""
LEAST_RUNS = 24
"""Least number of runs for a fit with 14 coefficients."""
HEADER = f"{'':<16}{'regret':>8} {'quartiles':>18}{'within 1 %':>12}{'until then':>13}{'expected regret':>17}"


class Found(NamedTuple):
    """The result of a sweep so far, relative to the best AP.

    Attributes:
        regret: regret by the table, 0 to 1.
        expected: regret by the fit, 0 to 1.
    """

    regret: float
    expected: float


def main() -> None:
    configure_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--share", type=float, default=0.25, help="share of the grid's cost that a sweep may spend")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--grace", type=int, default=3, help="epochs before ASHA may stop a trial")
    parser.add_argument("--at-once", type=int, default=1, help="trials that run at the same time")
    arguments = parser.parse_args()
    space, config = load_grid()
    grid = list(ConfigSampler(space, config).grid())
    rows = read_table(arguments.table)
    if len(rows) < LEAST_RUNS:
        sys.exit(f"{arguments.table}: {len(rows)} runs are too few for a fit; search_table.py makes more")
    table = Surrogate(grid, rows)
    cost = len(grid) * table.epochs
    budget = round(arguments.share * cost)
    print(f"{len(grid)} configurations of {table.epochs} epochs: {cost} epochs in all, {budget} for a sweep")
    print(f"{len(rows)} of them trained; the fit explains {table.r2:.0%} of the variance of held-out ones")
    print(describe(table.highest))
    print("rank correlation of AP after each epoch with the best AP of a run:", correlations(rows), end="\n\n")
    print(HEADER)
    for algorithm, scheduler in SEARCHES:
        sweeps = []
        for seed in range(arguments.seeds):
            settings = {"algorithm": scheduler, "grace_period": arguments.grace}
            sampler = ConfigSampler(searched(space, algorithm, settings, seed, len(grid)), config)
            sweeps.append(list(itertools.islice(search(sampler, table, arguments.at_once), budget)))
        print(f"{algorithm + ' + ' + scheduler:<16}{summary(sweeps)}", flush=True)


def searched(grid: Space, algorithm: str, scheduler: Mapping[str, Any], seed: int, trials: int) -> Space:
    """Make a space with the same parameters and another search.

    Args:
        grid: space of the grid.
        algorithm: search algorithm.
        scheduler: settings of the scheduler.
        seed: seed of the search.
        trials: number of trials.

    Returns:
        The space.
    """
    values = grid.model_dump(exclude={"search", "scheduler", "budget"}, exclude_none=True)
    search = {"algorithm": algorithm, "seed": seed}
    return make_space({**values, "search": search, "scheduler": scheduler, "budget": {"trials": trials}})


def search(sampler: ConfigSampler, table: Surrogate, at_once: int = 1) -> Iterator[Found]:
    """Run a sweep on a table of results.

    Args:
        sampler: sampler of the sweep's trials.
        table: results of all configurations.
        at_once: number of trials that run at the same time.

    Yields:
        The result after each epoch, until the sweep ends.
    """
    found, most = Found(1.0, 1.0), -1.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        journal = stack.enter_context(closing(Journal(folder / "sweep.jsonl")))
        journal.write(SessionBegan(trials=sampler.space.budget.trials or 0))
        scheduler = TrialScheduler(sampler, journal, folder, table.epochs)
        running: deque[tuple[Task, int]] = deque()
        while True:
            while len(running) < at_once and (begun := scheduler.next()):
                running.append((begun, 1))
            if not running:
                break
            task, epoch = running.popleft()
            ap = float(table.curve(task.params)[epoch - 1])
            if scheduler.report(task.trial, as_reported(folder, task, epoch, ap, table.epochs)):
                running.append((task, epoch + 1))
            if ap > most:
                expected = 1 - table.expected[table.index(task.params)] / table.expected.max()
                found, most = Found(1 - ap / table.best, float(expected)), ap
            yield found


def as_reported(folder: Path, task: Task, epoch: int, ap: float, epochs: int) -> Epoch:
    """Make the report of an epoch.

    Args:
        folder: folder of the sweep.
        task: task of the process.
        epoch: number of the epoch, from 1.
        ap: AP of the epoch.
        epochs: epochs of a whole trial.

    Returns:
        The report, as of a process of the sweep.
    """
    checkpoint = str(folder / f"trial-{task.trial:04d}" / f"epoch_{epoch:04d}")
    return Epoch(epoch, epoch, 1.0, {"coco/AP": ap}, checkpoint, evaluated=True, finished=epoch == epochs)


def summary(sweeps: Sequence[Sequence[Found]]) -> str:
    """Summarise the results at the end of the budget, and the epochs until the aim was reached."""
    ends = [sweep[-1] for sweep in sweeps]
    regrets = [end.regret for end in ends]
    low, middle, high = statistics.quantiles(regrets, n=4, method="inclusive")
    found = sum(regret <= AIM for regret in regrets) / len(regrets)
    until = statistics.median(first_within(sweep) for sweep in sweeps)
    expected = statistics.median(end.expected for end in ends)
    return f"{middle:>8.2%} {f'{low:.2%} … {high:.2%}':>18}{found:>12.0%}{until:>13.0f}{expected:>17.2%}"


def first_within(sweep: Sequence[Found]) -> float:
    """Return the epoch after which a sweep's regret is at most the aim."""
    return next((epoch for epoch, found in enumerate(sweep, 1) if found.regret <= AIM), float("inf"))


def correlations(rows: Sequence[Row]) -> str:
    """Format the rank correlation of each epoch's AP with the best AP of a run."""
    measured = np.array([row["ap"] for row in rows])  # (N, E)
    return "  ".join(f"{spearmanr(ap, measured.max(axis=1)).statistic:.2f}" for ap in measured.T)


def describe(highest: Array) -> str:
    """Describe the difficulty of a table: its APs, and the number of configurations that reach the aim."""
    near = int((highest >= (1 - AIM) * highest.max()).sum())
    values = f"best AP {highest.max():.4f}, median {np.median(highest):.4f}, least {highest.min():.4f}"
    return f"{values}; {near} within 1 % of the best"


if __name__ == "__main__":
    main()
