"""Measure the speed of reading tiles for training: cut on the fly out of large images, or cut beforehand.

    python benchmarks/tiles.py FOLDER --tile 640 --overlap 100 [--scale 1] [--images 60] [--cache-mb 512]

FOLDER is a split in VisDrone's layout. Both sides read the same tiles in the same shuffled order through the training
loader, without augmentation; the tiles on disk are PNG as `mrqm prepare` writes them and, for a harder comparison, JPEG
of quality 95. The first epoch begins with empty caches, the later ones with full ones: if --cache-mb is large enough,
everything is in memory. Later epochs alternate between the sides, and the median batch counts, so that other load on
the machine affects all sides alike, and little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from PIL import Image
from rich.console import Console
from rich.table import Table

from mrqm.config import Config, make_config
from mrqm.data import DetectionDataset, build_loader
from mrqm.data.formats.readers import read_annotations
from mrqm.data.images.decoding import decode
from mrqm.data.images.resizing import scaled_size
from mrqm.data.images.tiling import cut
from mrqm.data.images.windows import Item, drop_empty, tile_items, whole_items, window_truth
from mrqm.data.loading.dataset import IgnoreRules
from mrqm.structures.annotations import AnnotationSet, ImageRecord

EPOCHS = 8
"""Number of later epochs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tile", type=int, default=640)
    parser.add_argument("--overlap", type=int, default=100)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=60, help="number of images to read, from the first")
    parser.add_argument("--cache-mb", type=int, default=512)
    parser.add_argument("--workers", type=int, default=0, help="number of reading processes")
    args = parser.parse_args()
    config = make_config({"data": {"loader_workers": args.workers, "cache_mb": args.cache_mb}})
    records = read_annotations("visdrone", args.folder).records[: args.images]
    items = drop_empty(tile_items(records, partial(scaled_size, scale=args.scale), args.tile, args.overlap), 0.4, 0, 0)
    classes = read_annotations("visdrone", args.folder).classes
    table = Table("tiles", "1st epoch, tiles/s", "later, tiles/s", title=f"{len(items)} tiles, {len(records)} images")
    with tempfile.TemporaryDirectory() as folder:
        sides = {"cut on the fly": (classes, tuple(records), items)}
        for suffix in ("png", "jpg"):
            written = write(items, Path(folder), suffix, args.tile)
            sides[f"on disk, {suffix}"] = (classes, written, whole_items(written, partial(scaled_size, scale=1.0)))
        datasets = {
            name: DetectionDataset(AnnotationSet(names, side), views, ignore=IgnoreRules(0.4), cache_mb=args.cache_mb)
            for name, (names, side, views) in sides.items()
        }
        first = {name: read_epoch(config, dataset, 0) for name, dataset in datasets.items()}
        later: dict[str, list[float]] = {name: [] for name in datasets}
        for epoch in range(1, 1 + EPOCHS):
            for name, dataset in datasets.items():
                later[name] += read_epoch(config, dataset, epoch)
        for name in datasets:
            table.add_row(
                name,
                *(f"{config.train.batch_size / seconds:.0f}" for seconds in (mean(first[name]), median(later[name]))),
            )
    Console().print(table)


def write(items: list[Item], folder: Path, suffix: str, tile: int) -> tuple:
    """Write tiles to disk.

    Args:
        items: tiles to cut.
        folder: folder of the files.
        suffix: `png` or `jpg`.
        tile: side of a tile in px.

    Returns:
        Records of the tiles.
    """
    read, records = lru_cache(1)(decode), []
    for number, item in enumerate(items):
        path = folder / f"{number}.{suffix}"
        pixels = cut(read(item.record.path, item.size), item.window, (tile, tile))
        options = {"compress_level": 1} if suffix == "png" else {"quality": 95}
        Image.fromarray(pixels).save(path, **options)
        truth = window_truth(item, 0.4, (item.window.height, item.window.width))
        records.append(ImageRecord(path, number, (tile, tile), truth))
    return tuple(records)


def read_epoch(config: Config, dataset: DetectionDataset, epoch: int) -> list[float]:
    """Measure the seconds of each batch of a shuffled epoch.

    Args:
        config: configuration of the loader.
        dataset: data to read.
        epoch: number of the epoch, which seeds the order.

    Returns:
        Seconds of each batch.
    """
    loader = build_loader(config, dataset, training=True)
    loader.set_epoch(epoch)
    times = [time.perf_counter()]
    times.extend(time.perf_counter() for _ in loader)
    return [end - begin for begin, end in pairwise(times)]


if __name__ == "__main__":
    main()
