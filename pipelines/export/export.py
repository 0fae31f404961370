"""A trained model as an ONNX file that was checked against it: `mrqm export`.

exported = export(Request("models:/mrqm@champion", Path("mrqm.onnx")), print)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from torch import Tensor

import mrqm
from mrqm.checkpoint.files import METRICS
from mrqm.config import Config
from mrqm.data.formats.readers import read_annotations
from mrqm.data.synthetic.scene import make_scene
from mrqm.errors import UserError
from mrqm.evaluation import ProtocolName, build_protocol
from mrqm.files import part_of
from mrqm.inference.detector import Detector, Picture
from mrqm.inference.export_module import ExportModule
from mrqm.structures.annotations import DataError
from pipelines.inference.inputs import find_images
from pipelines.registry.lineage import describe_lineage
from pipelines.registry.model_uri import checkpoint_folder, read_tracking

if TYPE_CHECKING:
    from pipelines.export.verify import Agreement

EXTRA = ("onnx", "onnxruntime", "onnxscript")
LOOKED_AT = 6
"""Windows that the file is checked on."""
AS_EXPORTED = ("train.precision=float32", "model.compile=false", "model.channels_last=false")
"""What changes how PyTorch computes, and no weight."""


class ExportError(UserError):
    """An export that cannot be done as asked for, or whose result is not the model."""


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        model: a checkpoint's folder or an MLflow model's URI; see `pipelines.registry.model_uri`.
        out: the file.
        size: (height, width) in px of all batches; None takes the training's tiles or longest side.
        images: files, folders and patterns of images to check with; without any, validation images of the training or,
            where they are not at hand, generated scenes.
        overrides: `key=value` settings that win over the model's, such as `evaluation.max_detections=100`.
    """

    model: str
    out: Path
    size: tuple[int, int] | None = None
    images: Sequence[str] = ()
    overrides: Sequence[str] = ()


def export(request: Request, say: Callable[[str], None]) -> Agreement:
    """Write an ONNX file and compare it with the model; only a file that agrees takes its name.

    Args:
        request: what.
        say: told what is being done.

    Returns:
        How far ONNX Runtime and PyTorch are apart.

    Raises:
        ExportError, OnnxError, ModelSourceError, CheckpointError, ConfigError, DataError: what was named cannot be
            used, or the file is not the model.
    """
    _check(request)
    from pipelines.export.onnx import describe_input, write_onnx
    from pipelines.export.verify import OnnxDetector, compare

    with checkpoint_folder(request.model, read_tracking(None, request.overrides)) as folder:
        detector = mrqm.load(folder, "cpu", (*request.overrides, *AS_EXPORTED))
        metadata = describe(folder, detector)
    size = request.size or default_size(detector.config)
    origin, pictures = _pictures(request.images, detector.config)
    windows = cut_windows(detector, pictures, size)
    settings = detector.config.evaluation
    deployed = ExportModule(detector.model, settings.max_detections, settings.nms_iou)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(request.out)
    try:
        say("exporting, which takes a minute or two")
        data = detector.config.data.model_dump(mode="json")
        write_onnx(deployed, part, size, metadata | describe_input(size, data))
        say(f"checking on {len(windows)} windows of {origin}")
        agreement = compare(detector, OnnxDetector(part, size), windows)
        _require_close(agreement, origin)
        part.replace(request.out)
    finally:
        part.unlink(missing_ok=True)
    return agreement


def describe(folder: Path, detector: Detector) -> dict[str, str]:
    """Metadata of a checkpoint: its classes, what it scored under which protocol, and where it comes from."""
    scores: dict[str, float] = json.loads((folder / METRICS).read_text())
    tags = {"classes": json.dumps(detector.classes)} | describe_lineage(folder)
    for name in get_args(ProtocolName):
        if own := {key: f"{value:.4f}" for key, value in scores.items() if key.startswith(f"{name}/")}:
            tags |= own | {f"protocol.{name}": build_protocol(name, detector.config.evaluation).version}
    return tags


def default_size(config: Config) -> tuple[int, int]:
    """Height and width that hold whatever the model looks at.

    Raises:
        ExportError: the configuration does not bound them.
    """
    data = config.data
    side = data.tile.size if data.tile and config.evaluation.view == "sliced" else data.longest_side
    if side is None:
        raise ExportError("images of any size were trained on (data.tile, max_side and resize are null): give --size")
    return side, side


def cut_windows(detector: Detector, pictures: Sequence[Picture], size: tuple[int, int]) -> list[Tensor]:
    """What the model would see of some images: uint8 (3, H, W) each, `LOOKED_AT` of them.

    Raises:
        ExportError: it would not fit into batches of `size`.
    """
    opened = [detector.open(picture) for picture in pictures[:LOOKED_AT]]
    turns = [(opened[turn % len(opened)], turn) for turn in range(LOOKED_AT)]
    windows = [image.cut(image.windows[turn * len(image.windows) // LOOKED_AT]) for image, turn in turns]
    for window in windows:
        height, width = window.shape[1:]
        if height > size[0] or width > size[1]:
            raise ExportError(
                f"--size {size[0]} {size[1]}: the model looks at images of {height} x {width} px here (data.scale, "
                "data.max_side, data.resize, data.tile); give a size that they fit into"
            )
    return windows


def _check(request: Request) -> None:
    """Find out before minutes of work what cannot be done."""
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise ExportError(f"mrqm export needs {', '.join(missing)}: pip install 'mrqm[export]'")
    if request.out.suffix != ".onnx" or request.out.is_dir():
        raise ExportError(f"{request.out}: name a file that ends in .onnx")
    file = next((folder for folder in request.out.absolute().parents if folder.is_file()), None)
    if file is not None:
        raise ExportError(f"{request.out}: {file} is a file, not a folder")
    if request.size is not None and min(request.size) < 1:
        raise ExportError(f"--size {request.size[0]} {request.size[1]}: expected px")


def _pictures(words: Sequence[str], config: Config) -> tuple[str, Sequence[Picture]]:
    """Images to check with, and where they come from."""
    if words:
        return ", ".join(words), find_images(words)
    data = config.data
    try:
        records = read_annotations(data.format, data.folder / data.val, data.classes).records
    except DataError:
        scenes = [make_scene((320, 320), (0, number)).image for number in range(LOOKED_AT)]
        return "generated scenes (the training's data are not here; --images names others)", scenes
    every = max(1, len(records) // LOOKED_AT)
    return str(data.folder / data.val), [record.path for record in records[::every]]


def _require_close(agreement: Agreement, origin: str) -> None:
    from pipelines.export.verify import BOX_TOLERANCE, SCORE_TOLERANCE

    if agreement.close:
        return
    if not agreement.detections:
        raise ExportError(f"the model finds nothing in {origin}, which checks nothing; name --images with objects")
    raise ExportError(
        f"the exported graph is not the model: of {agreement.detections} detections {agreement.unmatched} have no "
        f"counterpart, scores differ by up to {agreement.scores:.2g} (allowed {SCORE_TOLERANCE}), boxes by "
        f"{agreement.boxes:.2g} px (allowed {BOX_TOLERANCE}); nothing was written"
    )
