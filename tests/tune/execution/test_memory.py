"""A sweep on a node without memory: Ray kills every process of a trial as soon as it works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from pipelines.failures.taxonomy import FailureKind
from tune.state.records import Failed, Lost

from ..workplace import Workplace, start_cluster

pytestmark = pytest.mark.ray

SPACE = """
objective: {metric: train/loss, mode: min}
search: {algorithm: random}
scheduler: {algorithm: none}
budget: {trials: 1}
fixed: {train.epochs: 2}
parameters:
  optim.lr: {uniform: [0.001, 0.002]}
"""
# Anything is too much: whatever else runs on this machine, and whatever memory it has.
WITHOUT_MEMORY = {"memory_usage_threshold": 0.0001, "memory_monitor_refresh_ms": 50}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with start_cluster(num_cpus=1, _system_config=WITHOUT_MEMORY) as cluster:
        yield cluster


def test_a_trial_without_memory_is_retried_and_then_fails_with_the_sentence_that_matters(
    place: Path, cluster: Cluster
) -> None:
    (place / "memory.yaml").write_text(SPACE)
    workplace = Workplace(place, cluster.address)
    command = workplace.tune("hungry", "memory")
    assert command.end() == 2, command.said
    entries = workplace.history("hungry").entries
    assert [entry.kind for entry in entries if isinstance(entry, Lost)] == [FailureKind.OUT_OF_MEMORY] * 3
    (failed,) = [entry for entry in entries if isinstance(entry, Failed)]
    assert failed.kind is FailureKind.OUT_OF_MEMORY
    assert failed.error.startswith("failed 4 times without progress: out of memory: ")
    assert f"trial 0 failed: {failed.error}" in command.errors
    assert "lower train.batch_size" in command.errors
    assert "of the node's" in failed.error and "\n" not in failed.error
    assert "Top 10 memory users" in failed.details and "Top 10" not in command.said
    assert "--retry-failed" in command.errors
    assert workplace.children("hungry")["trial-0000"].data.tags["sweep.failure"] == "out_of_memory"
