"""System metrics of a machine while it trains, by MLflow's names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch

SECONDS_BETWEEN_SAMPLES = 10.0


@contextmanager
def system_sampled(send: Callable[[dict[str, float]], None]) -> Iterator[None]:
    """Sample this machine's metrics every ten seconds, in a thread, while the context is open."""
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(send, ended), name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sample(send: Callable[[dict[str, float]], None], ended: threading.Event) -> None:
    psutil.cpu_percent()  # the next call returns the mean since this one
    begin = psutil.net_io_counters()
    while not ended.wait(SECONDS_BETWEEN_SAMPLES):
        network = psutil.net_io_counters()
        send(
            _host()
            | _gpus()
            | {
                "network_receive_megabytes": (network.bytes_recv - begin.bytes_recv) / 1e6,
                "network_transmit_megabytes": (network.bytes_sent - begin.bytes_sent) / 1e6,
            }
        )


def _host() -> dict[str, float]:
    memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_percentage": disk.percent,
        "disk_available_megabytes": disk.free / 1e6,
    }


def _gpus() -> dict[str, float]:
    values: dict[str, float] = {}
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        values[f"gpu_{index}_utilization_percentage"] = torch.cuda.utilization(index)
        values[f"gpu_{index}_memory_usage_megabytes"] = (total - free) / 1e6
        values[f"gpu_{index}_memory_usage_percentage"] = 100 * (total - free) / total
    return values
