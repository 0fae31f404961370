"""Predicted memory of a step against the allocator's count of a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mrqm.config import Config
from mrqm.data import build_dataset
from mrqm.engine.memory import HeaviestBatch, build_train_state, heaviest_batch, make_batch, predict_step_memory

TinyConfig = Callable[..., Config]
CLASSES = 3


def measured_peak(config: Config, size: tuple[int, int], objects: int, folder: Path, images: int = 1) -> int:
    """Measure the most bytes that PyTorch holds during the second step, including the model's own."""
    state = build_train_state(config, CLASSES)
    parts = [make_batch(objects, size, CLASSES) for _ in range(images)]
    batch = torch.cat([image for image, _, _ in parts]), None, [target for _, _, targets in parts for target in targets]
    state.backward([batch])
    state.update(0, 0.0)
    model = state.model
    own = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    moments = 2 * sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        state.backward([batch])
        state.update(1, 0.0)
    profile.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    held = max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]")
    return own * (2 if state.ema else 1) + moments + int(held)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("model.num_queries=300", "loss.one_to_many.max_queries=100"),
        ("train.precision=bfloat16",),
        ("optim.ema_decay=0", "model.iou_aware_head.enabled=false"),
        ("model.encoder=full", "model.denoising.enabled=false"),
    ],
    ids=["queries", "bfloat16", "plain", "full"],
)
def test_a_step_takes_nearly_what_is_predicted(
    tiny_config: TinyConfig, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    config = tiny_config("scaling.num_workers=1", "train.batch_size=1", *overrides)
    size, objects = (320, 448), 120
    predicted = predict_step_memory(config, CLASSES, HeaviestBatch(1, size, objects, padded=False)).total
    assert predicted == pytest.approx(measured_peak(config, size, objects, tmp_path), rel=0.2)


@pytest.mark.slow
def test_images_of_a_batch_add_up(tiny_config: TinyConfig, tmp_path: Path) -> None:
    config = tiny_config("train.batch_size=3")
    predicted = predict_step_memory(config, CLASSES, HeaviestBatch(3, (256, 256), 30, padded=False)).total
    assert predicted == pytest.approx(measured_peak(config, (256, 256), 30, tmp_path, images=3), rel=0.2)


def test_padding_costs_the_blanked_inputs_of_the_backbone(tiny_config: TinyConfig) -> None:
    config = tiny_config()
    plain, padded = (
        predict_step_memory(config, CLASSES, HeaviestBatch(1, (256, 256), 30, padded=padded)).activations
        for padded in (False, True)
    )
    assert padded > 1.05 * plain


def test_caps_bound_what_objects_cost(tiny_config: TinyConfig) -> None:
    config = tiny_config()
    some, many = (
        predict_step_memory(config, CLASSES, HeaviestBatch(1, (256, 256), objects, padded=False)).activations
        for objects in (100, 1000)
    )
    assert many < 1.15 * some


@pytest.mark.parametrize(
    ("overrides", "size", "padded"),
    [
        (("data.max_side=64",), (64, 64), False),
        (("data.resize={short_side: 128, max_side: 256}",), (128, 128), False),
        (("data.resize={short_side: 128, max_side: 160}", "data.augment.scale_jitter=[1, 2]"), (160, 160), True),
        (("data.max_side=70",), (96, 96), True),
        (("data.tile={size: 64, overlap: 0}",), (64, 64), False),
        (("data.max_side=64", "data.augment.scale_jitter=[0.5, 1]"), (64, 64), True),
        (("data.augment.scale_jitter=[1, 2]",), (192, 192), True),
    ],
)
def test_the_heaviest_batch_is_the_largest_view_with_the_most_objects(
    tiny_config: TinyConfig,
    squares: Callable[..., Path],
    overrides: tuple[str, ...],
    size: tuple[int, int],
    padded: bool,
) -> None:
    config = tiny_config(f"data.root={squares(objects=5)}", "data.classes=[a, b]", *overrides)
    batch = heaviest_batch(config, build_dataset(config, "train"))
    assert (batch.size, batch.padded, batch.images) == (size, padded, 2)
    assert 0 < batch.objects <= 5


@pytest.mark.parametrize(
    ("augment", "most"),
    [
        ("mosaic: 0.5", 4 * 5),
        ("mixup: 0.5", 2 * 5),
        ("copy_paste: {probability: 0.5, max_objects: 3}", 5 + 3),
        ("mosaic: 0.5, mixup: 0.5, copy_paste: {probability: 0.5, max_objects: 3}", 5 * 5 + 3),
    ],
)
def test_the_heaviest_batch_has_as_many_objects_as_joined_images_can_have(
    tiny_config: TinyConfig, squares: Callable[..., Path], augment: str, most: int
) -> None:
    config = tiny_config(f"data.root={squares(objects=5)}", "data.classes=[a, b]", f"data.augment={{{augment}}}")
    data = build_dataset(config, "train")
    assert heaviest_batch(config, data).objects == most
    samples = [data[epoch, index] for epoch in range(30) for index in range(len(data))]
    assert 5 < max(len(sample[1]["labels"]) for sample in samples if sample is not None) <= most
