"""The cost of a detector's prediction, as further objectives of a sweep."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from mrqm.checkpoint.folder import build_unloaded
from mrqm.config import Config
from mrqm.engine.cost import model_cost
from mrqm.structures.metric import COST, metric_key

COSTS = tuple(metric_key(COST, name) for name in ("gflops", "latency_ms", "parameters_m"))
DEFAULT_SIDE = 800
"""Side in pixels of the image if the configuration names no size."""
REPEATS = 5


def measure_cost(config: Config) -> dict[str, float]:
    """Measure the cost of predicting one square image, of the size of the tiles or of the longest side.

    The weights do not matter, and are not loaded.

    Returns:
        `cost/gflops` (see `mrqm.engine.cost`, in 10⁹), `cost/latency_ms` (median, on this process's device and
        threads), `cost/parameters_m` (millions).
    """
    classes, device = len(config.data.classes or ("object",)), torch.device("cuda" if config.scaling.use_gpu else "cpu")
    side = config.data.tile.size if config.data.tile else config.data.longest_side or DEFAULT_SIDE
    side = -(-side // 32) * 32
    model = build_unloaded(config, classes).eval().to(device)
    image = torch.zeros(1, 3, side, side, device=device)
    mask = torch.zeros(1, side, side, dtype=torch.bool, device=device)
    with torch.inference_mode():  # not around the construction, which needs gradients to find the frozen stages
        model(image, mask)  # warms up
        seconds = [_time(lambda: model(image, mask), device) for _ in range(REPEATS)]
    cost = model_cost(model, (side, side))
    values = (cost.flops / 1e9, 1000 * statistics.median(seconds), cost.parameters / 1e6)
    return dict(zip(COSTS, values, strict=True))


def _time(work: Callable[[], object], device: torch.device) -> float:
    """Measure the seconds of some work, on a GPU from the first kernel's start to the last one's end."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began
