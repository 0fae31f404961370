"""Export of a detector to ONNX: PyTorch's exporter with a translation of NMS, and metadata for users of the file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18 as op
from torch.export import Dim

from mrqm.inference.export_module import ExportModule

OPSET = 18
"""Minimum of PyTorch's exporter; GridSample, for deformable attention, needs 16."""
INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "scores", "labels")


def write_onnx(detector: ExportModule, path: Path, size: tuple[int, int], metadata: Mapping[str, str]) -> None:
    """Write a graph with weights for batches of any number of images.

    Height and width are fixed: as symbols, their expressions grow with every convolution, and PyTorch's exporter does
    not terminate.

    Args:
        detector: module on the CPU.
        path: ONNX file to write.
        size: (height, width) of all batches in px.
        metadata: entries of the file's `metadata_props`.

    Raises:
        OSError: the file cannot be written.
    """
    batch = {0: Dim("batch", min=1)}
    example = torch.zeros(2, 3, *size, dtype=torch.uint8), torch.tensor([size] * 2)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its internals
        program = torch.export.export(detector, example, dynamic_shapes=(batch, batch), strict=False)
        graph = torch.onnx.export(
            program,
            dynamo=True,
            input_names=INPUTS,
            output_names=OUTPUTS,
            opset_version=OPSET,
            custom_translation_table={torch.ops.mrqm.suppress.default: _suppress},
            verbose=False,
        )
    assert graph is not None
    model = graph.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces with paths of this machine
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def describe_input(size: tuple[int, int], data: Mapping[str, Any]) -> dict[str, str]:
    """Make the metadata about the inputs: their shapes, and the scaling and tiling of images in training.

    Args:
        size: (height, width) of all batches in px.
        data: `data` section of the configuration as JSON values.

    Returns:
        Metadata by name.
    """
    return {
        "images": f"uint8 (batch, 3, {size[0]}, {size[1]}), RGB, 0-255, each image in the upper left corner",
        "sizes": "int64 (batch, 2), height and width of each image in it",
        **{f"data.{key}": json.dumps(data[key]) for key in ("scale", "max_side", "resize", "tile")},
    }


def _suppress(boxes: Any, scores: Any, groups: Any, num_groups: int, iou: float) -> Any:
    """Translate `mrqm.ops.nms.suppress` to ONNX's operator, with one class per group."""
    axis = op.Constant(value_ints=[1])
    lowest = op.Constant(value_floats=[float(np.finfo(np.float32).min)])
    numbers = op.Constant(value=onnx.numpy_helper.from_array(np.arange(num_groups).reshape(1, -1, 1)))
    own = op.Equal(op.Unsqueeze(groups, axis), numbers)  # (B, num_groups, N)
    per_group = op.Where(own, op.Unsqueeze(scores, axis), lowest)
    most = op.Constant(value_ints=[np.iinfo(np.int64).max])
    # rows of (image, group, box); the operator ignores scores that are not above the lowest number
    kept = op.NonMaxSuppression(boxes, per_group, most, op.Constant(value_floats=[iou]), lowest)
    places = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    count = op.Shape(kept, start=0, end=1)
    one = onnx.helper.make_tensor("one", onnx.TensorProto.INT32, [1], [1])
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.INT32, [1], [0])
    marks = op.ScatterND(op.ConstantOfShape(op.Shape(scores), value=zero), places, op.ConstantOfShape(count, value=one))
    return op.Cast(marks, to=onnx.TensorProto.BOOL)
