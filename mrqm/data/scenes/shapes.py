"""Solids of the generated scenes: cars, trucks, people, cyclists and what surrounds them, as coloured faces.

A shape is a list of faces in its own frame: metres, x forward, y left, z up, corners counter-clockwise seen from
outside. The painter shades and culls them, so shapes only choose geometry and colours.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

Array = np.ndarray
Face = tuple[Array, Array]  # corners (N, 3), colour (3,) of 0..255

GLASS = (28, 34, 42)
RUBBER = (24, 24, 26)
SKIN = ((224, 188, 160), (170, 124, 92), (98, 70, 54), (40, 32, 28), (60, 44, 34))
CAR_COLOURS = (  # most cars are white, grey or black, many close to asphalt
    *(((232, 233, 232), (214, 216, 218), (165, 168, 172), (118, 121, 126), (84, 87, 92), (38, 39, 43)) * 3),
    *((28, 30, 36), (132, 34, 36), (40, 58, 100), (74, 90, 80), (178, 156, 78), (112, 86, 66), (96, 30, 44)),
)
CARGO_COLOURS = ((228, 228, 224), (196, 198, 196), (60, 84, 128), (150, 48, 40), (104, 116, 84), (138, 122, 96))
CLOTHES = (
    *((236, 236, 232), (30, 30, 36), (64, 68, 78), (176, 40, 44), (40, 70, 140), (214, 176, 60)),
    *((60, 110, 76), (150, 110, 150), (206, 150, 140), (110, 96, 80), (90, 150, 190)),
)
CONTAINER_COLOURS = ((150, 62, 44), (40, 84, 120), (52, 104, 84), (176, 140, 60), (150, 152, 150))
FOLIAGE = ((44, 66, 34), (58, 80, 38), (72, 88, 44), (38, 58, 40), (96, 98, 50))


def pick(rng: np.random.Generator, colours: Sequence[Sequence[int]], spread: float = 8) -> Array:
    """One of the colours, slightly off, as float (3,)."""
    return np.array(colours[int(rng.integers(len(colours)))]) + spread * rng.standard_normal(3)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Array:
    """Counter-clockwise corners (4, 2)."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


def disc(radius_x: float, radius_y: float, corners: int = 6, x: float = 0.0, y: float = 0.0) -> Array:
    """Corners (corners, 2) of an ellipse."""
    return _unit_circle(corners) * (radius_x, radius_y) + (x, y)


@cache
def _unit_circle(corners: int) -> Array:
    angle = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def flat(outline: Array, z: float, colour: Sequence[float] | Array) -> Face:
    """A horizontal face at height z."""
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
    """Walls from `base` (N, 2) at z0 to `top` (N, 2; the base by default) at z1, closed by a roof."""
    low, colour = flat(base, z0, colour)
    high = flat(base if top is None else top, z1, colour)[0]
    following = np.arange(1, len(base) + 1) % len(base)
    walls = np.stack([low, low[following], high[following], high], axis=1)
    return [*((wall, colour) for wall in walls), (high, colour if roof is None else np.asarray(roof, dtype=float))]


def _rounded(x0: float, x1: float, half_width: float, cut: float) -> Array:
    inner = half_width - cut
    return np.array(
        [
            *((x0 + cut, -half_width), (x1 - cut, -half_width), (x1, -inner), (x1, inner)),
            *((x1 - cut, half_width), (x0 + cut, half_width), (x0, inner), (x0, -inner)),
        ]
    )


def car(rng: np.random.Generator) -> list[Face]:
    """Hatchbacks, saloons and vans, 4.0 to 4.9 m."""
    half, width = rng.uniform(2.0, 2.45), rng.uniform(0.88, 0.98)
    paint = pick(rng, CAR_COLOURS)
    back, front, height = ((-0.95, 0.45, 1.9), (-0.92, 0.3, 1.5), (-0.62, 0.3, 1.4))[rng.integers(3)]
    cabin = rectangle(back * half, -width * 0.92, front * half, width * 0.92)
    roof = rectangle(back * half + 0.28, -width * 0.72, front * half - 0.5, width * 0.72)
    roof_paint = np.array(GLASS) + 12.0 if rng.random() < 0.15 else np.minimum(paint * 1.06, 255)
    return [
        *prism(_rounded(-half + 0.1, half - 0.1, width - 0.08, 0.2), 0.0, 0.35, RUBBER),
        *prism(_rounded(-half, half, width, 0.3), 0.3, 0.85, paint),
        *prism(cabin, 0.85, height, GLASS, top=roof, roof=roof_paint),
    ]


def truck(rng: np.random.Generator, length: float) -> list[Face]:
    """A cab and, apart from it, a box, a tipper with a load, or a flat bed with crates."""
    half, width = length / 2, rng.uniform(1.15, 1.3)
    cab_back = half - rng.uniform(1.7, 2.2)
    paint = pick(rng, CAR_COLOURS)
    cab = rectangle(cab_back, -width * 0.95, half, width * 0.95)
    cab_roof = rectangle(cab_back, -width * 0.85, half - 0.55, width * 0.85)
    bed = rectangle(-half, -width, cab_back - 0.35, width)
    faces = prism(rectangle(-half, -width * 0.8, half, width * 0.8), 0.0, 0.9, RUBBER)
    faces += prism(cab, 0.6, 1.5, paint) + prism(cab, 1.5, 2.5, GLASS, top=cab_roof, roof=paint)
    kind, cargo = rng.random(), pick(rng, CARGO_COLOURS)
    if kind < 0.6:
        height = rng.uniform(2.6, 3.3)
        ribs = np.linspace(-half + 0.6, cab_back - 1.0, 5)
        faces += prism(bed, 0.9, height, cargo)
        faces += [flat(rectangle(x, -width, x + 0.16, width), height, cargo * 0.82) for x in ribs]
        return faces
    faces += prism(bed, 0.9, 1.8, cargo)
    inner = rectangle(-half + 0.25, -width + 0.25, cab_back - 0.6, width - 0.25)
    if kind < 0.8:
        load = pick(rng, ((122, 98, 70), (96, 92, 88), (150, 130, 96)))
        heap = rectangle(-half + 1.0, -width * 0.4, cab_back - 1.4, width * 0.4)
        return [*faces, flat(inner, 1.81, load * 0.7), *prism(inner, 1.82, 2.4, load, top=heap)]
    faces.append(flat(inner, 1.81, (70, 62, 54)))
    for x in np.arange(-half + 0.4, cab_back - 1.6, 1.3):
        if rng.random() < 0.75:
            faces += prism(rectangle(x, -width * 0.7, x + 1.1, width * 0.7), 1.82, 2.5, pick(rng, CARGO_COLOURS))
    return faces


def pedestrian(rng: np.random.Generator) -> list[Face]:
    """Legs in some stride, a torso wider than deep, and a head; some carry a bag, a few an umbrella."""
    top, legs = pick(rng, CLOTHES), pick(rng, ((34, 36, 44), (52, 60, 84), (92, 84, 72), (150, 146, 138)))
    faces = prism(disc(rng.uniform(0.12, 0.34), 0.17, 5), 0.0, 0.85, legs)
    faces += prism(disc(0.18, 0.3), 0.8, 1.45, top, top=disc(0.15, 0.27))
    faces += prism(disc(0.13, 0.13, 5), 1.45, 1.75, pick(rng, SKIN))
    if rng.random() < 0.25:
        faces += prism(rectangle(-0.34, -0.16, -0.14, 0.16), 0.9, 1.4, pick(rng, CLOTHES))
    if rng.random() < 0.04:
        faces += prism(disc(0.55, 0.55, 8), 1.8, 2.1, pick(rng, CLOTHES), top=disc(0.08, 0.08, 8))
    return faces


def cyclist(rng: np.random.Generator) -> list[Face]:
    """A bicycle with its rider: two wheels in line, a bent torso, a head or a helmet in front."""
    metal, top = pick(rng, ((30, 30, 34), (150, 40, 40), (190, 192, 194), (44, 84, 130))), pick(rng, CLOTHES)
    wheel = disc(0.36, 0.36, 8)
    faces: list[Face] = []
    for x in (-0.62, 0.62):
        corners = np.column_stack([wheel[:, 0] + x, np.zeros(8), wheel[:, 1] + 0.36])
        faces += [(corners, np.array(RUBBER, float)), (corners[::-1], np.array(RUBBER, float))]
    faces += prism(rectangle(-0.75, -0.07, 0.75, 0.07), 0.45, 0.72, metal)
    faces += prism(rectangle(0.5, -0.34, 0.6, 0.34), 0.9, 1.05, RUBBER)
    faces += prism(disc(0.13, 0.2, 5, -0.1), 0.45, 0.95, (44, 48, 62))
    faces += prism(disc(0.24, 0.26, 6, -0.2), 0.9, 1.45, top, top=disc(0.24, 0.24, 6, 0.12))
    helmet = pick(rng, CLOTHES) if rng.random() < 0.4 else pick(rng, SKIN)
    return faces + prism(disc(0.15, 0.14, 5, 0.28), 1.42, 1.72, helmet)


def tree(rng: np.random.Generator, radius: float) -> list[Face]:
    """A trunk under a heap of leaf clusters, darker below and outside than on top."""
    foliage = pick(rng, FOLIAGE, 6)
    height = radius * rng.uniform(1.5, 2.1)
    faces = prism(disc(0.18, 0.18, 4), 0.0, height * 0.6, (74, 60, 46))
    count = int(14 + radius * 9)
    level = np.sort(rng.random(count))
    reach = radius * np.sqrt(1 - level**2) * np.sqrt(rng.random(count)) * 0.85
    angle = rng.uniform(0, 2 * np.pi, count)
    size = radius * rng.uniform(0.2, 0.42, count)
    tint = (0.62 + 0.55 * level) * rng.uniform(0.84, 1.16, count)
    leaves = np.empty((count, 7, 3))
    leaves[..., :2] = disc(1.0, 1.0, 7) + rng.normal(0, 0.14, (count, 7, 2))
    leaves[..., :2] *= size[:, None, None]
    leaves[..., :2] += (reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))[:, None]
    leaves[..., 2] = height * (0.45 + 0.55 * level[:, None])
    return faces + list(zip(leaves, np.clip(foliage * tint[:, None], 0, 255), strict=True))


def bush(rng: np.random.Generator) -> list[Face]:
    """A low tree without a trunk, as small as a person or as large as a car."""
    return tree(rng, rng.uniform(0.45, 1.1))[5:]


def lamp_post(rng: np.random.Generator) -> list[Face]:
    """A thin pole with an arm."""
    metal = pick(rng, ((150, 152, 154), (84, 88, 90)))
    arm = rectangle(0.0, -0.1, 1.6, 0.1)
    return [*prism(disc(0.1, 0.1, 4), 0.0, 6.0, metal), *prism(arm, 6.0, 6.15, metal)]


def crate(rng: np.random.Generator, length: float, width: float, height: float, colours: Sequence = ()) -> list[Face]:
    """A box: bins, kiosks, containers and what else may be mistaken for a vehicle."""
    paint = pick(rng, colours or ((60, 66, 62), (46, 84, 60), (120, 122, 120), (170, 168, 160)))
    outline = rectangle(-length / 2, -width / 2, length / 2, width / 2)
    ridges = np.arange(-length / 2 + 0.4, length / 2 - 0.3, 0.8) if length > 4 else ()
    lines = [flat(rectangle(x, -width / 2, x + 0.2, width / 2), height, paint * 0.88) for x in ridges]
    return [*prism(outline, 0.0, height, paint), *lines]


def parasol(rng: np.random.Generator) -> list[Face]:
    """A market umbrella of 2 to 3 m."""
    radius = rng.uniform(0.9, 1.5)
    return prism(disc(radius, radius, 8), 2.0, 2.7, pick(rng, CLOTHES), top=disc(0.1, 0.1, 8))


def building(rng: np.random.Generator, length: float, width: float, height: float) -> list[Face]:
    """A flat roof with parapet, vents and air conditioning, or a ridge; rows of windows on the walls."""
    wall = pick(rng, ((176, 166, 150), (150, 120, 100), (190, 188, 182), (132, 130, 128), (168, 146, 120)))
    outline = rectangle(-length / 2, -width / 2, length / 2, width / 2)
    faces = prism(outline, 0.0, height, wall)[:-1]
    faces += _windows(rng, length, width, height)
    if height < 8 and width < 10 and rng.random() < 0.8:
        tiles = pick(rng, ((146, 78, 58), (120, 70, 60), (92, 88, 90), (128, 112, 96)))
        over = rectangle(-length / 2 - 0.4, -width / 2 - 0.4, length / 2 + 0.4, width / 2 + 0.4)
        hip = rng.choice([0.0, width * 0.4])
        ridge = np.array([(-length / 2 + hip, 0), (length / 2 - hip, 0), (length / 2 - hip, 0), (-length / 2 + hip, 0)])
        return faces + prism(over, height, height + width * 0.3, tiles, top=ridge)[:-1]
    roof = pick(rng, ((150, 148, 144), (112, 112, 114), (182, 176, 166), (96, 84, 78), (120, 132, 138)))
    inner = rectangle(-length / 2 + 0.4, -width / 2 + 0.4, length / 2 - 0.4, width / 2 - 0.4)
    faces += [flat(outline, height, wall * 1.08), flat(inner, height + 0.01, roof)]
    if rng.random() < 0.4:
        seams = np.arange(-length / 2 + 1.4, length / 2 - 1.0, 1.5)
        faces += [
            flat(rectangle(x, -width / 2 + 0.4, x + 0.14, width / 2 - 0.4), height + 0.02, roof * 0.9) for x in seams
        ]
    for _ in range(rng.integers(1, 3 + int(length * width / 40))):
        x, y = rng.uniform(-0.38, 0.38, 2) * (length, width)
        faces += _roof_unit(rng, x, y, height)
    return faces


def _roof_unit(rng: np.random.Generator, x: float, y: float, z: float) -> list[Face]:
    length, width = rng.uniform(0.5, 2.2, 2)
    colour = pick(rng, ((196, 198, 198), (140, 144, 146), (84, 86, 90), (170, 160, 140)))
    outline = rectangle(x - length / 2, y - width / 2, x + length / 2, y + width / 2)
    shadow = flat(outline + 0.35, z + 0.03, (70, 70, 74))
    return [shadow, *prism(outline, z, z + rng.uniform(0.4, 1.2), colour)]


def _windows(rng: np.random.Generator, length: float, width: float, height: float) -> list[Face]:
    colour = pick(rng, ((52, 60, 70), (70, 84, 96), (40, 42, 46)))
    pitch = rng.uniform(1.8, 3.2)
    faces: list[Face] = []
    for span, away, axis in ((length, width / 2, 1), (width, length / 2, 0)):
        along = np.arange(-span / 2 + pitch * 0.6, span / 2 - pitch * 0.4, pitch)
        x, z = (grid.reshape(-1, 1) for grid in np.meshgrid(along, np.arange(1.0, height - 1.4, 3.0)))
        for side in (-1, 1):
            step = 0.55 * side * (1 if axis else -1)  # keeps corners counter-clockwise seen from outside
            corners = np.empty((len(x), 4, 3))
            corners[..., axis] = side * away * 1.002
            corners[..., 1 - axis] = x + np.array([step, -step, -step, step])
            corners[..., 2] = z + np.array([0, 0, 1.4, 1.4])
            faces += [(pane, colour) for pane in corners]
    return faces
