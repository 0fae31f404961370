"""Picture of training images as a training would see them: `mrqm prepare visdrone FOLDER --preview PICTURE.png`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mrqm.config import load_config, make_config
from mrqm.config.values import to_word
from mrqm.data import build_dataset
from mrqm.data.formats.splits import find_splits
from mrqm.data.loading.preview import preview_samples
from mrqm.files import write_whole
from mrqm.visualization.detections import draw_samples
from pipelines.preparation.output_dir import PreparationError, PrepareSettings
from pipelines.storage.data_cache import local_folders

SAMPLES = 12
"""Greatest number of training images in the picture."""


def draw_preview(
    settings: PrepareSettings, config: Path | None, overrides: Sequence[str], picture: Path, console: Console
) -> None:
    """Draw training images, cut and augmented as a configuration says, with their objects and ignored regions.

    Args:
        settings: source, format and classes; of its splits the first one for training is drawn. Tiles and scale, where
            given, win over the configuration's.
        config: YAML file of a training's configuration; None takes the defaults.
        overrides: settings that win over the file and over `settings`, as `key=value`.
        picture: PNG file to write.
        console: console for progress messages.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: the data cannot be used.
        PreparationError: the file cannot be written, or is not named as a PNG.
    """
    if picture.suffix.lower() != ".png":
        raise PreparationError(f"{picture}: the picture is a PNG; name it {picture.with_suffix('.png')}")
    with local_folders([str(settings.source)], console.print) as (source,):
        splits = find_splits(settings.dataset, Path(source), settings.splits)
        name = next((name for name in splits if "train" in name), next(iter(splits)))
        own = {
            "data.format": settings.dataset,
            "data.root": source,
            "data.train": splits[name].relative_to(source).as_posix(),
            "data.classes": list(settings.classes) if settings.classes else None,
            "data.scale": settings.scale if settings.scale != 1 else None,
            "data.tile": {"size": settings.tiles, "overlap": settings.overlap} if settings.tiles else None,
        }
        words = [f"{key}={to_word(value)}" for key, value in own.items() if value is not None]
        made = load_config(config, [*words, *overrides]) if config else make_config({}, [*words, *overrides])
        dataset = build_dataset(made, "train")
        file = io.BytesIO()
        draw_samples(preview_samples(dataset, SAMPLES), dataset.classes).save(file, "png")
    try:
        write_whole(picture, file.getvalue())
    except OSError as error:
        raise PreparationError(f"{picture}: {error.strerror}; name another file with --preview") from error
    console.print(f"{picture}: {min(SAMPLES, len(dataset))} of {len(dataset):,} training images of {name}")
