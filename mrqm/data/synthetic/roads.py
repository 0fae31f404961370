"""Roads of the generated scenes: surface and marks, traffic, pavements, and the junctions where two of them cross."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mrqm.data.synthetic import shapes
from mrqm.data.synthetic.builder import Builder
from mrqm.data.synthetic.faces import Array, rectangle


@dataclass(frozen=True)
class Road:
    """Straight road along x or y, in metres."""

    at: float
    """Position of its middle on the other axis."""
    half: float
    """Half the width between the kerbs."""
    vertical: bool
    """True if it runs along y."""
    low: float
    high: float
    """End of the road; `low` is its beginning."""

    @property
    def lanes(self) -> int:
        """Number of lanes in each direction."""
        return max(1, int(self.half // 3.2))

    def outline(self, a0: float, b0: float, a1: float, b1: float) -> Array:
        """Compute a rectangle on the road.

        Args:
            a0: beginning along the road in metres.
            b0: beginning across the road in metres; b increases to the left of the traffic.
            a1: end along the road in metres.
            b1: end across the road in metres.

        Returns:
            (4, 2) corners in metres.
        """
        return (
            rectangle(self.at - b1, a0, self.at - b0, a1)
            if self.vertical
            else rectangle(a0, self.at + b0, a1, self.at + b1)
        )

    def place(self, put: Callable[..., None], a: float, b: float, heading: float | None = None) -> None:
        """Put a thing on the road.

        Args:
            put: method of `Builder` that adds the thing.
            a: position along the road in metres.
            b: position across the road in metres.
            heading: direction relative to the road in radians; None leaves it to `put`.
        """
        position = (self.at - b, a) if self.vertical else (a, self.at + b)
        put(*position) if heading is None else put(*position, heading + self.vertical * np.pi / 2)


def lay_road(build: Builder, road: Road, crossings: Sequence[tuple[float, float]]) -> None:
    """Build a road with its traffic, pedestrians and furniture.

    Args:
        build: world under construction.
        road: road to build.
        crossings: positions along the road and half widths of the roads that cross it, in metres.
    """
    _surface(build, road)
    for side in (-1, 1):
        for lane in range(road.lanes):
            _traffic(build, road, side, lane)
        _passers_by(build, road, side)
        _furniture(build, road, side, crossings)


def _surface(build: Builder, road: Road) -> None:
    rng, colour = build.rng, build.asphalt * build.rng.uniform(0.93, 1.07)
    build.ground(road.outline(road.low, -road.half, road.high, road.half), "asphalt", colour)
    edge = road.half - 0.35
    marks = [road.outline(road.low, b - 0.07, road.high, b + 0.07) for b in (-edge, edge)]
    for a in np.arange(road.low, road.high, 6.0):
        for b in np.unique([side * lane * road.half / road.lanes for side in (-1, 1) for lane in range(road.lanes)]):
            marks.append(road.outline(a, b - 0.08, a + 3.0, b + 0.08))
    build.marks(marks, rng.uniform(0.8, 1.0))
    if road.lanes > 1:
        doubled = [road.outline(road.low, b - 0.08, road.high, b + 0.08) for b in (-0.2, 0.2)]
        build.marks(doubled, 0.9, yellow=rng.random() < 0.6)
    for a in np.arange(road.low, road.high, 24.0):  # repairs
        a, b = a + rng.uniform(0, 15), rng.uniform(-road.half + 0.5, road.half - 2)
        build.ground(road.outline(a, b, a + rng.uniform(1, 6), b + rng.uniform(0.8, 1.6)), "asphalt", colour * 0.9)


def _traffic(build: Builder, road: Road, side: int, lane: int) -> None:
    """Fill one lane with traffic on the right; cyclists ride along the kerb."""
    rng, b = build.rng, -side * (lane + 0.5) * road.half / road.lanes
    heading = 0.0 if side > 0 else np.pi
    a = road.low + rng.exponential(9)
    while a < road.high:
        kind = rng.random()
        if kind < 0.16:
            road.place(build.truck, a, b, heading)
        elif kind < 0.32 and lane == road.lanes - 1:
            road.place(build.cyclist, a, b - side * 0.9, heading)
        else:
            road.place(build.car, a, b + rng.normal(0, 0.15), heading)
        a += 9 + rng.exponential(14 / build.bustle)


def _passers_by(build: Builder, road: Road, side: int) -> None:
    rng, b = build.rng, side * (road.half + 1.3)
    for a in np.arange(road.low, road.high, 5.0):
        if rng.random() < 0.2 * build.bustle:
            road.place(build.person, a + rng.normal(0, 1), b + rng.normal(0, 0.5))
        if rng.random() < 0.12 * build.bustle:
            road.place(build.cyclist, a, b, 0.0 if side > 0 else np.pi)
        if rng.random() < 0.03:
            road.place(build.junk, a, b)


def _furniture(build: Builder, road: Road, side: int, crossings: Sequence[tuple[float, float]]) -> None:
    """Plant a row of trees or of lamp posts."""
    rng = build.rng
    trees = rng.random() < 0.5
    step, radius = (rng.uniform(8, 13), rng.uniform(1.4, 2.6)) if trees else (22.0, 0.0)

    def plant(x: float, y: float) -> None:
        build.tree(x, y, radius * rng.uniform(0.8, 1.2))

    def light(x: float, y: float, heading: float) -> None:
        build.put(shapes.lamp_post, x, y, heading, tall=True)

    for a in np.arange(road.low + rng.uniform(0, step), road.high, step):
        if any(abs(a - at) < half + 4 for at, half in crossings):
            continue
        if trees:
            road.place(plant, a, side * (road.half + 2.2))
        else:
            road.place(light, a, side * (road.half + 0.6), -side * np.pi / 2)


def lay_junction(build: Builder, down: Road, across: Road) -> None:
    """Build the crossing of two roads: plain asphalt, zebra crossings around it, and people on them.

    Args:
        build: world under construction.
        down: road along y.
        across: road along x.
    """
    rng, x, y = build.rng, down.at, across.at
    for outline in (
        rectangle(x - down.half - 4.2, y - across.half, x + down.half + 4.2, y + across.half),
        rectangle(x - down.half, y - across.half - 4.2, x + down.half, y + across.half + 4.2),
    ):
        build.ground(outline, "asphalt", build.asphalt)
    marks = []
    for road, other in ((down, across), (across, down)):
        for side in (-1, 1):
            stripes = np.arange(-road.half + 0.5, road.half - 0.6, 1.1)
            first, last = sorted(other.at + side * (other.half + reach) for reach in (0.8, 3.6))
            marks += [road.outline(first, b, last, b + 0.55) for b in stripes]
            for _ in range(rng.poisson(2.5 * build.bustle)):
                road.place(build.person, rng.uniform(first, last), rng.uniform(-road.half, road.half))
    build.marks(marks, rng.uniform(0.85, 1.0))
