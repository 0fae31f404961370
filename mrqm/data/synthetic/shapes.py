"""Solids of the generated scenes: cars, trucks, people, cyclists and their surroundings, as coloured faces.

A shape is a list of faces in its own frame: metres, x forward, y left, z up, corners counter-clockwise seen from
outside. The painter shades and culls them, so shapes only choose geometry and colours.
"""

import numpy as np

from mrqm.data.synthetic.faces import Array, Face, disc, flat, pick, prism, rectangle

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
CONTAINER_COLOURS = ((132, 66, 52), (58, 84, 108), (66, 98, 84), (160, 136, 84), (150, 152, 150), (110, 100, 94))
FOLIAGE = ((44, 66, 34), (58, 80, 38), (72, 88, 44), (38, 58, 40), (96, 98, 50))


def _rounded(x0: float, x1: float, half_width: float, cut: float) -> Array:
    inner = half_width - cut
    return np.array(
        [
            *((x0 + cut, -half_width), (x1 - cut, -half_width), (x1, -inner), (x1, inner)),
            *((x1 - cut, half_width), (x0 + cut, half_width), (x0, inner), (x0, -inner)),
        ]
    )


def car(rng: np.random.Generator) -> list[Face]:
    """Build a hatchback, saloon or van of 4.0 to 4.9 m."""
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


def truck(rng: np.random.Generator) -> list[Face]:
    """Build a truck of 5.6 to 9 m: a cab and, apart from it, a box, a tipper with a load, or a flat bed with crates."""
    half, width = rng.uniform(2.8, 4.5), rng.uniform(1.15, 1.3)
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
    """Build a pedestrian: legs in some stride, a torso wider than deep, a head; some carry a bag, a few an umbrella."""
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
    """Build a bicycle with its rider: two wheels in line, a bent torso, a head or a helmet in front."""
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


def tree(rng: np.random.Generator) -> list[Face]:
    """Build a trunk and a crown of 1 m radius, for scaling."""
    trunk = prism(disc(0.07, 0.07, 4), 0.0, 1.0, (74, 60, 46))
    return trunk + _crown(rng, clusters=32, height=rng.uniform(1.5, 2.1))


def bush(rng: np.random.Generator) -> list[Face]:
    """Build a low crown on the ground, of 1 m radius, for scaling."""
    return _crown(rng, clusters=14, height=rng.uniform(0.9, 1.5))


def _crown(rng: np.random.Generator, clusters: int, height: float) -> list[Face]:
    """Build a heap of leaf clusters, darker below and outside than on top."""
    level = np.sort(rng.random(clusters))
    reach = np.sqrt(1 - level**2) * np.sqrt(rng.random(clusters)) * 0.85
    angle = rng.uniform(0, 2 * np.pi, clusters)
    leaves = np.empty((clusters, 7, 3))
    leaves[..., :2] = disc(1.0, 1.0, 7) + rng.normal(0, 0.14, (clusters, 7, 2))
    leaves[..., :2] *= rng.uniform(0.2, 0.42, clusters)[:, None, None]
    leaves[..., :2] += (reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))[:, None]
    leaves[..., 2] = height * (0.45 + 0.55 * level[:, None])
    tint = (0.62 + 0.55 * level) * rng.uniform(0.84, 1.16, clusters)
    return list(zip(leaves, pick(rng, FOLIAGE, 6) * tint[:, None], strict=True))


def lamp_post(rng: np.random.Generator) -> list[Face]:
    """Build a thin pole with an arm."""
    metal = pick(rng, ((150, 152, 154), (84, 88, 90)))
    arm = rectangle(0.0, -0.1, 1.6, 0.1)
    return [*prism(disc(0.1, 0.1, 4), 0.0, 6.0, metal), *prism(arm, 6.0, 6.15, metal)]


def cabinet(rng: np.random.Generator) -> list[Face]:
    """Build a bin, switch box or the like, of the size of a person."""
    paint = pick(rng, ((60, 66, 62), (46, 84, 60), (120, 122, 120), (170, 168, 160)))
    half_length, half_width = rng.uniform((0.3, 0.25), (0.9, 0.55))
    return prism(rectangle(-half_length, -half_width, half_length, half_width), 0.0, rng.uniform(0.7, 1.5), paint)


def container(rng: np.random.Generator, height: float = 2.5) -> list[Face]:
    """Build a ridged container, of the size of a truck.

    Args:
        rng: generator of random numbers.
        height: height in metres.

    Returns:
        The faces of the container.
    """
    paint = pick(rng, CONTAINER_COLOURS)
    ridges = [flat(rectangle(x, -1.2, x + 0.2, 1.2), height, paint * 0.88) for x in np.arange(-2.65, 2.7, 0.8)]
    return [*prism(rectangle(-3.05, -1.2, 3.05, 1.2), 0.0, height, paint), *ridges]


def container_stack(rng: np.random.Generator) -> list[Face]:
    """Build two containers of one colour, one on the other."""
    return container(rng, 5.0)


def parasol(rng: np.random.Generator) -> list[Face]:
    """Build a market umbrella of 2 to 3 m."""
    radius = rng.uniform(0.9, 1.5)
    return prism(disc(radius, radius, 8), 2.0, 2.7, pick(rng, CLOTHES), top=disc(0.1, 0.1, 8))
