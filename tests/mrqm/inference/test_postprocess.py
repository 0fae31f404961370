"""Post-processing by hand-made outputs."""

from __future__ import annotations

import torch

from mrqm.inference.postprocess import postprocess

LOGITS = torch.tensor([[[2.0, -1.0], [0.0, 3.0], [-4.0, -5.0]]])
BOXES = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.4, 0.4], [0.3, 0.3, 0.1, 0.1]]])
SIZES = torch.tensor([[100, 200]])


def test_best_pairs_of_query_and_class_come_first_in_px() -> None:
    (found,) = postprocess({"pred_logits": LOGITS, "pred_boxes": BOXES}, SIZES, 3)
    torch.testing.assert_close(found["scores"], torch.tensor([3.0, 2.0, 0.0]).sigmoid())
    assert found["labels"].tolist() == [1, 0, 0]
    expected = [[0.0, 0.0, 60.0, 30.0], [80.0, 30.0, 120.0, 70.0], [0.0, 0.0, 60.0, 30.0]]
    torch.testing.assert_close(found["boxes"], torch.tensor(expected))


def test_there_are_no_more_detections_than_asked_for_or_than_pairs() -> None:
    outputs = {"pred_logits": LOGITS, "pred_boxes": BOXES}
    assert [len(postprocess(outputs, SIZES, most)[0]["scores"]) for most in (1, 4, 6, 500)] == [1, 4, 6, 6]


def test_each_image_has_its_own_size() -> None:
    outputs = {"pred_logits": LOGITS.repeat(2, 1, 1), "pred_boxes": BOXES.repeat(2, 1, 1)}
    first, second = postprocess(outputs, torch.tensor([[100, 200], [10, 40]]), 6)
    torch.testing.assert_close(second["boxes"], first["boxes"] * torch.tensor([0.2, 0.1, 0.2, 0.1]))


def test_half_precision_outputs_give_full_precision_detections() -> None:
    (found,) = postprocess({"pred_logits": LOGITS.bfloat16(), "pred_boxes": BOXES.bfloat16()}, SIZES, 3)
    assert found["scores"].dtype == found["boxes"].dtype == torch.float32
