"""What a generated scene consists of: patches of ground and solids on it, and the camera that sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mrqm.data.scenes.shapes import Array, Face


@dataclass(frozen=True)
class Patch:
    """A flat piece of ground."""

    outline: Array
    """Corners (N, 2) in metres."""
    colour: Array
    """(3,) of 0..255."""
    texture: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Strength of large patches, of fine grain and of stripes, each 0..1."""


class Thing:
    """A solid standing in the world."""

    def __init__(
        self,
        faces: Sequence[Face],
        position: tuple[float, float],
        heading: float = 0.0,
        label: int | None = None,
        tall: bool = False,
        scale: float = 1.0,
    ) -> None:
        cos, sin = np.cos(heading), np.sin(heading)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) * scale
        self.points = np.concatenate([corners for corners, _ in faces]) @ turn + (*position, 0.0)
        """Corners of all faces (P, 3) in metres of the world."""
        self.counts = np.array([len(corners) for corners, _ in faces])
        """Corners of each face (F,)."""
        self.colours = np.stack([colour for _, colour in faces])
        """Colours of the faces (F, 3)."""
        self.position = np.array([*position, 0.0])
        self.forward = np.array([cos, sin])
        self.label = label
        """Index of the class, or None for what is not annotated."""
        self.tall = tall
        """Whether it stands above and may cover the labelled things."""

    def circles(self) -> Array:
        """x, y and radius (3, 3) in metres of three circles, one behind the other, that the thing stands on."""
        centred = self.points[:, :2] - self.position[:2]
        length = np.ptp(centred @ self.forward)
        width = np.ptp(centred @ (-self.forward[1], self.forward[0]))
        radius = 0.42 * min(length, width)
        along = np.array([-1.0, 0.0, 1.0])[:, None] * max(0.0, length / 2 - radius)
        return np.column_stack([self.position[:2] + along * self.forward, np.full(3, radius)])


@dataclass
class World:
    """What a scene consists of."""

    patches: list[Patch] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)


@dataclass(frozen=True)
class Camera:
    """A pinhole above the ground that looks at the origin."""

    height: int
    width: int
    scale: float
    """Px per metre at the centre of the image."""
    pitch: float
    """Angle below the horizon; pi/2 looks straight down."""
    yaw: float
    bend: float = 0.0
    """Metres by which the whole world, laid out straight, swings to either side, so that roads curve."""
    field_of_view: float = 0.7

    @cached_property
    def distance(self) -> float:
        """Metres from the camera to the origin."""
        return max(self.height, self.width) / self.scale / (2 * np.tan(self.field_of_view / 2))

    def project(self, points: Array) -> Array:
        """World (..., 3) in metres to image (..., 2) in px."""
        swing = self.bend * np.sin(points[..., 1] / 30)
        x, y = self._turned(points[..., 0] + swing, points[..., 1], self.yaw)
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        focal = self.scale * self.distance / (self.distance + y * cos - points[..., 2] * sin)
        return np.stack([self.width / 2 + focal * x, self.height / 2 - focal * (y * sin + points[..., 2] * cos)], -1)

    @cached_property
    def ground(self) -> Array:
        """World position (H, W, 2) in metres that each pixel shows."""
        rows, columns = np.mgrid[0 : self.height, 0 : self.width] + 0.5
        slope = (self.height / 2 - rows) / (self.scale * self.distance)
        sin, cos = np.sin(self.pitch), np.cos(self.pitch)
        y = slope * self.distance / (sin - slope * cos)
        x = (columns - self.width / 2) / (self.scale * self.distance) * (self.distance + y * cos)
        return np.stack(self._turned(x, y, -self.yaw), axis=-1).astype(np.float32)

    @property
    def bounds(self) -> Array:
        """x0, y0, x1, y1 in metres around all the ground in the picture."""
        spare = abs(self.bend)
        return np.concatenate([self.ground.min((0, 1)) - spare, self.ground.max((0, 1)) + spare])

    def sees(self, x: float, y: float, margin: float) -> bool:
        """Whether a point of the ground is in the picture or less than `margin` px outside."""
        column, row = self.project(np.array([x, y, 0.0]))
        return bool(-margin < column < self.width + margin and -margin < row < self.height + margin)

    def depth(self, position: Array) -> float:
        """Distance along the view in metres; orders the painting."""
        y = self._turned(position[0], position[1], self.yaw)[1]
        return self.distance + y * np.cos(self.pitch)

    @staticmethod
    def _turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
        cos, sin = np.cos(angle), np.sin(angle)
        return x * cos - y * sin, x * sin + y * cos
