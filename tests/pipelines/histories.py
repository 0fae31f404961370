"""Checks of a run's metric histories in MLflow."""

from __future__ import annotations

import itertools

from mlflow import MlflowClient


def assert_logged_once_in_order(uri: str, run_id: str, epochs: int) -> None:
    """Check that all epochs are logged, and that no metric, except those of machines, repeats or reorders a step."""
    client = MlflowClient(uri)
    assert [int(metric.value) for metric in client.get_metric_history(run_id, "epoch")] == list(range(1, epochs + 1))
    names = client.get_run(run_id).data.metrics.keys()
    assert {"train/loss", "train/lr", "coco/AP"} <= names
    for name in names:
        steps = [metric.step for metric in client.get_metric_history(run_id, name)]
        if name.startswith("system/") or name in ("restarts", "seconds_lost"):
            assert steps == sorted(steps), name
        else:
            assert all(before < after for before, after in itertools.pairwise(steps)), (name, steps)
