"""Layout of a generated scene: roads, and blocks between them."""

from itertools import pairwise

import numpy as np

from mrqm.data.synthetic.blocks import RURAL, SUBURBAN, URBAN
from mrqm.data.synthetic.builder import Builder
from mrqm.data.synthetic.faces import rectangle
from mrqm.data.synthetic.roads import Road, lay_junction, lay_road
from mrqm.data.synthetic.world import Camera, World


def build_world(rng: np.random.Generator, camera: Camera) -> World:
    """Fill the ground in the camera's view: a town, a suburb or the country.

    Args:
        rng: generator of random numbers.
        camera: camera of the scene.

    Returns:
        The world.
    """
    build = Builder(rng, camera)
    x0, y0, x1, y1 = camera.bounds
    kinds, spacing, pavement = (
        (URBAN, rng.uniform(48, 75), 2.8),
        (SUBURBAN, rng.uniform(45, 70), 2.4),
        (RURAL, 150.0, 0.8),
    )[rng.choice(3, p=[0.5, 0.28, 0.22])]
    down = _parallel_roads(rng, True, (x0, x1), (y0, y1), spacing) if kinds is not RURAL or rng.random() < 0.5 else []
    across = _parallel_roads(rng, False, (y0, y1), (x0, x1), spacing)
    build.ground(rectangle(x0, y0, x1, y1), "concrete" if kinds is URBAN else "grass")
    for left, right in _stretches(x0, x1, down, pavement):
        for bottom, top in _stretches(y0, y1, across, pavement):
            kinds[rng.integers(len(kinds))](build, np.array([left, bottom, right, top]))
    for roads, others in ((down, across), (across, down)):
        for road in roads:
            lay_road(build, road, [(other.at, other.half) for other in others])
    for road in down:
        for other in across:
            lay_junction(build, road, other)
    return build.world


def _parallel_roads(
    rng: np.random.Generator, vertical: bool, span: tuple[float, float], length: tuple[float, float], spacing: float
) -> list[Road]:
    """Make roads from end to end of `length`, about `spacing` apart over `span`."""
    positions = np.arange(span[0] + rng.uniform(0.1, 0.9) * spacing, span[1], spacing)
    return [Road(at + rng.normal(0, 4), rng.choice([3.4, 3.4, 6.6]), vertical, *length) for at in positions]


def _stretches(low: float, high: float, roads: list[Road], pavement: float) -> list[tuple[float, float]]:
    """Find the stretches between the roads, cut where they are long."""
    edges = [low, *(road.at + side * (road.half + pavement) for road in roads for side in (-1, 1)), high]
    stretches: list[tuple[float, float]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        cuts = np.linspace(start, end, max(1, round((end - start) / 40)) + 1).tolist()
        stretches += [(a, b) for a, b in pairwise(cuts) if b - a > 3]
    return stretches
