"""The demo data set: generated scenes that look like drone pictures, in VisDrone's native layout."""

from mrqm.data.scenes.scene import SCENE_CLASSES, Scene, make_scene
from mrqm.data.scenes.write import write_scenes

__all__ = ["SCENE_CLASSES", "Scene", "make_scene", "write_scenes"]
