"""Module for export: the same detections as `detect`, in tensors of fixed shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mrqm.data import collate
from mrqm.inference.export_module import ExportModule
from mrqm.inference.postprocess import detect

CPU = torch.device("cpu")


def batch_of(*sizes: tuple[int, int]) -> Any:
    """Collate random images of given sizes (height, width)."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]
    return collate([(image, {"orig_size": torch.tensor(image.shape[1:])}) for image in images])


def sizes_of(batch: Any) -> Tensor:
    return torch.stack([target["orig_size"] for target in batch[2]])


@pytest.mark.parametrize("overrides", [[], ["evaluation.nms_iou=0.3"], ["model.query_nms_iou=0.5"]])
def test_it_finds_what_detect_finds(overrides: list[str], tiny_config: Any, make_model: Any) -> None:
    config = tiny_config("evaluation.max_detections=30", *overrides)
    model, batch = make_model(config), batch_of((64, 64), (50, 40), (64, 32))
    settings = config.evaluation
    deployed = ExportModule(model, settings.max_detections, settings.nms_iou)
    with torch.inference_mode():
        boxes, scores, labels = deployed(batch[0], sizes_of(batch))
    assert boxes.shape == (3, 30, 4) and scores.shape == labels.shape == (3, 30)
    for index, expected in enumerate(detect(model, batch, config, CPU)):
        count = len(expected["scores"])
        torch.testing.assert_close(boxes[index, :count], expected["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(scores[index, :count], expected["scores"], atol=1e-5, rtol=0)
        assert labels[index, :count].tolist() == expected["labels"].tolist()
        assert not scores[index, count:].any()


def test_padding_beyond_the_given_size_changes_nothing(tiny_config: Any, make_model: Any) -> None:
    model, (images, _, _) = make_model(tiny_config()), batch_of((64, 64))
    size = torch.tensor([[64, 64]])
    padded = torch.nn.functional.pad(images, (0, 32, 0, 32))
    with torch.inference_mode():
        alone = ExportModule(model, 50, None)(images, size)
        within = ExportModule(model, 50, None)(padded, size)
    torch.testing.assert_close(within[1], alone[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(within[0], alone[0], atol=1e-3, rtol=0)
