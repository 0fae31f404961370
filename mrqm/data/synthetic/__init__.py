"""Demo data set: generated scenes that resemble drone pictures, in VisDrone's native layout."""

from mrqm.data.synthetic.scene import SCENE_CLASSES, Scene, make_scene
from mrqm.data.synthetic.write import write_scenes

__all__ = ["SCENE_CLASSES", "Scene", "make_scene", "write_scenes"]
