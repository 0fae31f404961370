"""Average precision of detections: what is counted, and how it is gathered over workers."""

from mrqm.evaluation.coco import CocoEvaluator

__all__ = ["CocoEvaluator"]
