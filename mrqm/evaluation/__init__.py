"""Average precision under the protocols of several benchmarks, and evaluation of a model over workers."""

from mrqm.evaluation.collector import Evaluator
from mrqm.evaluation.protocols.build import build_protocol
from mrqm.evaluation.protocols.coco import CocoProtocol
from mrqm.evaluation.protocols.protocol import Protocol, score_under
from mrqm.evaluation.protocols.soda_d import SodaProtocol
from mrqm.evaluation.protocols.visdrone import VisDroneProtocol

__all__ = [
    "CocoProtocol", "Evaluator", "Protocol", "SodaProtocol", "VisDroneProtocol", "build_protocol", "score_under",
]  # fmt: skip
