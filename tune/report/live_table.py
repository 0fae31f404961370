"""The display of a running sweep: a table on a terminal, a line for each epoch in a log."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipelines.compute.message_queue import LogMessageHandler
from pipelines.console.format import duration, number
from tune.report.plan import Plan
from tune.space.schema import Space, describe_params
from tune.state.history import History, Trial
from tune.state.records import AnyEntry, Failed, GenerationEnded, Lost, Reported, Retried

LAYERS = ("mrqm", "pipelines", "tune")
"""Loggers whose warnings are shown."""
SHOWN = 16
"""Rows of the table: running trials, and the best of the others."""


class LiveTable:
    """Shows a sweep while its context is open.

    Args:
        space: space of the sweep.
        plan: plan of the sweep.
        history: history of the sweep, which grows.
        console: terminal or log.
    """

    def __init__(self, space: Space, plan: Plan, history: History, console: Console) -> None:
        self._objective, self._plan, self._history, self._console = space.objective[0], plan, history, console
        self._warnings = LogMessageHandler(lambda text: self.say(f"note: {text}"))
        self._live = Live(console=console, transient=True, get_renderable=self.table, refresh_per_second=1)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        for layer in LAYERS:
            logging.getLogger(layer).addHandler(self._warnings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in LAYERS:
            logging.getLogger(layer).removeHandler(self._warnings)
        self._live.stop()

    def __call__(self, entry: AnyEntry) -> None:
        """Show an entry of the journal; on a terminal only what the table does not show."""
        match entry:
            case Reported() if not self._console.is_terminal:
                self.say(self._line(entry))
            case Failed():
                self.say(f"trial {entry.trial:<4}failed: {entry.error}")
            case Retried():
                self.say(f"trial {entry.trial:<4}had failed and starts again")
            case Lost():
                again = f" in {entry.delay:.0f} s" if entry.delay else ""
                self.say(f"trial {entry.trial:<4}resumes from its last checkpoint{again}: {entry.reason}")
            case GenerationEnded():
                for exploit in entry.exploits:
                    words = describe_params(exploit.params)
                    self.say(f"trial {exploit.trial:<4}continues from trial {exploit.source_trial}'s weights: {words}")

    def say(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _line(self, entry: Reported) -> str:
        best = self._history.best_trials(self._objective)
        value = entry.metrics.get(self._objective.metric)
        words = [
            f"trial {entry.trial:<4}epoch {entry.epoch}/{self._plan.epochs}",
            f"{self._objective.metric} {'–' if value is None else number(value)}",
            f"best {self._best(best[0])} (trial {best[0].number})" if best else "",
            "running" if entry.verdict == "continue" else entry.verdict,
            f"left {duration(self.seconds_left())}",
        ]
        return "  ".join(word for word in words if word)

    def table(self) -> Table:
        """Make a table of the running trials, then the best of the others."""
        history = self._history
        running, best = history.running(), history.best_trials(self._objective)
        others = [trial for trial in best if trial.state != "running"]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("trial", "epoch", self._objective.metric, "best", "state", "left"):
            table.add_column(name, no_wrap=True)
        table.add_column("parameters", overflow="fold")
        for trial in [*running, *others][:SHOWN]:
            table.add_row(
                str(trial.number), f"{trial.epoch}/{self._plan.epochs}", self._latest(trial), self._best(trial),
                trial.state, self._left(trial), describe_params(trial.params),
            )  # fmt: skip
        ended = len(history.trials) - len(running)
        summary = f"{ended} of {history.wanted_trials} trials ended, left {duration(self.seconds_left())}"
        table.caption = f"{summary}, best {self._best(best[0])} of trial {best[0].number}" if best else summary
        return table

    def _latest(self, trial: Trial) -> str:
        values = list(trial.curve(self._objective).values())
        return number(values[-1]) if values else ""

    def _left(self, trial: Trial) -> str:
        """Estimate the time left of a running trial that is not ended early."""
        if trial.state != "running" or not trial.results:
            return ""
        return duration((self._plan.epochs - trial.epoch) * trial.seconds / len(trial.results))

    def _best(self, trial: Trial) -> str:
        best = trial.best(self._objective)
        return number(best.metrics[self._objective.metric]) if best else ""

    def seconds_left(self) -> float:
        """Estimate the seconds left from the epochs so far; infinity before the first."""
        trials = self._history.trials
        done = sum(len(trial.results) for trial in trials)
        if not done:
            return float("inf")
        ended = [trial.epoch for trial in trials if trial.state not in ("running", "failed")]
        usual = sum(ended) / len(ended) if ended else self._plan.epochs
        to_come = (self._history.wanted_trials - len(trials)) * usual
        to_come += sum(max(usual - trial.epoch, 1) for trial in self._history.running())
        return to_come * sum(trial.seconds for trial in trials) / done / max(self._plan.at_once, 1)
