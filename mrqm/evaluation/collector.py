"""Average precision of a model in training: gathered batch by batch, exact over workers."""

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from torch import Tensor
from torch import distributed as dist
from torchvision.ops import box_convert

from mrqm.evaluation.coco import ALL_AREAS
from mrqm.evaluation.cocoeval import accumulate
from mrqm.evaluation.matching import Array, ScoredImage


class CocoEvaluator:
    """Collects detections image by image and scores them by COCO's rules.

    IoU 0.50:0.05:0.95, 101 recall points, matching per image and class. Ignored boxes are crowds of their class, or of
    every class where they have none: a detection that lies in one is neither right nor wrong. An object's area is the
    area of its box.

    Args:
        classes: names in label order.
        area_bins: name → (least, most) area in px² of the native image, both inclusive.
        max_detections: highest-scoring detections per image and class that are counted.
    """

    def __init__(
        self, classes: Sequence[str], area_bins: Mapping[str, tuple[float, float]], max_detections: int
    ) -> None:
        self.classes = tuple(classes)
        self.area_bins = dict(area_bins)
        self.max_detections = max_detections
        self._images: dict[int, ScoredImage] = {}

    def update(self, detections: Sequence[Mapping[str, Tensor]], targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Add a batch of images.

        Args:
            detections: per image `boxes` (K, 4) xyxy in native px, `scores` (K,), `labels` (K,).
            targets: per image `boxes` (N, 4) and `ignore_boxes` (M, 4) normalised cxcywh, `labels` (N,),
                `ignore_labels` (M,), `image_id` (), `orig_size` (2,) height and width in native px.

        Raises:
            ValueError: an image_id comes a second time.
        """
        for detection, target in zip(detections, targets, strict=True):
            image_id = int(target["image_id"])
            if image_id in self._images:
                raise _repeated(image_id)
            height, width = target["orig_size"].tolist()
            self._images[image_id] = ScoredImage(
                box_convert(_float64(detection["boxes"]), "xyxy", "xywh").numpy(),
                _float64(detection["scores"]).numpy(),
                detection["labels"].cpu().numpy(),
                _native_xywh(target["boxes"], height, width),
                target["labels"].cpu().numpy(),
                _native_xywh(target["ignore_boxes"], height, width),
                target["ignore_labels"].cpu().numpy(),
            )

    def compute(self) -> dict[str, float]:
        """Score the images of all ranks; where torch.distributed runs, every rank calls this and gets the same figures.

        Returns:
            `AP`, `AP50`, `AP75`, `AP_<bin>` for every area bin, `AR` (recall averaged over IoU and classes) and
            `AP/<class>`, in [0, 1]; NaN where there is no object to find.

        Raises:
            ValueError: two ranks saw the same image_id.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self._score(self._images)
        self._refuse_shared_images()
        parts: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(self._images, parts)
        metrics = [self._score(dict(ChainMap(*parts))) if parts else {}]
        dist.broadcast_object_list(metrics)
        return metrics[0]

    def _refuse_shared_images(self) -> None:
        """Every rank looks at all ranks' ids, so that all stop together and none waits for ever."""
        ids: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(ids, list(self._images))
        for image_id, times in Counter(chain.from_iterable(ids)).items():
            if times > 1:
                raise _repeated(image_id)

    def _score(self, images: Mapping[int, ScoredImage]) -> dict[str, float]:
        curves = accumulate(images, self.classes, [ALL_AREAS, *self.area_bins.values()], [self.max_detections])
        metrics = curves.headline()
        metrics |= {f"AP_{name}": curves.ap(i, 0) for i, name in enumerate(self.area_bins, start=1)}
        metrics["AR"] = curves.ar(0, 0)
        return metrics | curves.ap_of_classes(self.classes, 0, 0)


def _native_xywh(boxes: Tensor, height: int, width: int) -> Array:
    """Normalised cxcywh (N, 4) → float64 xywh (N, 4) in native px."""
    scale = _float64(boxes).new_tensor([width, height, width, height])
    return box_convert(_float64(boxes) * scale, "cxcywh", "xywh").numpy()


def _float64(values: Tensor) -> Tensor:
    return values.detach().cpu().double()


def _repeated(image_id: int) -> ValueError:
    return ValueError(
        f"image_id {image_id} was evaluated twice; every item of the data set needs its own image_id "
        "and must be seen by one rank only"
    )
