"""Helpers that paint the ground of a generated scene and put things on it."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from mrqm.data.synthetic import shapes
from mrqm.data.synthetic.buildings import building
from mrqm.data.synthetic.faces import Array, Face
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
    """World under construction, with helpers that paint ground and put things on it."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        self.rng = rng
        self.camera = camera
        self.world = World()
        life_size = camera.scale * (1.7 * np.cos(camera.pitch) + 0.6 * np.sin(camera.pitch))
        self.people_scale = float(np.clip(9.5 / life_size, 1.1, 1.9))
        """Enlargement of people and cyclists, who would be too small at life size from this height."""
        self.asphalt = self.colour("asphalt")
        """Colour of the roads."""
        self.water: list[tuple[float, float, float]] = []
        """x, y and radius in metres of ponds, which stay free of things."""
        self.centres, self.radii = np.zeros(0, dtype=complex), np.zeros(0)
        """Occupied circles: x + iy and radius in metres."""
        self.bustle = rng.uniform(0.15, 0.7)
        """Density of traffic and people in this scene, 0..1."""

    def ground(self, outline: Array, material: str, colour: Array | None = None) -> None:
        """Paint a piece of ground.

        Args:
            outline: (N, 2) corners in metres.
            material: key of `MATERIALS`.
            colour: (3,) RGB of 0..255; None draws a colour of the material.
        """
        colour = self.colour(material) if colour is None else colour
        self.world.patches.append(Patch(outline, colour, MATERIALS[material][2]))

    def colour(self, material: str) -> Array:
        """Draw a random colour (3,) of a material."""
        low, high, _ = MATERIALS[material]
        return np.array(low) + (np.array(high) - low) * self.rng.random() + self.rng.normal(0, 1.2, 3)

    def marks(self, outlines: Iterable[Array], darker: float = 1.0, yellow: bool = False) -> None:
        """Paint road marks of one colour.

        Args:
            outlines: (N, 2) corners of each mark in metres.
            darker: factor of the brightness.
            yellow: paint in yellow instead of white.
        """
        colour = self.colour("paint") * darker * ((0.95, 0.78, 0.35) if yellow else 1.0)
        self.world.patches += [Patch(outline, colour, MATERIALS["paint"][2]) for outline in outlines]

    def put(self, shape: Shape, x: float, y: float, heading: float = 0.0, **options: Any) -> None:
        """Add a thing if it may be in the picture and there is room.

        Args:
            shape: function that builds a variant of the shape.
            x: position in metres.
            y: position in metres.
            heading: direction in radians.
            options: further arguments of `Thing`.
        """
        if self.camera.sees(x, y, margin=30) and not any(math.hypot(x - a, y - b) < r for a, b, r in self.water):
            tint = self.rng.normal(1, 0.06) + 0.025 * self.rng.standard_normal(3)
            thing = Thing(_model(shape, int(self.rng.integers(64))), x, y, heading, tint=tint, **options)
            if thing.tall or self._finds_room(thing):
                self.world.things.append(thing)

    def _finds_room(self, thing: Thing) -> bool:
        """Occupy the place of a thing, or return False if an earlier low thing stands there."""
        centres, radius = thing.circles
        if (np.abs(centres[:, None] - self.centres) < radius + self.radii).any():
            return False
        self.centres, self.radii = np.append(self.centres, centres), np.append(self.radii, [radius] * len(centres))
        return True

    def building(self, length: float, width: float, height: float, x: float, y: float, heading: float = 0.0) -> None:
        """Add a building with a shape of its own.

        Args:
            length: length in metres.
            width: width in metres.
            height: height in metres.
            x: position in metres.
            y: position in metres.
            heading: direction in radians.
        """
        if self.camera.sees(x, y, margin=(length + height) * self.camera.scale):
            solid = Solid.of(building(self.rng, length, width, height))
            self.world.things.append(Thing(solid, x, y, heading, tall=True))

    def car(self, x: float, y: float, heading: float) -> None:
        """Add a car.

        Args:
            x: position in metres.
            y: position in metres.
            heading: direction in radians.
        """
        self.put(shapes.car, x, y, heading + self.rng.normal(0, 0.03), label=CAR)

    def truck(self, x: float, y: float, heading: float) -> None:
        """Add a truck.

        Args:
            x: position in metres.
            y: position in metres.
            heading: direction in radians.
        """
        self.put(shapes.truck, x, y, heading + self.rng.normal(0, 0.02), label=TRUCK)

    def person(self, x: float, y: float) -> None:
        """Add a pedestrian with a random heading.

        Args:
            x: position in metres.
            y: position in metres.
        """
        self.put(shapes.pedestrian, x, y, self.rng.uniform(0, 6.28), label=PEDESTRIAN, scale=self.people_scale)

    def cyclist(self, x: float, y: float, heading: float | None = None) -> None:
        """Add a cyclist.

        Args:
            x: position in metres.
            y: position in metres.
            heading: direction in radians; None draws a random one.
        """
        heading = self.rng.uniform(0, 6.28) if heading is None else heading + self.rng.normal(0, 0.08)
        self.put(shapes.cyclist, x, y, heading, label=CYCLIST, scale=self.people_scale)

    def tree(self, x: float, y: float, radius: float | None = None) -> None:
        """Add a tree, which may hide things under it.

        Args:
            x: position in metres.
            y: position in metres.
            radius: radius of the crown in metres; None draws a random one.
        """
        radius = self.rng.uniform(1.5, 3.4) if radius is None else radius
        self.put(shapes.tree, x, y, self.rng.uniform(0, 6.28), tall=True, scale=radius)

    def bush(self, x: float, y: float) -> None:
        """Add a bush, as small as a person or as large as a car.

        Args:
            x: position in metres.
            y: position in metres.
        """
        self.put(shapes.bush, x, y, self.rng.uniform(0, 6.28), scale=self.rng.uniform(0.45, 1.1))

    def junk(self, x: float, y: float) -> None:
        """Add a bush or a cabinet: of the size of annotated objects, but not annotated.

        Args:
            x: position in metres.
            y: position in metres.
        """
        if self.rng.random() < 0.33:
            self.bush(x, y)
        else:
            self.put(shapes.cabinet, x, y, self.rng.uniform(0, 6.28))

    def scatter(self, place: Callable[..., None], rect: Array, count: float, *arguments: float) -> None:
        """Place about `count` things at random points of a rectangle.

        Args:
            place: method that adds one thing at x and y.
            rect: (4,) x0, y0, x1, y1 in metres.
            count: expected number of things.
            arguments: further arguments of `place`.
        """
        for _ in range(self.rng.poisson(count)):
            place(*self.somewhere(rect), *arguments)

    def somewhere(self, rect: Array) -> tuple[float, float]:
        """Draw a random point of a rectangle."""
        x0, y0, x1, y1 = rect
        return self.rng.uniform(x0, x1), self.rng.uniform(y0, y1)


@cache
def _model(shape: Shape, number: int) -> Solid:
    """Build one of the variants of a shape; cached, because building a variant takes longer than painting it."""
    return Solid.of(shape(np.random.default_rng(number)))
