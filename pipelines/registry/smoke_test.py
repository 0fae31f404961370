"""Smoke test of a registered model: load it with the code registered with it, and predict once.

    fault = try_model("sqlite:///mlflow.db", "models:/mrqm/3")

The test runs in a separate process (`python -m pipelines.registry.smoke_test models:/mrqm/3`), since this process has
its own `mrqm` loaded instead of the model's.
"""

from __future__ import annotations

import os
import subprocess
import sys

import mlflow
import numpy as np

SIZE = (96, 128)
"""Height and width of the image, px."""


def try_model(tracking_uri: str, model_uri: str) -> str | None:
    """Load a model and predict on a generated image, in another process.

    Args:
        tracking_uri: URI of the MLflow store.
        model_uri: URI of the model.

    Returns:
        The error; None if the model works.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.registry.smoke_test", model_uri],
        env=os.environ | {"MLFLOW_TRACKING_URI": tracking_uri},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if ended.returncode == 0:
        return None
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with {ended.returncode}"


def main(model_uri: str) -> None:
    """Load a model and predict; end with an exception or a message on stderr if it does not work."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    found = mlflow.pyfunc.load_model(model_uri).predict([image])
    if fault := find_fault(found):
        sys.exit(f"its prediction for one image is invalid: {fault}")


def find_fault(answer: object) -> str | None:
    """Describe the fault of a prediction for one image; None for valid boxes, scores, labels and class names."""
    if not isinstance(answer, list) or len(answer) != 1:
        return f"expected a list of one, got {str(answer)[:80]}"
    missing = [key for key in ("boxes", "scores", "labels", "class_names") if key not in answer[0]]
    if missing:
        return f"{', '.join(missing)} missing"
    boxes = np.array(answer[0]["boxes"], dtype=np.float64).reshape(-1, 4)
    scores = np.array(answer[0]["scores"], dtype=np.float64)
    if len(boxes) != len(scores):
        return f"{len(boxes)} boxes, {len(scores)} scores"
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        return "boxes or scores are not finite"
    return None


if __name__ == "__main__":
    main(sys.argv[1])
