"""Average precision of detections: what each benchmark counts, and how a model in training is scored over workers."""

from mrqm.evaluation.build import ProtocolName, build_protocol
from mrqm.evaluation.coco import CocoProtocol
from mrqm.evaluation.collector import Evaluator
from mrqm.evaluation.protocols import Protocol, score_under
from mrqm.evaluation.soda import SodaProtocol
from mrqm.evaluation.visdrone import VisDroneProtocol

__all__ = [
    "CocoProtocol", "Evaluator", "Protocol", "ProtocolName", "SodaProtocol", "VisDroneProtocol", "build_protocol",
    "score_under",
]  # fmt: skip
