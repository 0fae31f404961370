"""Construction of protocols by name."""

from __future__ import annotations

from mrqm.config import EvaluationConfig
from mrqm.evaluation.protocols.coco import COCO_LIMITS, CocoProtocol
from mrqm.evaluation.protocols.protocol import Protocol
from mrqm.evaluation.protocols.soda_d import SodaProtocol
from mrqm.evaluation.protocols.visdrone import VisDroneProtocol
from mrqm.structures.metric import ProtocolName


def build_protocol(name: ProtocolName, settings: EvaluationConfig) -> Protocol:
    """Build a protocol.

    COCO's protocol takes area bins from the configuration, and a limit above its own; the others are fixed.

    Args:
        name: name of the protocol.
        settings: configuration of the evaluation.

    Returns:
        The protocol.
    """
    dense_limit = settings.max_detections if settings.max_detections > COCO_LIMITS[-1] else None
    match name:
        case "coco":
            return CocoProtocol(settings.area_bins, dense_limit=dense_limit)
        case "coco-drop-ignored":
            return CocoProtocol(settings.area_bins, dense_limit=dense_limit, without_class="drop")
        case "visdrone":
            return VisDroneProtocol()
        case "soda-d":
            return SodaProtocol()
