"""Shorthands to paint the ground of a generated scene and to put things on it."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from mrqm.data.synthetic import shapes
from mrqm.data.synthetic.buildings import building
from mrqm.data.synthetic.shapes import Array, Face
from mrqm.data.synthetic.world import Camera, Patch, Solid, Thing, World

Shape = Callable[[np.random.Generator], list[Face]]

PEDESTRIAN, CYCLIST, CAR, TRUCK = range(4)

MATERIALS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[float, float, float]]] = {
    "asphalt": ((74, 76, 80), (128, 127, 126), (0.06, 0.04, 0.0)),
    "concrete": ((142, 138, 130), (184, 180, 172), (0.06, 0.04, 0.0)),
    "paving": ((136, 126, 116), (178, 164, 150), (0.06, 0.05, 0.03)),
    "grass": ((72, 92, 46), (116, 124, 68), (0.12, 0.09, 0.0)),
    "meadow": ((104, 108, 62), (142, 134, 84), (0.15, 0.1, 0.0)),
    "soil": ((126, 104, 78), (164, 140, 108), (0.14, 0.07, 0.0)),
    "crop": ((74, 98, 44), (132, 130, 66), (0.12, 0.06, 0.13)),
    "furrows": ((112, 90, 66), (148, 122, 92), (0.1, 0.05, 0.12)),
    "water": ((44, 66, 72), (76, 96, 92), (0.06, 0.025, 0.0)),
    "paint": ((206, 206, 200), (230, 230, 224), (0.1, 0.06, 0.0)),
}


class Builder:
    """A world under construction: shorthands to paint ground and put things on it."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        self.rng = rng
        self.camera = camera
        self.world = World()
        life_size = camera.scale * (1.7 * np.cos(camera.pitch) + 0.6 * np.sin(camera.pitch))
        self.people_scale = float(np.clip(9.5 / life_size, 1.1, 1.9))
        """Enlargement of people and cyclists, who would vanish at life size from this height."""
        self.asphalt = self.colour("asphalt")
        """Colour of the roads."""
        self.water: list[tuple[float, float, float]] = []
        """x, y and radius in metres of ponds, on which nothing is put."""
        self.centres, self.radii = np.zeros(0, dtype=complex), np.zeros(0)
        """Circles in which something stands: x + iy and radius in metres."""
        self.bustle = rng.uniform(0.15, 0.7)
        """How busy this scene is."""

    def ground(self, outline: Array, material: str, colour: Array | None = None) -> None:
        """Paint a piece of ground, in a colour of the material if none is given."""
        colour = self.colour(material) if colour is None else colour
        self.world.patches.append(Patch(outline, colour, MATERIALS[material][2]))

    def colour(self, material: str) -> Array:
        """A random colour (3,) of a material."""
        low, high, _ = MATERIALS[material]
        return np.array(low) + (np.array(high) - low) * self.rng.random() + self.rng.normal(0, 1.2, 3)

    def marks(self, outlines: Iterable[Array], darker: float = 1.0, yellow: bool = False) -> None:
        """Paint road marks of one colour."""
        colour = self.colour("paint") * darker * ((0.95, 0.78, 0.35) if yellow else 1.0)
        self.world.patches += [Patch(outline, colour, MATERIALS["paint"][2]) for outline in outlines]

    def put(self, shape: Shape, x: float, y: float, heading: float = 0.0, **options: Any) -> None:
        """Add a thing of the shape if the camera may see it and there is room; options are those of `Thing`."""
        if self.camera.sees(x, y, margin=30) and not any(math.hypot(x - a, y - b) < r for a, b, r in self.water):
            tint = self.rng.normal(1, 0.06) + 0.025 * self.rng.standard_normal(3)
            thing = Thing(_model(shape, int(self.rng.integers(64))), x, y, heading, tint=tint, **options)
            if thing.tall or self._finds_room(thing):
                self.world.things.append(thing)

    def _finds_room(self, thing: Thing) -> bool:
        """Whether no earlier low thing stands there; if so, the room is taken."""
        centres, radius = thing.circles
        if (np.abs(centres[:, None] - self.centres) < radius + self.radii).any():
            return False
        self.centres, self.radii = np.append(self.centres, centres), np.append(self.radii, [radius] * len(centres))
        return True

    def building(self, length: float, width: float, height: float, x: float, y: float, heading: float = 0.0) -> None:
        """Add a building unlike any other."""
        if self.camera.sees(x, y, margin=(length + height) * self.camera.scale):
            solid = Solid.of(building(self.rng, length, width, height))
            self.world.things.append(Thing(solid, x, y, heading, tall=True))

    def car(self, x: float, y: float, heading: float) -> None:
        """Add a car."""
        self.put(shapes.car, x, y, heading + self.rng.normal(0, 0.03), label=CAR)

    def truck(self, x: float, y: float, heading: float) -> None:
        """Add a truck."""
        self.put(shapes.truck, x, y, heading + self.rng.normal(0, 0.02), label=TRUCK)

    def person(self, x: float, y: float) -> None:
        """Add a pedestrian facing anywhere."""
        self.put(shapes.pedestrian, x, y, self.rng.uniform(0, 6.28), label=PEDESTRIAN, scale=self.people_scale)

    def cyclist(self, x: float, y: float, heading: float | None = None) -> None:
        """Add a cyclist, heading anywhere by default."""
        heading = self.rng.uniform(0, 6.28) if heading is None else heading + self.rng.normal(0, 0.08)
        self.put(shapes.cyclist, x, y, heading, label=CYCLIST, scale=self.people_scale)

    def tree(self, x: float, y: float, radius: float | None = None) -> None:
        """Add a tree, which may hide what stands under it."""
        radius = self.rng.uniform(1.5, 3.4) if radius is None else radius
        self.put(shapes.tree, x, y, self.rng.uniform(0, 6.28), tall=True, scale=radius)

    def bush(self, x: float, y: float) -> None:
        """Add a bush, as small as a person or as large as a car."""
        self.put(shapes.bush, x, y, self.rng.uniform(0, 6.28), scale=self.rng.uniform(0.45, 1.1))

    def junk(self, x: float, y: float) -> None:
        """Add a bush or a cabinet: as large as what is annotated, but not annotated."""
        if self.rng.random() < 0.33:
            self.bush(x, y)
        else:
            self.put(shapes.cabinet, x, y, self.rng.uniform(0, 6.28))

    def scatter(self, place: Callable[..., None], rect: Array, count: float, *arguments: float) -> None:
        """Place about `count` things anywhere in a rectangle."""
        for _ in range(self.rng.poisson(count)):
            place(*self.somewhere(rect), *arguments)

    def somewhere(self, rect: Array) -> tuple[float, float]:
        """A random point of a rectangle."""
        x0, y0, x1, y1 = rect
        return self.rng.uniform(x0, x1), self.rng.uniform(y0, y1)


@cache
def _model(shape: Shape, number: int) -> Solid:
    """One of the variants of a shape; variants are kept because building them takes longer than painting them."""
    return Solid.of(shape(np.random.default_rng(number)))
