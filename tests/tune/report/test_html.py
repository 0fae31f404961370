"""Reports of sweeps that are simulated: what is in them, and what a figure shows."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mrqm.config import Config
from pipelines.registry.register import RegisteredModel
from tune.report.html import write_report
from tune.report.leaderboard import leaderboard, print_result
from tune.report.plots import figures, learning_curves, over_keys
from tune.report.result import SweepResult
from tune.state.history import History

from ..simulation import EPOCHS, Simulation

TinyConfig = Callable[..., Config]
IOU, WEIGHT, ENCODER = "loss.mining.base_iou", "loss.one_to_many.dense_loss_weight", "model.encoder"
SPACE: dict[str, Any] = {
    "search": {"algorithm": "random"},
    "parameters": {
        IOU: {"uniform": [0.3, 0.8]},
        WEIGHT: {"loguniform": [0.1, 10]},
        ENCODER: {"choice": ["sae", "full"]},
    },
}
BINS = ("very_tiny", "tiny", "small")


def score(params: Mapping[str, Any], epoch: int) -> float:
    return 0.5 - abs(params[IOU] - 0.55) + 0.01 * epoch


class WithBins(Simulation):
    def train(self, task: Any, epoch: int) -> Any:
        report = super().train(task, epoch)
        report.metrics.update({f"coco/AP_{name}": 0.1 * i for i, name in enumerate(BINS)}, **{"cost/gflops": 9.0})
        return report


@pytest.fixture
def simulate(tiny_config: TinyConfig, tmp_path: Path) -> Callable[..., SweepResult]:
    def run(**space: Any) -> SweepResult:
        simulation = WithBins(tiny_config(f"train.epochs={EPOCHS}"), tmp_path, score, **SPACE | space)
        history = simulation.run()
        found = simulation.sampler.space
        best = history.best_trials(found.objective[0])[0]
        result = best.best(found.objective[0])
        assert result is not None
        return SweepResult(
            name="simulated", space=found, history=history, best=best, checkpoint=tmp_path / result.checkpoint,
            model=RegisteredModel("models:/detector/7", "detector", "7"), report=tmp_path / "report.html",
            tracking_uri="http://mlflow", run_id="r1", reproduce="mrqm train -c tiny.yaml a=1",
        )  # fmt: skip

    return run


def test_a_report_says_what_is_best_and_how_to_get_it_again(simulate: Callable[..., SweepResult]) -> None:
    outcome = simulate()
    write_report(outcome)
    text = outcome.report.read_text()
    for words in ("mrqm train -c tiny.yaml a=1", "detector version 7", outcome.best.name, "in 00:0", "r1"):
        assert words in text
    titles = ("Leaderboard", "Learning curves", "Importance", "coco/AP over each key", "All trials, by all keys")
    assert [text.count(title) > 0 for title in titles] == [True] * 5
    assert "<script src" not in text, "it needs nothing else"


def test_a_leaderboard_has_size_bins_from_small_to_large_and_a_column_for_each_key(
    simulate: Callable[..., SweepResult],
) -> None:
    outcome = simulate()
    write_report(outcome)
    text = outcome.report.read_text()
    header = text[text.index("<h2>Leaderboard") :].partition("</tr>")[0].split("<th>")[1:]
    names = [cell.removesuffix("</th>") for cell in header]
    assert names[:5] == ["trial", "AP", "AP_very_tiny", "AP_tiny", "AP_small"]
    assert names[5:] == ["epochs", "state", "cost", "AP/hour", "base_iou", "dense_loss_weight", "encoder"]


def test_learning_curves_end_in_a_cross_where_a_trial_was_pruned(simulate: Callable[..., SweepResult]) -> None:
    outcome = simulate()
    pruned = [trial for trial in outcome.history.trials if trial.state == "pruned"]
    curves = {curve.name: curve for curve in learning_curves(outcome.space.objective[0], outcome.history).data}
    assert pruned
    for trial in pruned:
        curve = curves[f"trial {trial.number}, pruned"]
        assert (curve.x[-1], curve.marker.symbol[-1]) == (trial.epoch, "x")


def test_every_trial_is_over_each_of_its_keys(simulate: Callable[..., SweepResult]) -> None:
    outcome = simulate()
    figure = over_keys(outcome.space, outcome.history)
    points = [(trace.xaxis, x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)]
    best = {trial.number: trial.best(outcome.space.objective[0]) for trial in outcome.history.trials}
    for axis, key in (("x", IOU), ("x2", WEIGHT), ("x3", ENCODER)):
        values = {(t.params[key], r.metrics["coco/AP"]) for t in outcome.history.trials if (r := best[t.number])}
        assert {(x, y) for at, x, y in points if at == axis} == values
    assert [figure.layout[f"xaxis{n}"].type for n in ("", "2", "3")] == [None, "log", None]


def test_two_objectives_have_a_front_and_one_has_none(simulate: Callable[..., SweepResult]) -> None:
    two = simulate(
        objective=["coco/AP", {"metric": "cost/gflops", "mode": "min"}],
        search={"algorithm": "nsga2", "startup_trials": 4},
        scheduler={"algorithm": "none"},
    )
    assert "Best compromises" in dict(figures(two.space, two.history))


def test_a_sweep_without_results_of_its_keys_still_has_a_report(simulate: Callable[..., SweepResult]) -> None:
    assert len(list(figures(simulate().space, History()))) == 1


def test_the_terminal_gets_the_same(simulate: Callable[..., SweepResult]) -> None:
    console = Console(file=io.StringIO(), width=160)
    print_result(simulate(), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("AP_very_tiny  AP_tiny  AP_small", "AP/hour", "detector version 7", "mrqm train -c tiny.yaml a=1"):
        assert words in text


def test_the_leaderboard_is_whole_in_80_columns(simulate: Callable[..., SweepResult]) -> None:
    log = io.StringIO()
    outcome = simulate(search={"algorithm": "random"}, scheduler={"algorithm": "none"})
    Console(file=log, width=80).print(leaderboard(outcome.space, outcome.history, 10, 80))
    head, first, *_ = log.getvalue().splitlines()
    assert "…" not in log.getvalue()
    assert max(map(len, log.getvalue().splitlines())) <= 80
    assert head.split()[:2] == ["trial", "AP"] and head.split()[-1] == "AP/hour"
    assert len(head.split()) == len(first.split())
