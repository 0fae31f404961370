"""The picture of `mrqm prepare --preview`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mrqm.config import ConfigError
from pipelines.preparation.output_dir import PreparationError, make_settings
from pipelines.preparation.preview import draw_preview


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two training images in VisDrone's layout, black with a white object each."""
    for part in ("images", "annotations"):
        (tmp_path / "source" / "train" / part).mkdir(parents=True)
    for name in "ab":
        pixels = np.zeros((60, 90, 3), np.uint8)
        pixels[10:20, 15:35] = 255
        Image.fromarray(pixels).save(tmp_path / "source" / "train" / "images" / f"{name}.png")
        (tmp_path / "source" / "train" / "annotations" / f"{name}.txt").write_text("15,10,20,10,1,4,0,0")
    return tmp_path / "source"


def draw(source: Path, picture: Path, *overrides: str, config: Path | None = None, **settings: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    draw_preview(
        make_settings(dataset="visdrone", source=source, **settings), config, overrides, picture, console
    )  # fmt: skip
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def white(picture: Path) -> Image.Image:
    """Mask of white px in the picture's first image."""
    return Image.fromarray((np.asarray(Image.open(picture).convert("RGB"))[34:354, 12:492] > 250).all(axis=-1))


def test_training_images_are_drawn_as_augmented(source: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "preview.png"
    assert "2 of 2 training images of train" in draw(source, picture, "data.augment.horizontal_flip=0")
    plain = white(picture).getbbox()
    config = tmp_path / "flip.yaml"
    config.write_text("data: {augment: {horizontal_flip: 1.0}}")
    draw(source, picture, config=config)
    flipped = white(picture).getbbox()
    assert plain is not None and flipped is not None
    assert abs(plain[0] - (480 - flipped[2])) <= 1
    assert (plain[1], plain[3]) == (flipped[1], flipped[3])


def test_tiles_of_the_command_win_over_the_configuration(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiles.yaml"
    config.write_text("data: {tile: {size: 90, overlap: 0}}")
    assert "2 of 2 training" in draw(source, tmp_path / "a.png", config=config)
    assert "of 4 training" in draw(source, tmp_path / "a.png", config=config, tiles=25)


def test_wrong_settings_and_files_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment\.mosaik: unknown key"):
        draw(source, tmp_path / "a.png", "data.augment.mosaik=1")
    with pytest.raises(PreparationError, match=r"a\.jpg: the picture is a PNG; name it .*a\.png"):
        draw(source, tmp_path / "a.jpg")
    with pytest.raises(PreparationError, match=r"a\.txt/a\.png: .*; name another file with --preview"):
        draw(source, source / "train" / "annotations" / "a.txt" / "a.png")
