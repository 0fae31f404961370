"""Inference on a data set, aligned with its annotations for evaluation.

predictions = predict_dataset(detector, dataset, "sliced")
metrics = score_under([VisDroneProtocol()], predictions.records, predictions.detections, predictions.classes)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mrqm.data import DetectionDataset, build_loader
from mrqm.data.images.decoding import UnreadableImageError
from mrqm.data.images.windows import Item, black_out_regions
from mrqm.inference.detector import Detector
from mrqm.inference.open_image import OpenImage
from mrqm.inference.postprocess import detect
from mrqm.structures.annotations import ImageRecord
from mrqm.structures.detections import Detections
from mrqm.structures.window import Window

View = Literal["tiles", "sliced", "full"]
"""Input of the model: `tiles` takes every window as an image of its own, as in training; `sliced` takes whole images
window by window and merges the detections; `full` takes whole images at once.
"""


@dataclass(frozen=True)
class DatasetPredictions:
    """Annotated images and their detections, aligned.

    Attributes:
        classes: class names in label order.
        records: annotations of each image.
        detections: detections in each record.
        read_image: function from a record's index to its image, uint8 (3, H, W), at any scale.
    """

    classes: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    detections: tuple[Detections, ...]
    read_image: Callable[[int], Tensor]


def count_views(dataset: DetectionDataset, view: View) -> int:
    """Count the images that `predict_dataset` processes.

    Args:
        dataset: data set.
        view: input of the model.

    Returns:
        The number of tiles or images.
    """
    return len(dataset) if view == "tiles" else len(dataset.annotations.records)


def predict_dataset(
    detector: Detector, dataset: DetectionDataset, view: View, on_image: Callable[[], None] = lambda: None
) -> DatasetPredictions:
    """Detect objects in every image, or tile, of a data set.

    Args:
        detector: detector with the labels of the data set.
        dataset: data set, whose items are the tiles.
        view: input of the model.
        on_image: callback after each image or tile.

    Returns:
        The detections with their annotations; images that do not decode are left out.

    Raises:
        DataError: more images than `data.max_unreadable` do not decode.
    """
    return (_predict_tiles if view == "tiles" else _predict_images)(detector, dataset, view, on_image)


def _predict_tiles(
    detector: Detector, dataset: DetectionDataset, _: View, on_image: Callable[[], None]
) -> DatasetPredictions:
    model, config, device = detector.model, detector.config, detector.device
    indices, detections = [], []
    for batch in build_loader(config, dataset, training=False):
        for found, target in zip(detect(model, batch, config, device), batch[2], strict=True):
            indices.append(int(target["image_id"]))
            detections.append(Detections.from_tensors(found))
            on_image()

    def read_image(index: int) -> Tensor:
        sample = dataset[indices[index]]
        assert sample is not None, "it was decoded before"
        return sample[0]

    records = tuple(dataset.scored_record(index) for index in indices)
    return DatasetPredictions(dataset.classes, records, tuple(detections), read_image)


def _predict_images(
    detector: Detector, dataset: DetectionDataset, view: View, on_image: Callable[[], None]
) -> DatasetPredictions:
    evaluation = detector.config.evaluation.model_copy(update={"view": view, "max_detections_per_image": None})
    config = detector.config.model_copy(update={"evaluation": evaluation})
    detector = Detector(detector.model, config, detector.device)
    blackout = config.data.tile is not None and config.data.tile.blackout_ignored
    records: list[ImageRecord] = []

    def readable() -> Iterator[OpenImage]:
        for record in dataset.annotations.records:
            try:
                image = detector.open(record.path)
            except UnreadableImageError as error:
                dataset.tolerate(record.path, error)
                continue
            if blackout:
                height, width = image.pixels.shape[:2]
                black_out_regions(Item(record, (height, width), Window(0, 0, width, height)), image.pixels)
            records.append(record)
            yield image

    detections = []
    for found in detector.detect_open(readable()):
        detections.append(Detections.from_tensors(found))
        on_image()

    def read_image(index: int) -> Tensor:
        return torch.from_numpy(detector.open(records[index].path).pixels).permute(2, 0, 1)

    return DatasetPredictions(dataset.classes, tuple(records), tuple(detections), read_image)
