import threading

import psutil
import pytest

from pipelines.compute import system_metrics
from pipelines.compute.system_metrics import system_sampled


def test_a_machine_is_sampled_until_the_context_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_metrics, "SECONDS_BETWEEN_SAMPLES", 0.01)
    samples: list[dict[str, float]] = []
    enough = threading.Event()

    def keep(values: dict[str, float]) -> None:
        samples.append(values)
        if len(samples) > 1:
            enough.set()

    with system_sampled(keep):
        assert enough.wait(30)
    count = len(samples)
    assert 0 <= samples[1]["cpu_utilization_percentage"] <= 100
    assert 0 < samples[1]["system_memory_usage_megabytes"] < psutil.virtual_memory().total / 1e6
    assert samples[1]["network_receive_megabytes"] >= samples[0]["network_receive_megabytes"] >= 0
    assert not enough.wait(0.1) or len(samples) == count
