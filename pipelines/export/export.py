"""Export of a trained model to a verified ONNX file: `mrqm export`.

exported = export(Request("models:/mrqm@champion", Path("mrqm.onnx")), print)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

import mrqm
from mrqm.checkpoint.files import METRICS
from mrqm.config import Config
from mrqm.data.formats.readers import read_annotations
from mrqm.data.synthetic.scene import make_scene
from mrqm.errors import UserError
from mrqm.evaluation import build_protocol
from mrqm.files import part_of
from mrqm.inference.detector import Detector
from mrqm.inference.export_module import ExportModule
from mrqm.inference.open_image import Picture
from mrqm.structures.annotations import DataError
from mrqm.structures.metric import PROTOCOLS, group_by_protocol, protocol_tag
from pipelines.inference.inputs import find_images
from pipelines.registry.lineage import describe_lineage
from pipelines.registry.model_uri import checkpoint_folder, read_tracking

if TYPE_CHECKING:
    from pipelines.export.verify import Agreement

EXTRA = ("onnx", "onnxruntime", "onnxscript")
NUM_WINDOWS = 6
"""Number of image windows on which the file is verified."""
AS_EXPORTED = ("train.precision=float32", "model.compile=false", "model.channels_last=false")
"""Settings for the export, which change PyTorch's computation but no weight."""


class ExportError(UserError):
    """An export that cannot be carried out, or whose result does not agree with the model."""


@dataclass(frozen=True)
class Request:
    """Request for an export.

    Attributes:
        model: a checkpoint's folder or an MLflow model's URI; see `pipelines.registry.model_uri`.
        out: ONNX file to write.
        size: (height, width) of all batches in px; None for the training's tiles or longest side.
        images: files, folders and patterns of images for the verification; empty for the training's validation images
            or, if these are missing, generated scenes.
        overrides: `key=value` settings that take precedence over the model's, such as `evaluation.max_detections=100`.
    """

    model: str
    out: Path
    size: tuple[int, int] | None = None
    images: Sequence[str] = ()
    overrides: Sequence[str] = ()


def export(request: Request, say: Callable[[str], None]) -> Agreement:
    """Write an ONNX file and compare it with the model; only a file that agrees is kept.

    Args:
        request: model, file and options.
        say: callback for progress messages.

    Returns:
        Differences between ONNX Runtime and PyTorch.

    Raises:
        ExportError: the request is impossible, or the file does not agree with the model.
        OnnxError: ONNX refuses the file or cannot run it.
        ModelSourceError: the model cannot be fetched.
        CheckpointError: there is no such checkpoint.
        ConfigError: an override is invalid.
        DataError: an image cannot be read.
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
        say(f"verifying on {len(windows)} windows of {origin}")
        agreement = compare(detector, OnnxDetector(part, size), windows)
        _require_close(agreement, origin)
        part.replace(request.out)
    finally:
        part.unlink(missing_ok=True)
    return agreement


def describe(folder: Path, detector: Detector) -> dict[str, str]:
    """Make the metadata of a checkpoint: its classes, its metrics with their protocols, and its origin.

    Args:
        folder: folder of the checkpoint.
        detector: detector made from it.

    Returns:
        Metadata by name.
    """
    scores: dict[str, float] = json.loads((folder / METRICS).read_text())
    tags = {"classes": json.dumps(detector.classes)} | describe_lineage(folder)
    groups = group_by_protocol(scores)
    for name in PROTOCOLS:
        if own := {metric.key: metric.text for metric in groups.get(name, ())}:
            tags |= own | {protocol_tag(name): build_protocol(name, detector.config.evaluation).version}
    return tags


def default_size(config: Config) -> tuple[int, int]:
    """Return the maximum (height, width) of the model's input images in px.

    Raises:
        ExportError: the configuration does not limit them.
    """
    data = config.data
    side = data.tile.size if data.tile and config.evaluation.view == "sliced" else data.longest_side
    if side is None:
        raise ExportError("the model takes images of any size (data.tile, max_side and resize are null): give --size")
    return side, side


def cut_windows(detector: Detector, pictures: Sequence[Picture], size: tuple[int, int]) -> list[Tensor]:
    """Cut windows from images as for a prediction.

    Args:
        detector: detector with the model's settings.
        pictures: images.
        size: (height, width) of the exported batches in px.

    Returns:
        `NUM_WINDOWS` windows, uint8 (3, H, W) each.

    Raises:
        ExportError: a window does not fit into batches of `size`.
    """
    opened = [detector.open(picture) for picture in pictures[:NUM_WINDOWS]]
    turns = [(opened[turn % len(opened)], turn) for turn in range(NUM_WINDOWS)]
    windows = [image.cut(image.windows[turn * len(image.windows) // NUM_WINDOWS]) for image, turn in turns]
    for window in windows:
        height, width = window.shape[1:]
        if height > size[0] or width > size[1]:
            raise ExportError(
                f"--size {size[0]} {size[1]}: the model's input images have {height} x {width} px here (data.scale, "
                "data.max_side, data.resize, data.tile); give a size of at least that"
            )
    return windows


def _check(request: Request) -> None:
    """Check the request before minutes of work."""
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise ExportError(f"mrqm export needs {', '.join(missing)}: pip install 'mrqm[export]'")
    if request.out.suffix != ".onnx" or request.out.is_dir():
        raise ExportError(f"{request.out}: name a file that ends in .onnx")
    file = next((folder for folder in request.out.absolute().parents if folder.is_file()), None)
    if file is not None:
        raise ExportError(f"{request.out}: {file} is a file, not a folder")
    if request.size is not None and min(request.size) < 1:
        raise ExportError(f"--size {request.size[0]} {request.size[1]}: expected height and width of at least 1 px")


def _pictures(words: Sequence[str], config: Config) -> tuple[str, Sequence[Picture]]:
    """Choose the images for the verification, and describe their origin."""
    if words:
        return ", ".join(words), find_images(words)
    data = config.data
    try:
        records = read_annotations(data.format, data.folder / data.val, data.classes).records
    except DataError:
        scenes = [make_scene((320, 320), (0, number)).image for number in range(NUM_WINDOWS)]
        return "generated scenes (the training's data are missing; --images takes others)", scenes
    every = max(1, len(records) // NUM_WINDOWS)
    return str(data.folder / data.val), [record.path for record in records[::every]]


def _require_close(agreement: Agreement, origin: str) -> None:
    from pipelines.export.verify import BOX_TOLERANCE, SCORE_TOLERANCE

    if agreement.close:
        return
    if not agreement.detections:
        raise ExportError(f"the model detects nothing in {origin}, so nothing is verified; give --images with objects")
    raise ExportError(
        f"the exported graph differs from the model: of {agreement.detections} detections {agreement.unmatched} have "
        f"no counterpart, scores differ by up to {agreement.scores:.2g} (allowed {SCORE_TOLERANCE}), boxes by "
        f"{agreement.boxes:.2g} px (allowed {BOX_TOLERANCE}); nothing was written"
    )
