"""Generated scene: a picture and its annotations.

A scene is a pure function of (seed, split, index). Objects that are hardly visible are not drawn at all, so that every
object in the picture is annotated, except inside ignored regions.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrqm.data.synthetic.layout import build_world
from mrqm.data.synthetic.paint import Light, render, solids
from mrqm.data.synthetic.world import Camera, Thing, World

SCENE_CLASSES: tuple[str, ...] = ("pedestrian", "cyclist", "car", "truck")
"""Names of the annotated categories 1 to 4."""

THINNEST, SHORTEST, LONGEST = 3, 5, 40
"""Px: least short side, least long side and greatest long side of annotated objects."""


@dataclass(frozen=True)
class SceneObject:
    """Annotated object."""

    box: tuple[int, int, int, int]
    """left, top, width, height in px."""
    label: int
    """Index into SCENE_CLASSES."""
    truncation: int
    """1 if the picture's border cuts the object, else 0."""
    occlusion: int
    """0 if no tall thing covers the object, 1 below half covered, 2 above."""
    thing: Thing


@dataclass(frozen=True)
class Scene:
    """Picture with its annotations."""

    image: np.ndarray
    """uint8 (H, W, 3)."""
    objects: tuple[SceneObject, ...]
    ignored: tuple[tuple[int, int, int, int], ...]
    """left, top, width, height of regions in which objects are not annotated."""
    camera: Camera
    light: Light

    def annotation(self) -> str:
        """Write the lines of a VisDrone annotation file: left,top,width,height,score,category,truncation,occlusion."""
        rows = [(*region, 0, 0, 0, 0) for region in self.ignored]
        rows += [(*one.box, 1, one.label + 1, one.truncation, one.occlusion) for one in self.objects]
        return "".join(",".join(map(str, row)) + "\n" for row in rows)


def make_scene(size: tuple[int, int], key: tuple[int, ...]) -> Scene:
    """Make one scene, the same for the same key.

    Args:
        size: (height, width) of the picture in px.
        key: seed, split and index.

    Returns:
        The scene.
    """
    rng = np.random.default_rng(key)
    camera = Camera(
        *size,
        scale=rng.uniform(4.2, 6.2),
        pitch=rng.uniform(0.78, 1.4),
        yaw=rng.uniform(0, 2 * np.pi),
        bend=rng.normal(0, 3),
    )
    light = Light.sample(rng)
    world = build_world(rng, camera)
    things = world.things
    if rng.random() < 0.03:  # some pictures have no objects
        things = [thing for thing in things if thing.label is None]
    tall = solids((thing for thing in things if thing.tall), camera, light)
    objects = _visible_objects(things, camera, tall[..., 3] / 255)
    shown = {id(one.thing) for one in objects}
    things = [thing for thing in things if thing.label is None or id(thing) in shown]
    ignored = _ignored_regions(objects, size, rng)
    veil = np.zeros(size, dtype=np.float32)
    for left, top, width, height in ignored:
        veil[top : top + height, left : left + width] = 1
    veil = ndimage.gaussian_filter(veil, 4) if ignored else veil
    kept = tuple(one for one in objects if not any(_covered(one.box, region) >= 0.5 for region in ignored))
    return Scene(render(World(world.patches, things), camera, light, tall, veil, rng), kept, ignored, camera, light)


def _visible_objects(things: list[Thing], camera: Camera, cover: np.ndarray) -> list[SceneObject]:
    """Select the labelled things that are large enough, mostly inside the picture, and not hidden by other things."""
    objects: list[SceneObject] = []
    taken, size = np.zeros((0, 4)), np.array([camera.width, camera.height])
    for thing in things:
        if thing.label is None:
            continue
        corners = camera.project(thing.points)
        whole = _extent(corners)
        box = whole.clip(0, np.tile(size, 2))
        whole_sides = whole[2:] - whole[:2]
        if whole_sides.max() > LONGEST or (box[2:] - box[:2]).prod() < 0.5 * whole_sides.prod():
            continue
        truncated = bool((box != whole).any())
        box = _visible_extent(thing, corners, size) if truncated else whole
        sides = box[2:] - box[:2]
        if sides.min() < THINNEST or sides.max() < SHORTEST or _overlap(box, taken).max(initial=0) > 0.75:
            continue
        hidden = float(cover[box[1] : box[3], box[0] : box[2]].mean())
        if hidden > 0.6:
            continue
        taken = np.vstack([taken, box])
        occlusion = 0 if hidden < 0.05 else 1 if hidden < 0.5 else 2
        left, top, width, height = (int(value) for value in (*box[:2], *sides))
        objects.append(SceneObject((left, top, width, height), thing.label, int(truncated), occlusion, thing))
    return objects


def _extent(points: np.ndarray) -> np.ndarray:
    """Compute least and greatest column and row of points (N, 2): integer xyxy (4,)."""
    return np.round(np.concatenate([points.min(0), points.max(0)])).astype(int)


def _visible_extent(thing: Thing, corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Compute the extent (4,) of a thing inside a picture of size (width, height); `corners` are its (P, 2).

    Samples every edge, because clipping the extent of the whole would leave room around the rest of a slanted thing.
    """
    ends = np.cumsum(thing.solid.counts)
    following = np.arange(1, len(corners) + 1)
    following[ends - 1] = ends - thing.solid.counts
    steps = np.linspace(0, 1, 33)[:, None, None]
    points = (corners + steps * (corners[following] - corners)).reshape(-1, 2)
    return _extent(points[((points >= 0) & (points <= size)).all(1)])


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Divide the shared area of a box and boxes (N, 4) xyxy by the smaller of the two areas: (N,)."""
    shared = np.prod(np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None), axis=1)
    return shared / np.minimum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), np.prod(box[2:] - box[:2]))


def _covered(box: tuple[int, int, int, int], region: tuple[int, int, int, int]) -> float:
    """Compute the fraction of a box that lies in a region, both left, top, width, height."""
    width = min(box[0] + box[2], region[0] + region[2]) - max(box[0], region[0])
    height = min(box[1] + box[3], region[1] + region[3]) - max(box[1], region[1])
    return max(width, 0) * max(height, 0) / (box[2] * box[3])


def _ignored_regions(
    objects: list[SceneObject], size: tuple[int, int], rng: np.random.Generator
) -> tuple[tuple[int, int, int, int], ...]:
    """Ignore, in one of three crowded scenes, the surroundings of an object with many neighbours."""
    if rng.random() > 0.33 or not objects:
        return ()
    centres = np.array([(one.box[0] + one.box[2] / 2, one.box[1] + one.box[3] / 2) for one in objects])
    neighbours = (np.abs(centres[:, None] - centres).max(-1) < 25).sum(1)
    if neighbours.max() < 5:
        return ()
    x, y = centres[rng.choice(np.flatnonzero(neighbours >= 5))]
    half = rng.uniform(18, 45, 2)
    left, top = int(max(x - half[0], 0)), int(max(y - half[1], 0))
    right, bottom = int(min(x + half[0], size[1])), int(min(y + half[1], size[0]))
    return ((left, top, right - left, bottom - top),)
