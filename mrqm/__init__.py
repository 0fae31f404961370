"""MRQM: a DETR-style detector of small objects (Fu et al., ACML 2024), on PyTorch alone.

    import mrqm
    detector = mrqm.load("checkpoint")
    detections = detector("street.jpg")

Tensor vocabulary, the same everywhere:

- images: (B, 3, H, W) uint8, or float in [0, 1]; the model normalises. masks: (B, H, W) bool, True = padding, or None.
- target, one dict per image: `boxes` (N, 4) normalised cxcywh of the unpadded image, `labels` (N,) from 0,
  `ignore_boxes` (M, 4) regions without any loss, with `ignore_labels` (M,) (see `mrqm.structures.annotations`),
  `image_id` (), `orig_size` (2,) height and width in native px, `size` (2,) height and width fed to the network.
- outputs: `pred_logits` (B, Q, K), `pred_boxes` (B, Q, 4) normalised cxcywh; `aux_outputs`, `encoder_outputs`,
  `denoising_outputs`, `mined_outputs`, `dense_outputs` in training.
- detections, one dict per image: `boxes` (k, 4) xyxy native px, `scores` (k,), `labels` (k,), best first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrqm.config import Config, ConfigError, load_config
    from mrqm.engine.trainer import Trainer
    from mrqm.inference.detector import Detector, load

__version__ = "0.1.0"
__all__ = ["Config", "ConfigError", "Detector", "Trainer", "load", "load_config"]

_HOMES = {
    "Config": "mrqm.config",
    "ConfigError": "mrqm.config",
    "Detector": "mrqm.inference.detector",
    "Trainer": "mrqm.engine.trainer",
    "load": "mrqm.inference.detector",
    "load_config": "mrqm.config",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the command line answers before torch is loaded."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mrqm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
