"""Density of a model's queries as a heat map over the images: Figure 2 of Fu et al. (2024).

The decoder's initial queries should be dense on small objects, and mined queries should cover all objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from mrqm.config import Config
from mrqm.ops.distributed import autocast, to_device, uncompiled
from mrqm.structures.batch import Batch
from mrqm.visualization.detections import LEAST_SIDE, MOST_SIDE, sheet

HEAT = np.array([(10, 0, 30), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=np.float32)
"""Colours from no queries to the greatest density."""
SCALE = ("no queries", "half as dense", "densest place of the picture")
"""Legend of the first, the middle and the last colour."""
BLUR = 0.012
"""Standard deviation of a query's heat, as a fraction of the image's longer side."""
COARSER = 4
"""Pixels of a panel per pixel of its heat map, which is smooth; full resolution takes sixteen times as long."""

Queries = Mapping[str, list[Tensor]]
"""Centers (k, 2) of each image's queries, x and y in [0, 1], by description of the queries."""


@torch.inference_mode()
def locate_queries(model: nn.Module, batch: Batch, config: Config, device: torch.device) -> Queries:
    """Locate the queries that the model selects and, if it mines, the anchors mined for the objects.

    Args:
        model: model in evaluation mode.
        batch: images, masks and targets.
        config: configuration of the training.
        device: device of the model.

    Returns:
        Centers of the queries of each image, by description.
    """
    images, masks, targets = to_device(batch, device)
    with autocast(config, device), uncompiled(config):
        outputs = model(images, masks, targets)
    selected = outputs["encoder_outputs"]["pred_boxes"][..., :2].float().cpu()
    found = {f"{selected.shape[1]} selected queries": list(selected)}
    if "dense_outputs" in outputs:
        dense, positives = outputs["dense_outputs"]["predictions"], outputs["dense_outputs"]["positives"]
        mined = dense.anchors.flatten(1, 2)[positives.image, positives.anchor][:, :2].float().cpu()
        of = positives.image.cpu()
        found["mined positive anchors"] = [mined[of == index] for index in range(len(images))]
    return found


def draw_densities(images: Tensor, targets: Sequence[Mapping[str, Tensor]], queries: Queries) -> Image.Image:
    """Draw a contact sheet, one row per image, with the density of each kind of queries as a heat map.

    Args:
        images: (B, 3, H, W) uint8 RGB images, padded or not.
        targets: dicts with `size` (2,), height and width of each image in px without the padding.
        queries: centers as from `locate_queries`.

    Returns:
        The contact sheet.
    """
    rows = []
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        height, width = target["size"].tolist()
        picture = to_pil_image(image[:, :height, :width].cpu())
        zoom = min(max(LEAST_SIDE, *picture.size), MOST_SIDE) / max(picture.size)
        panel = picture.resize((round(width * zoom), round(height * zoom)), Image.Resampling.BICUBIC)
        rows.append([_heated(panel, centers[index]) for centers in queries.values()])
    colours = [tuple(HEAT[level].astype(int)) for level in (0, len(HEAT) // 2, -1)]
    return sheet(rows, list(queries), [(Image.new("RGB", (16, 16), c), t) for c, t in zip(colours, SCALE, strict=True)])


def _heated(panel: Image.Image, centers: Tensor) -> Image.Image:
    """Colour a grey copy of a panel by the density of its queries."""
    coarse = density(centers, (math.ceil(panel.height / COARSER), math.ceil(panel.width / COARSER)))
    heat = np.asarray(Image.fromarray(coarse).resize(panel.size, Image.Resampling.BILINEAR))
    grey = np.asarray(panel.convert("L").convert("RGB"), dtype=np.float32)
    levels = np.linspace(0, 1, len(HEAT))
    colour = np.stack([np.interp(heat, levels, HEAT[:, channel]) for channel in range(3)], axis=-1)
    cover = 0.35 + 0.5 * heat[..., None]
    return Image.fromarray((grey * (1 - cover) + colour * cover).astype(np.uint8))


def density(centers: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """Compute the density of queries around each pixel, relative to the greatest.

    Args:
        centers: (k, 2) centers, x and y in [0, 1]; others do not count.
        size: height and width in px.

    Returns:
        (height, width) density in [0, 1].
    """
    height, width = size
    x, y = centers.numpy().astype(np.float64).T
    counts, _, _ = np.histogram2d(y, x, bins=(height, width), range=((0, 1), (0, 1)))
    heat = gaussian_filter(counts, BLUR * max(size), mode="constant")  # a mirrored edge would count its queries twice
    most = heat.max()
    return (heat / most if most else heat).astype(np.float32)
