"""Light and painter of the generated scenes: from ground patches and solids to an RGB image.

Everything is drawn three times too large and averaged down, in the order ground, shadows of low things, low things,
shadows of tall things, tall things; then light, haze, blur and sensor noise follow in float.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from mrqm.data.synthetic.faces import Array
from mrqm.data.synthetic.world import Camera, Patch, Thing, World

SUPERSAMPLING = 3


@dataclass(frozen=True)
class Light:
    """Sun, air and sensor."""

    sun: Array
    """Unit vector (3,) towards the sun."""
    shadow: float
    """Darkness of cast shadows, 0..1; near 0 under clouds."""
    tint: Array
    """Gain (3,) of the channels."""
    haze: float
    blur: float
    """Sigma in px."""
    noise: float
    """Sigma in levels of 255."""

    @property
    def sunny(self) -> bool:
        """True if shadows have sharp edges."""
        return self.shadow > 0.3

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Light":
        """Draw a light: sunny or overcast, morning to noon, clear or hazy, sharp or soft."""
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1.15)
        overcast = rng.random() < 0.25
        flat, warm, exposure = np.cos(elevation), rng.normal(0.0, 0.05), rng.uniform(0.8, 1.2)
        return cls(
            sun=np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)]),
            shadow=rng.uniform(0.05, 0.2) if overcast else rng.uniform(0.45, 0.68),
            tint=np.array([exposure * gain for gain in (1 + warm, 1, 1 - warm)], dtype=np.float32),
            haze=rng.choice([0.0, 0.0, 0.06, 0.12]) * rng.uniform(0.5, 1.2),
            blur=rng.choice([0.2, 0.3, 0.4, 0.5]),
            noise=rng.uniform(0.7, 4.0),
        )


class Layer:
    """Oversized RGBA picture of solids, or of their shadows, on a transparent background."""

    def __init__(self, camera: Camera, mode: str) -> None:
        self.camera = camera
        size = (camera.width * SUPERSAMPLING, camera.height * SUPERSAMPLING)
        self.image = Image.new(mode, size)
        self.draw = ImageDraw.Draw(self.image)

    def polygons(
        self, points: Array, counts: Array, fills: Sequence[int | tuple[int, ...]], shown: Array | None = None
    ) -> None:
        """Fill polygons in order.

        Args:
            points: (P, 3) world corners of all polygons, one after the other, in metres.
            counts: (F,) number of corners of each polygon.
            fills: F colours of the layer's mode.
            shown: (F,) bool, True for polygons to draw; None draws those that face the camera.
        """
        corners = self.camera.project(points)
        ends = np.cumsum(counts)
        starts = ends - counts
        if shown is None:
            a, b, c = (corners[starts + i] for i in range(3))
            shown = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        least, most = np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)
        shown = shown & (most > 0).all(1) & (least < (self.camera.width, self.camera.height)).all(1)
        starts, ends = (2 * starts).tolist(), (2 * ends).tolist()
        numbers = (corners * SUPERSAMPLING - 0.5).ravel().tolist()
        for i in np.flatnonzero(shown).tolist():
            self.draw.polygon(numbers[starts[i] : ends[i]], fill=fills[i])

    def array(self) -> Array:
        """Average the picture down to (H, W, channels) or (H, W), float32."""
        return np.asarray(self.image.reduce(SUPERSAMPLING), dtype=np.float32)


def solids(things: Iterable[Thing], camera: Camera, light: Light) -> Array:
    """Paint things, far ones first, with faces shaded by the sun.

    Args:
        things: things to paint.
        camera: camera of the scene.
        light: light of the scene.

    Returns:
        Premultiplied RGBA (H, W, 4) of 0..255.
    """
    layer = Layer(camera, "RGBa")
    ordered = sorted(things, key=lambda thing: -camera.depth(thing.x, thing.y))
    if ordered:
        points, counts, facing = _faces(ordered, light)
        shade = 0.62 + 0.38 * np.clip(facing / light.sun[2], 0, 1.35) if light.sunny else 0.8 + 0.2 * facing
        colours = np.clip(
            np.concatenate([thing.solid.colours * thing.tint for thing in ordered]) * shade[:, None], 0, 255
        )
        fills = [(*colour, 255) for colour in colours.astype(int).tolist()]
        layer.polygons(points, counts, fills)
    return layer.array()


def _faces(things: Sequence[Thing], light: Light) -> tuple[Array, Array, Array]:
    """Collect corners (P, 3), their number (F,) in each face, and the cosine (F,) of each face to the sun."""
    points = np.concatenate([thing.points for thing in things])
    counts = np.concatenate([thing.solid.counts for thing in things])
    first, second, third = (points[np.cumsum(counts) - counts + i] for i in range(3))
    normals = np.cross(second - first, third - first)
    return points, counts, normals @ light.sun / np.maximum(np.linalg.norm(normals, axis=1), 1e-9)


def _shadows(things: Sequence[Thing], camera: Camera, light: Light) -> Array:
    """Compute the fraction (H, W) of each pixel in shadow: the faces towards the sun, projected on the ground."""
    layer = Layer(camera, "L")
    if things:
        points, counts, facing = _faces(things, light)
        cast = points - points[:, 2:] * light.sun / light.sun[2]
        layer.polygons(cast, counts, [255] * len(counts), facing > 0)
    return ndimage.gaussian_filter(layer.array() / 255, 0.5 if light.sunny else 1.5)


@cache
def _noise_tile(octaves: tuple[tuple[int, float], ...], size: int = 1024) -> Array:
    """Make periodic noise (size, size) of standard deviation 1: random grids of several widths, enlarged and summed."""
    rng = np.random.default_rng(0)
    total = np.zeros((size, size), dtype=np.float32)
    for cells, weight in octaves:
        step, grid = size // cells, np.pad(rng.standard_normal((cells, cells), dtype=np.float32), 2, mode="wrap")
        large = Image.fromarray(grid).resize(((cells + 4) * step,) * 2, Image.Resampling.BICUBIC)
        total += weight * np.asarray(large)[2 * step : 2 * step + size, 2 * step : 2 * step + size]
    return (total - total.mean()) / total.std()


def _noise(tile: Array, ground: Array, pixels_per_metre: float, rng: np.random.Generator) -> Array:
    """Sample the tile for each pixel (H, W), repeated over the ground from a random corner."""
    corner = rng.uniform(0, 1000, 2).astype(np.float32)
    index = ((ground + corner) * pixels_per_metre).astype(np.int32) % np.int32(len(tile))
    return tile[index[..., 1], index[..., 0]]


def _textured_ground(patches: Sequence[Patch], camera: Camera, rng: np.random.Generator) -> Array:
    colour, strength = Layer(camera, "RGB"), Layer(camera, "RGB")
    points = np.concatenate([patch.outline for patch in patches])
    counts = np.array([len(patch.outline) for patch in patches])
    everything = np.ones(len(patches), dtype=bool)
    for layer, values in (
        (colour, np.array([patch.colour for patch in patches])),
        (strength, np.array([patch.texture for patch in patches]) * 255),
    ):
        fills = [tuple(row) for row in np.clip(values, 0, 255).astype(int).tolist()]
        layer.polygons(np.column_stack([points, np.zeros(len(points))]), counts, fills, everything)
    ground = camera.ground
    coarse = _noise(_noise_tile(((4, 0.6), (8, 1.0), (16, 0.9), (32, 0.6), (64, 0.45), (128, 0.3))), ground, 8.0, rng)
    fine = _noise(_noise_tile(((256, 0.5), (512, 1.0), (1024, 0.8))), ground, 7.0, rng)
    stripes = np.sin(ground[..., 0] * rng.uniform(3.2, 5.2) + coarse * 0.4)
    amounts = strength.array() / 255
    # large patches dry out towards yellow: red changes least, blue most
    gain = 1 + (amounts[..., 0] * coarse)[..., None] * np.array([0.75, 0.9, 1.2], dtype=np.float32)
    return colour.array() * gain * (1 + amounts[..., 1] * fine + amounts[..., 2] * stripes)[..., None]


def _over(below: Array, premultiplied: Array) -> Array:
    return below * (1 - premultiplied[..., 3:] / 255) + premultiplied[..., :3]


def _shaded(picture: Array, shadow: Array, light: Light) -> Array:
    """Darken a picture by a shadow map (H, W), less in blue, because skylight is bluer than the sun."""
    return picture * (1 - (shadow * light.shadow)[..., None] * np.array([1.04, 1.0, 0.9], dtype=np.float32))


def render(world: World, camera: Camera, light: Light, tall: Array, veil: Array, rng: np.random.Generator) -> Array:
    """Paint a world.

    Args:
        world: patches in painting order, and things in any order.
        camera: camera of the scene.
        light: sun, air and sensor.
        tall: premultiplied RGBA (H, W, 4) of the tall things, from `solids`.
        veil: (H, W) of 0..1, 1 where the picture is out of focus.
        rng: generator of texture and sensor noise.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    low = [thing for thing in world.things if not thing.tall]
    picture = _textured_ground(world.patches, camera, rng)
    picture = _shaded(picture, _shadows(low, camera, light), light)
    picture = _over(picture, solids(low, camera, light))
    picture = _shaded(picture, _shadows([thing for thing in world.things if thing.tall], camera, light), light)
    return _exposed(_over(picture, tall), camera, light, veil, rng)


def _exposed(picture: Array, camera: Camera, light: Light, veil: Array, rng: np.random.Generator) -> Array:
    rows, columns = np.meshgrid(
        *(np.linspace(-1, 1, count, dtype=np.float32) for count in (camera.height, camera.width)), indexing="ij"
    )
    slope = rng.normal(0, 0.05, 2)
    brightness = 1 + slope[0] * rows + slope[1] * columns - rng.uniform(0, 0.12) * (rows**2 + columns**2) / 2
    haze = (light.haze * (1 - 0.5 * rows))[..., None]
    clear = picture * brightness[..., None] * light.tint
    picture = clear + (np.array([205, 212, 220], dtype=np.float32) - clear) * haze
    picture = ndimage.gaussian_filter(picture.astype(np.float32), (light.blur, light.blur, 0))
    if veil.any():
        picture += (ndimage.gaussian_filter(picture, (0.9, 0.9, 0)) - picture) * veil[..., None]
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    grain += grain[..., 1:2]  # most noise is of brightness
    return np.clip(picture + light.noise * 0.7 * grain, 0, 255).astype(np.uint8)
