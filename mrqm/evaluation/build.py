"""The protocol that a name and a configuration stand for."""

from __future__ import annotations

from typing import Literal

from mrqm.config import EvaluationConfig
from mrqm.evaluation.coco import CocoProtocol
from mrqm.evaluation.protocols import Protocol
from mrqm.evaluation.soda import SodaProtocol
from mrqm.evaluation.visdrone import VisDroneProtocol

ProtocolName = Literal["coco", "visdrone", "soda-d"]


def build_protocol(name: ProtocolName, settings: EvaluationConfig) -> Protocol:
    """COCO's protocol takes area bins and the limit of detections from the configuration; the others are fixed."""
    match name:
        case "coco":
            usual = tuple(limit for limit in (1, 10, 100) if limit < settings.max_detections)
            return CocoProtocol(settings.area_bins, (*usual, settings.max_detections))
        case "visdrone":
            return VisDroneProtocol()
        case "soda-d":
            return SodaProtocol()
