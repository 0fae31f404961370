"""Generated data set on disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from mrqm.data.synthetic.scene import SCENE_CLASSES, make_scene
from mrqm.structures.annotations import DataError

RECIPE = 2
"""Version that changes when the same arguments give other pictures."""

RECIPE_FILE = "scenes.json"


def write_scenes(
    folder: Path,
    *,
    train: int = 240,
    val: int = 48,
    size: tuple[int, int] = (320, 320),
    seed: int = 0,
    on_scene: Callable[[], None] | None = None,
) -> None:
    """Write `train` and `val` scenes as folder/{train,val}/{images/*.jpg, annotations/*.txt}.

    A complete set made by the same arguments is kept; any other is replaced. `folder` appears only when
    everything is written.

    Args:
        folder: destination; its parent is created.
        train: number of training scenes.
        val: number of validation scenes.
        size: (height, width) of each picture in px.
        seed: seed of all scenes.
        on_scene: callback after each written scene.

    Raises:
        DataError: the folder exists and is not a generated set.
    """
    recipe = {"recipe": RECIPE, "train": train, "val": val, "size": size, "seed": seed, "classes": SCENE_CLASSES}
    text = json.dumps(recipe, indent=2) + "\n"
    if folder.exists():
        if not (folder / RECIPE_FILE).is_file():
            raise DataError(f"{folder}: exists but holds no generated scenes; remove it or choose another folder")
        if (folder / RECIPE_FILE).read_text() == text:
            return
    unfinished, outdated = (folder.with_name(folder.name + suffix) for suffix in (".unfinished", ".outdated"))
    for leftover in (unfinished, outdated):
        shutil.rmtree(leftover, ignore_errors=True)
    for split, (name, count) in enumerate((("train", train), ("val", val))):
        _write_split(unfinished / name, count, size, (seed, split), on_scene)
    (unfinished / RECIPE_FILE).write_text(text)
    if folder.exists():
        folder.rename(outdated)
    unfinished.rename(folder)
    shutil.rmtree(outdated, ignore_errors=True)


def _write_split(
    folder: Path, count: int, size: tuple[int, int], key: tuple[int, ...], on_scene: Callable[[], None] | None
) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for index in range(count):
        scene = make_scene(size, (*key, index))
        Image.fromarray(scene.image).save(folder / "images" / f"{index:05d}.jpg", quality=92)
        (folder / "annotations" / f"{index:05d}.txt").write_text(scene.annotation())
        if on_scene:
            on_scene()
