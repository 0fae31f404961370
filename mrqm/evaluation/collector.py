"""A model in training, scored under a protocol: gathered batch by batch, exact over workers."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from torch import Tensor
from torch import distributed as dist

from mrqm.evaluation.protocols.protocol import Protocol
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import ImageDetections, to_image_detections


class Evaluator:
    """Collects what was found in the items of a data set and scores it against their ground truth.

    Args:
        protocol: the rules.
        classes: names in label order.
        ground_truth: the annotated image of an item, by its index.
    """

    def __init__(self, protocol: Protocol, classes: Sequence[str], ground_truth: Callable[[int], ImageRecord]) -> None:
        self._protocol = protocol
        self._classes = tuple(classes)
        self._ground_truth = ground_truth
        self._found: dict[int, ImageDetections] = {}

    def update(self, detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add a batch of items.

        Args:
            detections: per item `boxes` (K, 4) xyxy in native px, `scores` (K,), `labels` (K,).
            targets: per item `image_id` (), its index.

        Raises:
            ValueError: an item comes a second time.
        """
        for detection, target in zip(detections, targets, strict=True):
            index = int(target["image_id"])
            if index in self._found:
                raise _repeated(index)
            self._found[index] = to_image_detections(detection)

    def compute(self) -> dict[str, float]:
        """Score the items of all ranks; where torch.distributed runs, every rank calls this and gets the same figures.

        Returns:
            The protocol's metrics.

        Raises:
            ValueError: two ranks saw the same item.
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
        """Every rank looks at all ranks' indices, so that all stop together and none waits for ever."""
        indices: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(indices, list(self._found))
        for index, times in Counter(chain.from_iterable(indices)).items():
            if times > 1:
                raise _repeated(index)

    def _score(self, found: Mapping[int, ImageDetections]) -> dict[str, float]:
        order = sorted(found)
        records = [self._ground_truth(index) for index in order]
        return self._protocol.score(records, [found[index] for index in order], self._classes)


def _repeated(index: int) -> ValueError:
    return ValueError(
        f"item {index} was evaluated twice; every item of the data set needs an index of its own as image_id "
        "and must be seen by one rank only"
    )
