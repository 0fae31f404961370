"""Computation on a GPU against the CPU; skipped where PyTorch finds no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mrqm
from mrqm.config import Config
from mrqm.engine.memory import HeaviestBatch, build_train_state, make_batch, predict_step_memory
from mrqm.engine.trainer import Trainer
from mrqm.losses.criterion import build_criterion, total_loss
from mrqm.models.mrqm import MRQM

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")

CPU, GPU = torch.device("cpu"), torch.device("cuda")
CLASSES = 3


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute convolutions in float32 as on the CPU, not in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def training(squares: Any, tiny_config: Any) -> Any:
    """Tiny training on squares; takes overrides."""
    root = squares(images=4, side=64, objects=3)
    return lambda *overrides: tiny_config(f"data.root={root}", "data.classes=[blue, yellow]", *overrides)


def learn(model: MRQM, config: Config, targets: list[dict[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    """Return losses and gradients of one batch, in host memory."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(targets), 3, 64, 64), dtype=torch.uint8, generator=random)
    model = model.to(device).train()
    model.zero_grad()
    moved = [{name: value.to(device) for name, value in target.items()} for target in targets]
    losses = build_criterion(config.loss)(model(images.to(device), None, moved), moved)
    total_loss(losses, config.loss).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: value.detach().cpu() for name, value in (losses | gradients).items()}


def run(trainer: Trainer) -> list[float]:
    losses: list[float] = []
    while not trainer.finished:
        trainer.train_epoch(lambda report: losses.append(report.losses["loss"]))
    return losses


def test_a_gpu_finds_what_the_processor_finds(tiny_config: Any, make_model: Any) -> None:
    model, images = make_model(tiny_config()), torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    masks = torch.zeros(2, 96, 64, dtype=torch.bool)
    masks[1, 70:] = masks[1, :, 40:] = True
    with torch.inference_mode():
        expected = model(images, masks)
        found = model.to(GPU)(images.to(GPU), masks.to(GPU))
    for name in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(found[name].cpu(), expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("counts", [(3, 5), (4, 0), (0, 0)], ids=["objects", "one image without", "none"])
def test_a_gpu_learns_what_the_processor_learns(
    tiny_config: Any, make_model: Any, random_target: Any, counts: tuple[int, int]
) -> None:
    config = tiny_config("model.denoising.label_noise=0", "model.denoising.box_noise=0")
    model, targets = make_model(config), [random_target(count, seed) for seed, count in enumerate(counts)]
    expected, found = learn(model, config, targets, CPU), learn(model, config, targets, GPU)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-3).item()
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-3 * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("train.precision=bfloat16",)], ids=["float32", "bfloat16"])
def test_two_images_are_overfitted(overfitting: Any, options: tuple[str, ...]) -> None:
    trainer = Trainer(overfitting(*options), GPU)
    run(trainer)
    assert trainer.evaluate()["coco/AP"] > 0.9


@pytest.mark.slow
def test_a_compiled_model_learns_what_it_learns_uncompiled(training: Any) -> None:
    eager, compiled = (run(Trainer(training(f"model.compile={compile_}"), GPU)) for compile_ in ("false", "true"))
    assert compiled == pytest.approx(eager, rel=1e-2)


def test_a_resumed_run_goes_on_as_the_uninterrupted_one(training: Any, tmp_path: Path) -> None:
    whole, losses = Trainer(training("train.batch_size=1"), GPU), list[float]()
    while not whole.finished:
        whole.train_epoch(lambda report: losses.append(report.losses["loss"]))
        if whole.epoch == 1:
            whole.save(tmp_path / "checkpoint", {})
    resumed = Trainer(whole.config, GPU)
    resumed.load(tmp_path / "checkpoint")
    assert run(resumed) == pytest.approx(losses[4:], rel=1e-3)


def test_the_processor_reads_a_checkpoint_of_a_gpu(training: Any, tmp_path: Path) -> None:
    trainer = Trainer(training(), GPU)
    trainer.train_epoch()
    trainer.save(tmp_path / "checkpoint", {})
    image = trainer.val_data[0][0]
    on_gpu, on_cpu = (mrqm.load(tmp_path / "checkpoint", device)(image) for device in ("cuda", "cpu"))
    for name in ("boxes", "scores"):
        torch.testing.assert_close(on_gpu[name].cpu(), on_cpu[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_takes_nearly_what_is_predicted(tiny_config: Any, precision: str) -> None:
    size, objects = (640, 640), 120
    config = tiny_config("scaling.num_workers=1", "train.batch_size=1", f"train.precision={precision}")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    state, batch = build_train_state(config, CLASSES, GPU), make_batch(objects, size, CLASSES)
    for step in range(2):
        state.backward([batch])
        state.update(step, 0.0)
    predicted = predict_step_memory(config, CLASSES, HeaviestBatch(1, size, objects, padded=False)).total
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(predicted, rel=0.3)
