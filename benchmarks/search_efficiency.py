"""How close to the best configuration of a grid sweeps come for a quarter of what the whole grid costs.

    python benchmarks/search_efficiency.py

Searcher, scheduler and conductor are those of `mrqm tune`; only the training is looked up, in results of real short
runs (search_table.py, search_surrogate.py). ASHA begins to stop trials after `--grace` epochs: before, as the printed
rank correlations tell, AP says little of what a trial will come to.

What a sweep costs are the epochs that its trials train; what it finds is the best AP that one of them reaches. Regret
is how far that is below the best AP of the whole table. A single run is also lucky or not: the expected regret compares
configurations by the fit, which knows no luck.
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
"""Algorithm and scheduler."""
AIM = 0.01
"""A sweep has found the best configuration if its regret is at most this."""
LEAST_RUNS = 24
"""The fit has 14 coefficients."""
HEADER = f"{'':<16}{'regret':>8} {'quartiles':>18}{'within 1 %':>12}{'until then':>13}{'expected regret':>17}"


class Found(NamedTuple):
    """What a sweep has found, as shares of the best there is.

    Attributes:
        regret: by the table.
        expected: by the fit.
    """

    regret: float
    expected: float


def main() -> None:
    configure_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--share", type=float, default=0.25, help="of the grid's cost that a sweep may spend")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--grace", type=int, default=3, help="epochs before ASHA may stop a trial")
    parser.add_argument("--at-once", type=int, default=1, help="trials that run side by side")
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
    print(f"{len(rows)} of them trained; the fit explains {table.r2:.0%} of what those differ by that it has not seen")
    print(describe(table.highest))
    print("rank correlation of AP after each epoch with the best AP of a run:", foresight(rows), end="\n\n")
    print(HEADER)
    for algorithm, scheduler in SEARCHES:
        sweeps = []
        for seed in range(arguments.seeds):
            settings = {"algorithm": scheduler, "grace_period": arguments.grace}
            candidates = ConfigSampler(searched(space, algorithm, settings, seed, len(grid)), config)
            sweeps.append(list(itertools.islice(search(candidates, table, arguments.at_once), budget)))
        print(f"{algorithm + ' + ' + scheduler:<16}{summary(sweeps)}", flush=True)


def searched(grid: Space, algorithm: str, scheduler: Mapping[str, Any], seed: int, trials: int) -> Space:
    """The same parameters, searched otherwise."""
    values = grid.model_dump(exclude={"search", "scheduler", "budget"}, exclude_none=True)
    search = {"algorithm": algorithm, "seed": seed}
    return make_space({**values, "search": search, "scheduler": scheduler, "budget": {"trials": trials}})


def search(candidates: ConfigSampler, table: Surrogate, at_once: int = 1) -> Iterator[Found]:
    """What a sweep has found after each epoch that it trains, until it ends."""
    found, most = Found(1.0, 1.0), -1.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        journal = stack.enter_context(closing(Journal(folder / "sweep.jsonl")))
        journal.write(SessionBegan(trials=candidates.space.budget.trials or 0))
        conductor = TrialScheduler(candidates, journal, folder, table.epochs)
        running: deque[tuple[Task, int]] = deque()
        while True:
            while len(running) < at_once and (begun := conductor.next()):
                running.append((begun, 1))
            if not running:
                break
            task, epoch = running.popleft()
            ap = float(table.curve(task.params)[epoch - 1])
            if conductor.report(task.trial, as_reported(folder, task, epoch, ap, table.epochs)):
                running.append((task, epoch + 1))
            if ap > most:
                expected = 1 - table.expected[table.index(task.params)] / table.expected.max()
                found, most = Found(1 - ap / table.best, float(expected)), ap
            yield found


def as_reported(folder: Path, task: Task, epoch: int, ap: float, epochs: int) -> Epoch:
    """An epoch as a process would report it."""
    checkpoint = str(folder / f"trial-{task.trial:04d}" / f"epoch_{epoch:04d}")
    return Epoch(epoch, epoch, 1.0, {"coco/AP": ap}, checkpoint, evaluated=True, finished=epoch == epochs)


def summary(sweeps: Sequence[Sequence[Found]]) -> str:
    """What was found at the end of the budget, and when the aim was reached."""
    ends = [sweep[-1] for sweep in sweeps]
    regrets = [end.regret for end in ends]
    low, middle, high = statistics.quantiles(regrets, n=4, method="inclusive")
    found = sum(regret <= AIM for regret in regrets) / len(regrets)
    until = statistics.median(first_within(sweep) for sweep in sweeps)
    expected = statistics.median(end.expected for end in ends)
    return f"{middle:>8.2%} {f'{low:.2%} … {high:.2%}':>18}{found:>12.0%}{until:>13.0f}{expected:>17.2%}"


def first_within(sweep: Sequence[Found]) -> float:
    """The epoch after which a sweep's regret is at most the aim."""
    return next((epoch for epoch, found in enumerate(sweep, 1) if found.regret <= AIM), float("inf"))


def foresight(rows: Sequence[Row]) -> str:
    """How well each epoch ranks the runs."""
    measured = np.array([row["ap"] for row in rows])  # (N, E)
    return "  ".join(f"{spearmanr(ap, measured.max(axis=1)).statistic:.2f}" for ap in measured.T)


def describe(highest: Array) -> str:
    """How hard a table is: how many configurations would do."""
    near = int((highest >= (1 - AIM) * highest.max()).sum())
    values = f"best AP {highest.max():.4f}, median {np.median(highest):.4f}, least {highest.min():.4f}"
    return f"{values}; {near} within 1 % of the best"


if __name__ == "__main__":
    main()
