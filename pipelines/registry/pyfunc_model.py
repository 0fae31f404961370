"""The model as MLflow loads and serves it; MLflow stores this file and the package `mrqm` with the weights.

model = mlflow.pyfunc.load_model("models:/mrqm@champion")
detections = model.predict([Path("street.jpg"), jpeg_bytes, array])
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

import mrqm
from mrqm.inference.open_image import OpenImage

EXPECTED = "the content of an image file as bytes or base64 text, a pathlib.Path, or a uint8 array (height, width, 3)"


class RefusedImageError(MlflowException):
    """An invalid image; a server answers with status 400 and the message.

    The message cannot be set again: MLflow's server would prepend the whole request, megabytes of base64.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """Reason why the image is refused."""
        return self._message

    @message.setter
    def message(self, value: str) -> None: ...


class DetectorModel(PythonModel):
    """Detector of objects in images of any size, as an MLflow model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the checkpoint, onto the GPU if there is one."""
        self.detector = mrqm.load(context.artifacts["checkpoint"], "cuda" if torch.cuda.is_available() else "cpu")

    def predict(self, model_input: list[Any]) -> list[dict[str, list[Any]]]:
        """Detect objects: for each image `boxes` (xyxy, px), `scores`, `labels` and `class_names`, best first.

        Args:
            model_input: images, each as the content of a file in bytes or base64 text, a `pathlib.Path`, or a uint8
                array (H, W, 3), RGB. Plain text is never a path, since a server's clients must not access its files.
        """
        images = (self._open(number, image) for number, image in enumerate(model_input))
        return [self._answer(found) for found in self.detector.detect_open(images)]

    def _open(self, number: int, image: object) -> OpenImage:
        try:
            return self.detector.open(as_picture(image))
        except ValueError as error:
            raise RefusedImageError(f"image {number}: {error}") from error

    def _answer(self, found: dict[str, torch.Tensor]) -> dict[str, list[Any]]:
        lists = {name: values.tolist() for name, values in found.items()}
        return lists | {"class_names": [self.detector.classes[label] for label in lists["labels"]]}


def as_picture(image: object) -> bytes | Path | NDArray[np.uint8]:
    """Convert an input of the model to an image for `Detector`.

    Raises:
        ValueError: it cannot be an image; the message lists the supported inputs.
    """
    match image:
        case bytes() | Path():
            return image
        case str():
            return _from_base64(image)
        case np.ndarray():
            return image
        case list():
            return _from_lists(image)
    raise ValueError(f"expected {EXPECTED}; got {type(image).__name__}")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise ValueError(f"{shown!r} is not base64 ({error}); expected {EXPECTED}") from error


def _from_lists(rows: list[Any]) -> NDArray[np.uint8]:
    """Convert nested lists, from JSON, to a uint8 array."""
    try:
        pixels = np.array(rows)
        fits = np.issubdtype(pixels.dtype, np.integer) and 0 <= pixels.min(initial=0) <= pixels.max(initial=0) <= 255
    except ValueError:  # rows of different lengths
        fits = False
    if not fits:
        raise ValueError("nested lists must be an image's pixels: (height, width, 3) whole numbers from 0 to 255")
    return pixels.astype(np.uint8)


set_model(DetectorModel())
