"""Coloured faces, of which the solids of the generated scenes consist."""

from collections.abc import Sequence
from functools import cache

import numpy as np

Array = np.ndarray
Face = tuple[Array, Array]  # corners (N, 3), colour (3,) of 0..255


def pick(rng: np.random.Generator, colours: Sequence[Sequence[int]], spread: float = 5) -> Array:
    """Draw one of the colours with a small random deviation.

    Args:
        rng: generator of random numbers.
        colours: RGB colours of 0..255.
        spread: standard deviation of each channel.

    Returns:
        (3,) float colour.
    """
    return np.array(colours[int(rng.integers(len(colours)))]) + spread * rng.standard_normal(3)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Array:
    """Return the corners of a rectangle, counter-clockwise.

    Args:
        x0: least x in metres.
        y0: least y in metres.
        x1: greatest x in metres.
        y1: greatest y in metres.

    Returns:
        (4, 2) corners.
    """
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


def disc(radius_x: float, radius_y: float, corners: int = 6, x: float = 0.0, y: float = 0.0) -> Array:
    """Return the corners of an ellipse.

    Args:
        radius_x: radius along x in metres.
        radius_y: radius along y in metres.
        corners: number of corners.
        x: centre in metres.
        y: centre in metres.

    Returns:
        (corners, 2) corners, counter-clockwise.
    """
    return _unit_circle(corners) * (radius_x, radius_y) + (x, y)


@cache
def _unit_circle(corners: int) -> Array:
    angle = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def flat(outline: Array, z: float, colour: Sequence[float] | Array) -> Face:
    """Make a horizontal face.

    Args:
        outline: (N, 2) corners in metres.
        z: height in metres.
        colour: (3,) RGB of 0..255.

    Returns:
        The face.
    """
    corners = np.empty((len(outline), 3))
    corners[:, :2] = outline
    corners[:, 2] = z
    return corners, np.asarray(colour, dtype=float)


def prism(
    base: Array,
    z0: float,
    z1: float,
    colour: Sequence[float] | Array,
    top: Array | None = None,
    roof: Array | None = None,
) -> list[Face]:
    """Make walls between two outlines, closed by a roof.

    Args:
        base: (N, 2) lower outline in metres.
        z0: height of the lower outline in metres.
        z1: height of the upper outline in metres.
        colour: (3,) RGB of the walls, of 0..255.
        top: (N, 2) upper outline in metres; None takes the lower one.
        roof: (3,) RGB of the roof; None takes that of the walls.

    Returns:
        The faces, the roof last.
    """
    low, colour = flat(base, z0, colour)
    high = flat(base if top is None else top, z1, colour)[0]
    following = np.arange(1, len(base) + 1) % len(base)
    walls = np.stack([low, low[following], high[following], high], axis=1)
    return [*((wall, colour) for wall in walls), (high, colour if roof is None else np.asarray(roof, dtype=float))]
