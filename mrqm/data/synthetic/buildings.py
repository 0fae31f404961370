"""Houses, halls and office blocks of the generated scenes, as coloured faces."""

import numpy as np

from mrqm.data.synthetic.faces import Face, flat, pick, prism, rectangle


def building(rng: np.random.Generator, length: float, width: float, height: float) -> list[Face]:
    """Build a house with a ridge, or a block with a flat roof, parapet, vents and air conditioning.

    Args:
        rng: generator of random numbers.
        length: length in metres.
        width: width in metres.
        height: height of the walls in metres.

    Returns:
        The faces of the building, with rows of windows on the walls.
    """
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
