"""Elements of a generated scene: patches of ground, solids on it, and the camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mrqm.data.synthetic.faces import Array, Face


@dataclass(frozen=True)
class Patch:
    """Flat piece of ground."""

    outline: Array
    """Corners (N, 2) in metres."""
    colour: Array
    """RGB (3,) of 0..255."""
    texture: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Strength of large patches, of fine grain and of stripes, each 0..1."""


@dataclass(frozen=True)
class Solid:
    """Shape with all its faces, one after the other."""

    points: Array
    """Corners of all faces (P, 3) in metres, x forward."""
    counts: Array
    """Number of corners of each face (F,)."""
    colours: Array
    """Colours of the faces (F, 3)."""

    @classmethod
    def of(cls, faces: Sequence[Face]) -> "Solid":
        """Join faces."""
        points = np.concatenate([corners for corners, _ in faces])
        return cls(points, np.array([len(corners) for corners, _ in faces]), np.stack([colour for _, colour in faces]))

    @cached_property
    def size(self) -> Array:
        """Length and width in metres."""
        return np.ptp(self.points[:, :2], axis=0)


@dataclass(frozen=True)
class Thing:
    """Solid at a place in the world."""

    solid: Solid
    x: float
    y: float
    heading: float = 0.0
    label: int | None = None
    """Index of the class, or None if it is not annotated."""
    tall: bool = False
    """True if it may cover labelled things."""
    scale: float = 1.0
    tint: Array | float = 1.0
    """Gain of the colours."""

    @cached_property
    def points(self) -> Array:
        """Corners of all faces (P, 3) in metres of the world."""
        cos, sin = cosine_sine(self.heading)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * self.scale
        return self.solid.points @ turn + (self.x, self.y, 0.0)

    @property
    def circles(self) -> tuple[Array, float]:
        """Centres (3,), as complex x + iy, and radius in metres of circles in a row that the thing stands on."""
        length, width = self.solid.size * self.scale
        radius = 0.42 * min(length, width)
        along = np.array([-1, 0, 1]) * max(0.0, length / 2 - radius)
        return along * complex(*cosine_sine(self.heading)) + complex(self.x, self.y), radius


def cosine_sine(angle: float) -> tuple[float, float]:
    """Compute cosine and sine of an angle in radians."""
    return math.cos(angle), math.sin(angle)


@dataclass
class World:
    """Contents of a scene."""

    patches: list[Patch] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above the ground, directed at the origin."""

    height: int
    width: int
    scale: float
    """Px per metre at the centre of the image."""
    pitch: float
    """Angle below the horizon in radians; pi/2 is straight down."""
    yaw: float
    bend: float = 0.0
    """Greatest sideways shift in metres of the world, which is laid out straight, so that roads curve."""
    field_of_view: float = 0.7

    @cached_property
    def distance(self) -> float:
        """Distance from the camera to the origin in metres."""
        return max(self.height, self.width) / self.scale / (2 * math.tan(self.field_of_view / 2))

    def project(self, points: Array) -> Array:
        """Project world points (..., 3) in metres to image points (..., 2) in px."""
        return np.stack(self._columns_rows(points[..., 0], points[..., 1], points[..., 2]), axis=-1)

    def sees(self, x: float, y: float, margin: float) -> bool:
        """Tell whether a point of the ground is in the picture or near it.

        Args:
            x: position in metres.
            y: position in metres.
            margin: greatest distance outside the picture in px.

        Returns:
            True if the point is that near.
        """
        column, row = self._columns_rows(x, y, 0.0)
        return bool(-margin < column < self.width + margin and -margin < row < self.height + margin)

    def depth(self, x: float, y: float) -> float:
        """Compute the distance of a point of the ground along the view, for the order of painting.

        Args:
            x: position in metres.
            y: position in metres.

        Returns:
            Distance in metres.
        """
        return self.distance + _turned(x, y, self.yaw)[1] * math.cos(self.pitch)

    @cached_property
    def ground(self) -> Array:
        """World position (H, W, 2) in metres of each pixel, without the bend."""
        rows, columns = np.mgrid[0 : self.height, 0 : self.width] + 0.5
        slope = (self.height / 2 - rows) / (self.scale * self.distance)
        cos, sin = cosine_sine(self.pitch)
        y = slope * self.distance / (sin - slope * cos)
        x = (columns - self.width / 2) / (self.scale * self.distance) * (self.distance + y * cos)
        return np.stack(_turned(x, y, -self.yaw), axis=-1).astype(np.float32)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in metres around all the ground in the picture."""
        spare = abs(self.bend)
        return (*(self.ground.min((0, 1)) - spare).tolist(), *(self.ground.max((0, 1)) + spare).tolist())

    def _columns_rows(self, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
        x, y = _turned(x + self.bend * np.sin(y / 30), y, self.yaw)
        cos, sin = cosine_sine(self.pitch)
        focal = self.scale * self.distance / (self.distance + y * cos - z * sin)
        return self.width / 2 + focal * x, self.height / 2 - focal * (y * sin + z * cos)


def _turned(x: Any, y: Any, angle: float) -> tuple[Any, Any]:
    cos, sin = cosine_sine(angle)
    return x * cos - y * sin, x * sin + y * cos
