"""Whole detector: invariance of its predictions, gradients of its parameters, effect of each switch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mrqm.config import make_config
from mrqm.data import collate
from mrqm.losses.criterion import build_criterion, total_loss
from mrqm.models.encoder import FullEncoder, ScaleAwareEncoder
from mrqm.models.mrqm import build_model
from mrqm.ops.distributed import autocast

SIZES = [(64, 64), (75, 118), (97, 50), (128, 128)]
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
RANDOM_BACKBONE = ("model.backbone.weights=none", "model.backbone.frozen_batch_norm=false")


def random_images(sizes: list[tuple[int, int]], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def as_batch(images: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    batch = collate([(image, {}) for image in images])
    assert batch is not None
    return batch[:2]


@torch.no_grad()
def predict(model: Any, images: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return logits and boxes of each image of a batch."""
    outputs = model(*as_batch(images))
    return list(zip(outputs["pred_logits"], outputs["pred_boxes"], strict=True))


def assert_same(actual: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> None:
    for (logits, boxes), (wanted_logits, wanted_boxes) in zip(actual, expected, strict=True):
        torch.testing.assert_close(logits, wanted_logits, **TOLERANCE)
        torch.testing.assert_close(boxes, wanted_boxes, **TOLERANCE)


@pytest.mark.parametrize("backbone", [pytest.param("resnet18", marks=pytest.mark.slow), "tf_efficientnet_lite0"])
@pytest.mark.parametrize(
    "override",
    ["model.encoder=sae", "model.encoder=full", "model.query_nms_iou=0.5", "model.refinement.low_level_share=0.3"],
)
def test_padding_a_batch_changes_no_prediction(backbone: str, override: str, tiny_config: Any, make_model: Any) -> None:
    model = make_model(tiny_config(f"model.backbone.name={backbone}", override, *RANDOM_BACKBONE))
    images = random_images(SIZES)
    assert_same(predict(model, images), [predict(model, [image])[0] for image in images])


@pytest.mark.parametrize("override", ["model.query_nms_iou=null", "model.query_nms_iou=0.5"])
def test_an_image_with_fewer_tokens_than_queries_is_not_changed_by_padding(
    override: str, tiny_config: Any, make_model: Any
) -> None:
    model = make_model(tiny_config("model.num_queries=100", override))
    images = random_images([(32, 32), (40, 20), (128, 128)])
    alone = [predict(model, [image])[0] for image in images]
    for (logits, boxes), (wanted_logits, wanted_boxes) in zip(predict(model, images), alone, strict=True):
        found, wanted = logits.flatten().topk(50).values, wanted_logits.flatten().topk(50).values
        torch.testing.assert_close(found, wanted, **TOLERANCE)
        kept = min(len(boxes), len(wanted_boxes), 50)
        torch.testing.assert_close(boxes[:kept], wanted_boxes[:kept], **TOLERANCE)


def test_the_order_of_a_batch_changes_no_prediction(tiny_config: Any, make_model: Any) -> None:
    model, images = make_model(tiny_config()), random_images(SIZES)
    assert_same(predict(model, images[::-1])[::-1], predict(model, images))


def test_garbage_under_padding_changes_no_prediction(tiny_config: Any, make_model: Any) -> None:
    model = make_model(tiny_config())
    images, masks = as_batch(random_images(SIZES))
    garbage = torch.where(masks.unsqueeze(1), torch.randint_like(images, 256), images)
    with torch.no_grad():
        clean, dirty = model(images, masks), model(garbage, masks)
    assert torch.equal(clean["pred_logits"], dirty["pred_logits"])
    assert torch.equal(clean["pred_boxes"], dirty["pred_boxes"])


def test_images_may_be_bytes_or_floats(tiny_config: Any, make_model: Any) -> None:
    model, (image,) = make_model(tiny_config()), random_images([(64, 64)])
    with torch.no_grad():
        as_bytes, as_floats = model(image[None]), model(image[None] / 255)
    assert torch.equal(as_bytes["pred_logits"], as_floats["pred_logits"])


def test_predictions_depend_on_the_image(tiny_config: Any, make_model: Any) -> None:
    model = make_model(tiny_config())
    (first, _), (second, _) = predict(model, random_images([(64, 64), (64, 64)]))
    assert (first - second).abs().max() > 1e-2


def test_targets_change_nothing_of_the_main_branch(tiny_config: Any, make_model: Any, random_target: Any) -> None:
    model, images = make_model(tiny_config()), torch.stack(random_images([(64, 64)] * 2))
    with torch.no_grad():
        plain, trained = model(images), model(images, None, [random_target(5, 0), random_target(0)])
    for name in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(plain[name], trained[name])
        torch.testing.assert_close(plain["aux_outputs"][name], trained["aux_outputs"][name])
    assert not {"denoising_outputs", "mined_outputs", "dense_outputs"} & plain.keys()


def backward(config: Any, model: Any, images: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    model.train()
    with autocast(config, torch.device("cpu")):
        outputs = model(images, None, targets)
    losses = build_criterion(config.loss)(outputs, targets)
    total_loss(losses, config.loss).backward()
    return losses


@pytest.mark.parametrize("counts", [(5, 0), (0, 0)])
@pytest.mark.parametrize("supervision", ["one_to_one", "mined"])
def test_every_parameter_gets_a_gradient(
    counts: tuple[int, int], supervision: str, tiny_config: Any, make_model: Any, random_target: Any
) -> None:
    config = tiny_config(f"loss.encoder_supervision={supervision}")
    model, images = make_model(config), torch.stack(random_images([(64, 64)] * 2))
    losses = backward(config, model, images, [random_target(count, i) for i, count in enumerate(counts)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    parameters = dict(model.named_parameters())
    assert [name for name, p in parameters.items() if p.grad is None] == []
    assert [name for name, p in parameters.items() if not p.grad.isfinite().all()] == []
    if any(counts):
        silent = {name.rpartition(".")[0] for name, p in parameters.items() if not p.grad.any()}
        assert silent <= {"denoising.label_embedding"}


SWITCHES: list[tuple[tuple[str, ...], Any]] = [
    (("model.encoder=full",), lambda model, losses: isinstance(model.encoder, FullEncoder)),
    (("model.encoder=sae",), lambda model, losses: isinstance(model.encoder, ScaleAwareEncoder)),
    (("model.refinement.low_level_share=0.3",), lambda model, losses: "loss_salience" in losses),
    (("model.query_nms_iou=0.7",), lambda model, losses: model.query_selection.query_nms_iou == 0.7),
    (("model.bifpn.repeats=0",), lambda model, losses: len(model.bifpn.layers) == 0),
    (("model.bifpn.repeats=2",), lambda model, losses: len(model.bifpn.layers) == 2),
    (
        ("model.iou_aware_head.enabled=false",),
        lambda model, losses: not any(name.endswith(("_mined", "_dense")) for name in losses),
    ),
    (("model.denoising.enabled=false",), lambda model, losses: not any(name.endswith("_dn") for name in losses)),
    (("loss.mining.threshold=fixed",), lambda model, losses: not model.iou_aware_head.miner.threshold.dynamic),
    (("loss.mining.candidates=anchors",), lambda model, losses: not model.iou_aware_head.miner.refined),
    (("loss.encoder_supervision=mined",), lambda model, losses: "loss_class_enc" in losses),
    (("loss.classification=matchability_aware",), lambda model, losses: "loss_class" in losses),
    (("train.precision=bfloat16",), lambda model, losses: "loss_class" in losses),
    (
        ("model.iou_aware_head.enabled=false", "model.denoising.enabled=false", "model.bifpn.repeats=0"),
        lambda model, losses: {name.rpartition("_")[2] for name in losses} == {"class", "bbox", "giou", "enc", "0"},
    ),
]


@pytest.mark.parametrize(("overrides", "does_it"), SWITCHES, ids=[" ".join(names) for names, _ in SWITCHES])
def test_each_switch_does_what_it_says_and_trains(
    overrides: tuple[str, ...], does_it: Any, tiny_config: Any, make_model: Any, random_target: Any
) -> None:
    config = tiny_config(*overrides)
    model = make_model(config)
    losses = backward(config, model, torch.stack(random_images([(64, 64)])), [random_target(5)])
    assert does_it(model, losses)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_papers_model_has_at_most_60_million_parameters() -> None:
    config = make_config({"model": {"backbone": {"weights": "none", "frozen_batch_norm": False}}})
    assert sum(parameter.numel() for parameter in build_model(config, 10).parameters()) <= 60e6


@pytest.mark.slow
def test_2000_objects_in_one_image_train(tiny_config: Any, make_model: Any, random_target: Any) -> None:
    config = tiny_config("model.num_queries=300", "model.denoising.max_queries=200", "loss.one_to_many.max_queries=300")
    model = make_model(config)
    (image,) = random_images([(800, 800)])
    losses = backward(config, model, image[None], [random_target(2000, size=(800, 800))])
    assert all(torch.isfinite(loss) for loss in losses.values())
