"""Evaluation of a model in training: detections are collected batch by batch, with exact results over workers."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from torch import Tensor
from torch import distributed as dist

from mrqm.evaluation.protocols.protocol import Protocol
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections


class Evaluator:
    """Collector of the detections in the items of a data set, for evaluation against their ground truth.

    Args:
        protocol: evaluation protocol.
        classes: class names in label order.
        ground_truth: function from an item's index to its annotated image.
    """

    def __init__(self, protocol: Protocol, classes: Sequence[str], ground_truth: Callable[[int], ImageRecord]) -> None:
        self._protocol = protocol
        self._classes = tuple(classes)
        self._ground_truth = ground_truth
        self._found: dict[int, Detections] = {}

    def update(self, detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add a batch of items.

        Args:
            detections: dicts with `boxes` (K, 4) xyxy in native px, `scores` (K,) and `labels` (K,) of each item.
            targets: dicts with `image_id` (), the index of each item.

        Raises:
            ValueError: an item was added before.
        """
        for detection, target in zip(detections, targets, strict=True):
            index = int(target["image_id"])
            if index in self._found:
                raise _repeated(index)
            self._found[index] = Detections.from_tensors(detection)

    def compute(self) -> dict[str, float]:
        """Score the items of all ranks; with torch.distributed, every rank calls this and gets the same metrics.

        Returns:
            The protocol's metrics by name.

        Raises:
            ValueError: two ranks evaluated the same item.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self._score(self._found)
        self._refuse_shared_items()
        parts: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(self._found, parts)
        metrics = [self._score(ChainMap(*parts)) if parts else {}]
        dist.broadcast_object_list(metrics)
        return metrics[0]

    def _refuse_shared_items(self) -> None:
        """Compare the indices of all ranks on every rank, so that all raise together and none waits forever."""
        indices: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(indices, list(self._found))
        for index, times in Counter(chain.from_iterable(indices)).items():
            if times > 1:
                raise _repeated(index)

    def _score(self, found: Mapping[int, Detections]) -> dict[str, float]:
        order = sorted(found)
        records = [self._ground_truth(index) for index in order]
        return self._protocol.score(records, [found[index] for index in order], self._classes)


def _repeated(index: int) -> ValueError:
    return ValueError(
        f"item {index} was evaluated twice; every item of the data set needs an index of its own as image_id "
        "and must be seen by one rank only"
    )
