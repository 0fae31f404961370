"""Contents of the blocks between the roads of a generated scene."""

import numpy as np

from mrqm.data.synthetic import shapes
from mrqm.data.synthetic.builder import Builder
from mrqm.data.synthetic.faces import Array, rectangle


def _parking(build: Builder, rect: Array) -> None:
    x0, y0, x1, y1 = rect
    rng, depth = build.rng, 5.0
    build.ground(rectangle(*rect), rng.choice(["asphalt", "asphalt", "concrete"]))
    stall, filled = rng.uniform(2.45, 2.8), rng.uniform(0.15, 0.85)
    y = y0 + 1.0
    while y + depth < y1 - 0.5:
        borders = np.arange(x0 + 1.5, x1 - 1.0, stall)
        build.marks((rectangle(x - 0.07, y, x + 0.07, y + depth) for x in borders), 0.92)
        for x in borders[:-1][rng.random(len(borders[:-1])) < filled]:
            heading = rng.choice([-1, 1]) * np.pi / 2
            build.car(x + stall / 2 + rng.normal(0, 0.12), y + depth / 2 + rng.normal(0, 0.25), heading)
        if rng.random() < 0.3:
            for x in np.arange(x0 + 4, x1 - 3, rng.uniform(8, 14)):
                build.tree(x, y + depth, rng.uniform(1.3, 2.3))
        y += depth + (0.3 if rng.random() < 0.45 else 6.2)
    build.scatter(build.person, rect, 4 * build.bustle)
    build.scatter(build.junk, rect, 1.5)


def _plaza(build: Builder, rect: Array) -> None:
    rng = build.rng
    build.ground(rectangle(*rect), "paving")
    x0, y0, x1, y1 = rect
    tile = rng.uniform(4, 8)
    lines = [rectangle(x, y0, x + 0.15, y1) for x in np.arange(x0 + tile, x1, tile)]
    lines += [rectangle(x0, y, x1, y + 0.15) for y in np.arange(y0 + tile, y1, tile)]
    build.marks(lines, rng.uniform(0.5, 0.85))
    for _ in range(rng.integers(1, 3)):  # crowds
        x, y = build.somewhere(rect)
        spread = rng.uniform(2.0, 6.0)
        for dx, dy in rng.normal(0, spread, (rng.poisson(16 * build.bustle) + 2, 2)):
            if x0 < x + dx < x1 and y0 < y + dy < y1:
                build.person(x + dx, y + dy)
    build.scatter(build.person, rect, 8 * build.bustle)
    build.scatter(build.cyclist, rect, 3 * build.bustle)
    if rng.random() < 0.6:
        build.scatter(lambda x, y: build.put(shapes.parasol, x, y, tall=True), rect, rng.uniform(2, 8))
    for _ in range(rng.integers(0, 5)):  # planters
        x, y = build.somewhere(rect)
        length, width = rng.uniform(1.5, 5.0, 2)
        build.ground(rectangle(x - 0.3, y - 0.3, x + length + 0.3, y + width + 0.3), "concrete")
        build.ground(rectangle(x, y, x + length, y + width), "grass")
        build.scatter(build.bush, np.array([x, y, x + length, y + width]), 3)
    build.scatter(build.tree, rect, 3)
    build.scatter(build.junk, rect, 3)


def _park(build: Builder, rect: Array) -> None:
    rng = build.rng
    build.ground(rectangle(*rect), rng.choice(["grass", "meadow"]))
    x0, y0, x1, y1 = rect
    if rng.random() < 0.35:
        _pond(build, rect)
    start, end = (x0, rng.uniform(y0, y1)), (x1, rng.uniform(y0, y1))
    path = _curve(rng, np.array(start), np.array(end), rng.uniform(2.0, 3.2))
    build.ground(path, rng.choice(["soil", "paving", "concrete"]))
    heading = np.arctan2(end[1] - start[1], end[0] - start[0])
    middle = (path[: len(path) // 2] + path[len(path) // 2 :][::-1]) / 2
    for point in middle[rng.random(len(middle)) < 0.22 * build.bustle]:
        build.person(*(point + rng.normal(0, 0.7, 2)))
    for point in middle[rng.random(len(middle)) < 0.1 * build.bustle]:
        build.cyclist(point[0], point[1], heading + rng.choice([0, np.pi]))
    area = (x1 - x0) * (y1 - y0)
    build.scatter(build.tree, rect, area * rng.uniform(0.002, 0.014))
    build.scatter(build.bush, rect, area * rng.uniform(0.002, 0.01))
    build.scatter(build.person, rect, 6 * build.bustle)


def _pond(build: Builder, rect: Array) -> None:
    rng = build.rng
    x, y = build.somewhere(rect)
    angle = np.arange(40) * (2 * np.pi / 40)
    wobble = 1 + 0.22 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.1 * np.sin(5 * angle + rng.uniform(0, 6))
    shore = np.stack([np.cos(angle), np.sin(angle)], 1) * (wobble * rng.uniform(6, 14))[:, None]
    middle = np.array([x, y])
    build.ground(middle + shore * 1.1, "soil", build.colour("soil") * 0.85)
    build.ground(middle + shore, "water")
    build.water.append((x, y, float(np.linalg.norm(shore, axis=1).max())))


def _curve(rng: np.random.Generator, start: Array, end: Array, width: float) -> Array:
    """Compute the outline (60, 2) of a winding band: 30 points of one side, then 30 of the other backwards."""
    share = np.linspace(0, 1, 30)
    swing = rng.uniform(-5, 5) * np.sin(np.pi * share) + rng.uniform(-2, 2) * np.sin(3 * np.pi * share)
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    middle = start + share[:, None] * (end - start) + swing[:, None] * across
    return np.concatenate([middle + across * width / 2, (middle - across * width / 2)[::-1]])


def _fields(build: Builder, rect: Array) -> None:
    rng = build.rng
    x0, y0, x1, y1 = rect
    cuts = np.sort(rng.uniform(x0, x1, rng.integers(1, 4)))
    for left, right in zip((x0, *cuts), (*cuts, x1), strict=True):
        build.ground(rectangle(left, y0, right, y1), rng.choice(["crop", "furrows", "meadow", "soil", "crop"]))
        if rng.random() < 0.5:  # a hedge or a track between two fields
            for y in np.arange(y0, y1, rng.uniform(2, 6)):
                build.bush(right + rng.normal(0, 0.4), y + rng.normal(0, 1))
        else:
            build.ground(rectangle(right - 1.3, y0, right + 1.3, y1), "soil")
            if rng.random() < 0.5 * build.bustle:
                build.truck(right, rng.uniform(y0, y1), np.pi / 2)
    build.scatter(build.tree, rect, 3)
    build.scatter(build.person, rect, 3 * build.bustle)
    if rng.random() < 0.4:
        _pond(build, rect)


def _houses(build: Builder, rect: Array) -> None:
    rng = build.rng
    build.ground(rectangle(*rect), rng.choice(["grass", "grass", "soil"]))
    x0, y0, x1, y1 = rect
    pitch = rng.uniform(15, 20)
    for x in np.arange(x0 + pitch / 2, x1 - pitch / 3, pitch):
        for y in np.arange(y0 + pitch / 2, y1 - pitch / 3, pitch):
            length, width = rng.uniform(8, 12), rng.uniform(6, 8.5)
            heading = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.03)
            build.building(length, width, rng.uniform(3, 6), x, y, heading)
            build.ground(rectangle(x + pitch * 0.28, y - pitch / 2, x + pitch * 0.48, y + pitch * 0.2), "concrete")
            if rng.random() < 0.7:
                build.car(x + pitch * 0.38, y - rng.uniform(0, 5), np.pi / 2)
            if rng.random() < 0.4:
                build.building(rng.uniform(2, 4), 2.4, 2.2, x - pitch * 0.4, y + pitch * 0.35, heading)
            build.tree(x - pitch * 0.42 + rng.normal(0, 1), y - pitch * 0.4 + rng.normal(0, 1))
    build.scatter(build.person, rect, 5 * build.bustle)
    build.scatter(build.bush, rect, 8)


def _offices(build: Builder, rect: Array) -> None:
    rng = build.rng
    build.ground(rectangle(*rect), rng.choice(["concrete", "paving", "grass"]))
    x0, y0, x1, y1 = rect
    length, width = (x1 - x0) * rng.uniform(0.4, 0.7), (y1 - y0) * rng.uniform(0.4, 0.65)
    x, y = (x0 + x1) / 2 + rng.normal(0, 1.5), (y0 + y1) / 2 + rng.normal(0, 1.5)
    build.building(length, width, rng.uniform(5, 16), x, y)
    lane = rectangle(x0 + 1, y0 + 1, x1 - 1, y0 + 7)
    build.ground(lane, "asphalt")
    for along in np.arange(x0 + 4, x1 - 4, 5.6):
        if rng.random() < 0.6:
            build.car(along, y0 + 4, rng.choice([0, np.pi]))
    build.scatter(build.person, np.array([x0, y0, x1, y0 + 9]), 8 * build.bustle)
    build.scatter(build.junk, rect, 4)
    build.scatter(build.tree, np.array([x0, y1 - 6, x1, y1]), 3)


def _depot(build: Builder, rect: Array) -> None:
    rng = build.rng
    build.ground(rectangle(*rect), rng.choice(["concrete", "soil", "asphalt"]))
    x0, y0, x1, y1 = rect
    for x in np.arange(x0 + 4, x1 - 3, 3.7):
        if rng.random() < 0.55 * build.bustle + 0.15:
            build.truck(x, y0 + 7 + rng.normal(0, 0.4), rng.choice([-1, 1]) * np.pi / 2)
    heading = rng.choice([0, np.pi / 2])
    for x in np.arange(x0 + 5, x1 - 5, 7.0):
        for y in np.arange(y0 + 16, y1 - 6, 5.0):
            kind = rng.random()
            if kind < 0.22:
                tall = rng.random() < 0.33
                shape = shapes.container_stack if tall else shapes.container
                build.put(shape, x + rng.normal(0, 0.3), y, heading + rng.normal(0, 0.03), tall=tall)
            elif kind < 0.34:
                build.truck(x, y, rng.uniform(0, 2 * np.pi))
    build.scatter(build.person, rect, 7 * build.bustle)
    build.scatter(build.junk, rect, 8)
    build.scatter(build.car, rect, 2, rng.uniform(0, 6))


URBAN = (_parking, _plaza, _park, _offices, _offices, _houses, _depot)
SUBURBAN = (_parking, _park, _houses, _houses, _houses, _plaza)
RURAL = (_fields, _fields, _fields, _park, _depot)
