"""The model as MLflow serves it; MLflow keeps this file with the weights and runs it to load them.

model = mlflow.pyfunc.load_model("models:/mrqm/1")
detections = model.predict(images)          # uint8 (B, H, W, 3) RGB
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

import mrqm


class DetectorModel(PythonModel):
    """Finds objects in images."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the checkpoint."""
        self.detector = mrqm.load(context.artifacts["checkpoint"])

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Detections of every image: `boxes` xyxy in px, `scores`, `labels` and `class_names`, best first.

        Args:
            model_input: uint8 (B, H, W, 3) RGB.
        """
        return [self._detect(image) for image in model_input]

    def _detect(self, image: np.ndarray) -> dict[str, Any]:
        found = self.detector(image)
        lists = {name: values.tolist() for name, values in found.items()}
        return lists | {"class_names": [self.detector.classes[label] for label in lists["labels"]]}


set_model(DetectorModel())
