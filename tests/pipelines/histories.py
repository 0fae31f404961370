"""What MLflow was told of a run."""

from __future__ import annotations

import itertools

from mlflow import MlflowClient


def assert_told_once_and_in_order(uri: str, run_id: str, epochs: int) -> None:
    """Every epoch is there, and of every metric but those of machines no step came twice or out of turn."""
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
