"""The recorder's writes when MLflow, a real server, is not always there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mrqm.config import Config
from pipelines.tracking.store import resolve_experiment
from tune.report.mlflow_recorder import Recorder
from tune.state.journal import Journal
from tune.state.records import Reported, TrialBegan, Verdict

from ...pipelines.servers.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

TinyConfig = Callable[..., Config]


def test_epochs_that_came_while_mlflow_was_away_are_written_with_the_next(
    server: MlflowServer, tmp_path: Path, tiny_config: TinyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was open before and one that could not be made; both go on when MLflow is there again."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = tiny_config("name=sweep", f"output_dir={tmp_path}/runs", f"tracking.uri={server.uri}")
    folder = tmp_path / "runs" / "sweep"
    folder.mkdir(parents=True)
    journal = Journal(tmp_path / "sweep.jsonl")
    recorder = Recorder(config, config.model_copy(update={"output_dir": str(folder)}), journal, {})
    journal.listeners.append(recorder)

    def report(trial: int, epoch: int, verdict: Verdict = "continue") -> None:
        journal.write(
            Reported(
                trial=trial,
                epoch=epoch,
                step=10 * epoch,
                metrics={"coco/AP": 0.1 * epoch},
                seconds=1.0,
                checkpoint=f"epoch_{epoch}",
                verdict=verdict,
            )
        )
        wait(recorder._written)

    for trial in range(2):
        journal.write(TrialBegan(trial=trial, params={"optim.lr": 1e-3}, attributes={}))
    report(0, 1)
    server.stop()
    report(1, 1)
    report(0, 2)
    report(0, 3)
    server.start()
    monkeypatch.setattr("tune.report.mlflow_recorder.SECONDS_BETWEEN_ATTEMPTS", 0.0)
    report(0, 4)
    report(1, 2, "finished")
    report(0, 5, "finished")
    recorder.finish()
    recorder.sweep.__exit__(None, None, None)

    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name(resolve_experiment(config.tracking)).experiment_id])
    epochs = {
        run.info.run_name: sorted(metric.value for metric in client.get_metric_history(run.info.run_id, "epoch"))
        for run in runs
        if "mlflow.parentRunId" in run.data.tags
    }
    assert epochs == {"trial-0000": [1, 2, 3, 4, 5], "trial-0001": [1, 2]}
    assert {run.data.tags.get("sweep.state") for run in runs} == {None, "finished"}


def test_a_sweep_of_more_trials_than_a_page_recognises_all_of_them(
    server: MlflowServer, tmp_path: Path, tiny_config: TinyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("pipelines.tracking.client.PAGE", 1)
    config = tiny_config("name=sweep", f"output_dir={tmp_path}/runs", f"tracking.uri={server.uri}")
    folder = tmp_path / "runs" / "sweep"
    folder.mkdir(parents=True)
    trials_config = config.model_copy(update={"output_dir": str(folder)})
    journal = Journal(tmp_path / "sweep.jsonl")
    with Recorder(config, trials_config, journal, {}) as recorder:
        journal.listeners.append(recorder)
        for trial in range(3):
            journal.write(TrialBegan(trial=trial, params={"optim.lr": 1e-3}, attributes={}))
            journal.write(
                Reported(
                    trial=trial, epoch=1, step=10, metrics={"coco/AP": 0.1}, seconds=1.0, checkpoint="epoch_1",
                    verdict="finished",
                )
            )  # fmt: skip
        recorder.finish()

    def ends() -> dict[str, int]:
        client = MlflowClient(server.uri)
        runs = client.search_runs([client.get_experiment_by_name(resolve_experiment(config.tracking)).experiment_id])
        own = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == recorder.sweep.run_id]
        return {run.info.run_name: run.info.end_time for run in own}

    before = ends()
    assert len(before) == 3
    with Recorder(config, trials_config, journal, {}) as recorder:
        recorder.catch_up()
        recorder.finish()
    assert ends() == before, "an ended run is not written again"


def test_a_deleted_experiment_costs_a_sweep_nothing_that_does_not_come_when_it_is_restored(
    tmp_path: Path, tiny_config: TinyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("tune.report.mlflow_recorder.SHORT_PATIENCE", 0.5)
    monkeypatch.setattr("pipelines.tracking.tracker.SHORT_PATIENCE", 0.5)
    config = tiny_config("name=sweep", f"output_dir={tmp_path}/runs", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "runs" / "sweep"
    folder.mkdir(parents=True)
    journal = Journal(tmp_path / "sweep.jsonl")

    def record() -> Recorder:
        return Recorder(config, config.model_copy(update={"output_dir": str(folder)}), journal, {})

    recorder = record()
    journal.listeners.append(recorder)
    client = recorder.sweep.client
    experiment = client.get_experiment_by_name(resolve_experiment(config.tracking)).experiment_id
    client.delete_experiment(experiment)
    journal.write(TrialBegan(trial=0, params={"optim.lr": 1e-3}))
    journal.write(
        Reported(
            trial=0, epoch=1, step=10, metrics={"coco/AP": 0.5}, seconds=1, checkpoint="epoch_1", verdict="finished"
        )
    )
    recorder.finish()
    assert recorder.register(journal.trials[0], folder / "epoch_1", {"coco/AP": 0.5}) is None
    recorder.sweep.__exit__(None, None, None)
    assert recorder.unsent == 2, "the trial's run and the sweep's own"

    client.restore_experiment(experiment)
    journal.listeners.clear()
    again = record()
    again.catch_up()
    again.finish()
    again.sweep.__exit__(None, None, None)
    assert again.unsent == 0
    (run,) = [run for run in client.search_runs([experiment]) if run.info.run_name == "trial-0000"]
    assert (run.data.metrics["coco/AP"], run.data.tags["sweep.state"]) == (0.5, "finished")
