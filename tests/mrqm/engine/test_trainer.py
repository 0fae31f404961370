"""Training: it learns, repeats exactly, resumes, stops at its time limit and keeps the averaged weights."""

from __future__ import annotations

import itertools
import math
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import mrqm
from mrqm.engine import loops as engine
from mrqm.engine import progress
from mrqm.engine.divergence import Divergence, replay
from mrqm.engine.progress import DivergenceError
from mrqm.engine.trainer import Trainer
from mrqm.ops.distributed import unwrap
from mrqm.structures.step_report import StepReport

CPU = torch.device("cpu")


@pytest.fixture
def config(squares: Any, tiny_config: Any) -> Any:
    """Tiny configuration of four images of squares; takes overrides."""
    root = squares(images=4, side=64, objects=3)
    data = (f"data.root={root}", "data.classes=[blue, yellow]")
    return lambda *overrides: tiny_config(*data, *overrides)


EVERY_AUGMENTATION = (
    "data.augment={vertical_flip: 0.5, quarter_turns: 0.5, scale_jitter: [0.8, 1.25], color_jitter: 0.3, "
    "grayscale: 0.3, blur: 0.3, noise: 0.3, jpeg: 0.3, mosaic: 0.6, mixup: 0.4, copy_paste: {probability: 0.7}, "
    "until: 0.8}",
    "data.tile={size: 64, overlap: 16}",
)


def run(trainer: Trainer) -> list[dict[str, float]]:
    """Train to the end and return the losses of every step."""
    losses: list[dict[str, float]] = []
    while not trainer.finished:
        trainer.train_epoch(lambda report: losses.append(report.losses))
    return losses


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return unwrap(trainer.state.model).state_dict()


def make_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let every reading of the training's clock advance it by a fixed time."""
    clock = itertools.count(0, seconds)
    monkeypatch.setattr(engine.time, "perf_counter", lambda: float(next(clock)))


@pytest.mark.slow
def test_two_images_are_overfitted(overfitting: Any) -> None:
    trainer = Trainer(overfitting(), CPU)
    run(trainer)
    assert trainer.evaluate()["coco/AP"] > 0.9


def test_the_same_seed_gives_the_same_run(config: Any) -> None:
    first, second, other = (run(Trainer(config(f"train.seed={seed}"), CPU)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_a_resumed_run_repeats_the_uninterrupted_one_exactly(config: Any, tmp_path: Path) -> None:
    whole = Trainer(config("optim.lr_scheduler=cosine", "optim.warmup_steps=3"), CPU)
    losses = run(whole)
    interrupted = Trainer(whole.config, CPU)
    interrupted.train_epoch()
    interrupted.save(tmp_path / "checkpoint", {})
    resumed = Trainer(whole.config, CPU)
    resumed.load(tmp_path / "checkpoint")
    assert (resumed.epoch, resumed.step) == (1, 2)
    assert run(resumed) == losses[2:]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), f"average of {name}"


@pytest.mark.parametrize("stopped_at", [1, 3])
def test_a_run_resumed_within_an_epoch_repeats_the_uninterrupted_one_exactly(
    config: Any, tmp_path: Path, stopped_at: int
) -> None:
    options = (
        "optim.lr_scheduler=cosine",
        *EVERY_AUGMENTATION,
        "optim.ema_decay=0.9",
        "train.batch_size=1",
    )
    whole, means = Trainer(config(*options), CPU), []
    losses: list[dict[str, float]] = []
    while not whole.finished:
        means.append(whole.train_epoch(lambda report: losses.append(report.losses)))

    class Stopped(Exception):
        pass

    interrupted = Trainer(whole.config, CPU)

    def stop(report: StepReport) -> None:
        if report.step == stopped_at:
            interrupted.save(tmp_path / "checkpoint", {})
            raise Stopped

    with pytest.raises(Stopped):
        interrupted.train_epoch(stop)
    resumed, again = Trainer(whole.config, CPU), list[StepReport]()
    resumed.load(tmp_path / "checkpoint")
    assert resumed.train_epoch(again.append) == means[0]
    assert [(r.epoch, r.epoch_step) for r in again] == [(1, step) for step in range(stopped_at + 1, 5)]
    assert [r.losses for r in again] + run(resumed) == losses[stopped_at:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), f"average of {name}"


def final_draws(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Train to the end, and tell of each image whether it was read as of the final part."""
    read, data = [], type(trainer.train_loader.data)
    take = data.__getitem__
    monkeypatch.setattr(data, "__getitem__", lambda self, draw: read.append(draw) or take(self, draw))
    run(trainer)
    return [draw.final for draw in read]


def test_the_final_part_begins_at_its_share_of_the_steps(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(config("data.augment.until=0.6", "train.batch_size=1"), CPU)
    assert final_draws(trainer, monkeypatch) == [False] * 5 + [True] * 3, "2 epochs of 4 images"


def test_the_final_part_begins_at_its_share_of_the_time_limit(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clock(monkeypatch, 6.0)
    options = ("train.epochs=100", "train.max_minutes=0.5", "data.augment.until=0.5", "train.batch_size=1")
    final = final_draws(Trainer(config(*options), CPU), monkeypatch)
    assert final == [False] * 3 + [True] * 2, "5 steps of six seconds each"


def test_epochs_see_the_data_in_different_orders(config: Any) -> None:
    losses = run(
        Trainer(config("optim.lr=1e-12", "data.augment.horizontal_flip=0", "model.denoising.enabled=false"), CPU)
    )
    assert [step["loss"] for step in losses[:2]] != pytest.approx([step["loss"] for step in losses[2:]], rel=1e-6)


def test_reports_say_where_the_training_is(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clock(monkeypatch, 1.0)
    trainer, reports = Trainer(config(), CPU), list[StepReport]()
    means = trainer.train_epoch(reports.append)
    trainer.train_epoch(reports.append)
    assert [(r.epoch, r.step, r.epoch_step) for r in reports] == [(1, 1, 1), (1, 2, 2), (2, 3, 1), (2, 4, 2)]
    assert {(r.epochs, r.epoch_steps) for r in reports} == {(2, 2)}
    assert [r.images_seen for r in reports] == [2, 4, 6, 8]
    assert [r.elapsed_seconds for r in reports] == [1, 2, 3, 4]
    assert [r.images_per_second for r in reports] == [2, 2, 2, 2]
    assert [r.eta_seconds for r in reports] == pytest.approx([3, 2, 1, 0])
    assert means["loss"] == pytest.approx((reports[0].losses["loss"] + reports[1].losses["loss"]) / 2)


def test_the_time_limit_stops_the_training_and_the_schedule_ends_then(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clock(monkeypatch, 6.0)
    trainer = Trainer(config("train.epochs=100", "train.max_minutes=0.5", "optim.lr_scheduler=cosine"), CPU)
    reports: list[StepReport] = []
    while not trainer.finished:
        trainer.train_epoch(reports.append)
    assert len(reports) == 5  # of six seconds each
    cosine = [0.01 + 0.99 * (1 + math.cos(math.pi * done / 5)) / 2 for done in range(5)]
    assert [r.lr for r in reports] == pytest.approx([1e-3 * factor for factor in cosine])


def test_a_resumed_run_counts_the_time_before(config: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_clock(monkeypatch, 6.0)
    trainer = Trainer(config("train.epochs=100", "train.max_minutes=0.5"), CPU)
    trainer.train_epoch()
    trainer.save(tmp_path / "checkpoint", {})
    resumed = Trainer(trainer.config, CPU)
    resumed.load(tmp_path / "checkpoint")
    assert len(run(resumed)) == 3


def test_the_averaged_weights_are_evaluated_and_kept(config: Any, tmp_path: Path) -> None:
    trainer = Trainer(config("optim.ema_decay=0.9"), CPU)
    run(trainer)
    raw, averaged = weights(trainer), trainer.model.state_dict()
    assert any(not torch.equal(raw[name], averaged[name]) for name in raw)
    trainer.save(tmp_path / "checkpoint", trainer.evaluate())
    loaded = mrqm.load(tmp_path / "checkpoint").model.state_dict()
    assert all(torch.equal(loaded[name], averaged[name]) for name in averaged)
    stored = Trainer(trainer.config, CPU)
    stored.load(tmp_path / "checkpoint")
    assert all(torch.equal(stored.model.state_dict()[name], averaged[name]) for name in averaged)


def test_without_average_the_weights_themselves_are_kept(config: Any) -> None:
    trainer = Trainer(config("optim.ema_decay=0"), CPU)
    trainer.train_epoch()
    assert all(value is weights(trainer)[name] or torch.equal(value, weights(trainer)[name])
               for name, value in trainer.model.state_dict().items())  # fmt: skip


def test_a_step_in_bfloat16_works(config: Any) -> None:
    losses = run(Trainer(config("train.precision=bfloat16", "train.epochs=1"), CPU))
    assert all(math.isfinite(step["loss"]) for step in losses)


def break_at(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, *steps: int, gradient: bool = False, factor: float = math.nan
) -> None:
    """Make the loss, or only the gradient, of given steps NaN, or multiply the loss."""
    criterion, calls = trainer.state.criterion.forward, itertools.count(1)

    def broken(outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = criterion(outputs, targets)
        if next(calls) not in steps:
            return losses
        if gradient:
            losses["loss_bbox"].register_hook(lambda grad: grad * math.nan)
            return losses
        return {**losses, "loss_class": losses["loss_class"] * factor}

    monkeypatch.setattr(trainer.state.criterion, "forward", broken)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_step(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(config(f"output_dir={tmp_path}"), CPU)
    break_at(trainer, monkeypatch, 2)
    with pytest.raises(
        DivergenceError, match=r"(?s)step 2: loss, loss_class not finite; .*mrqm replay.*optim\.lr=0\.001"
    ):
        trainer.train_epoch()
    assert (tmp_path / "tiny" / "nonfinite_steps" / "step_000002" / "rank_0" / "divergence.json").is_file()


@pytest.mark.parametrize("gradient", [False, True])
def test_steps_without_a_finite_loss_and_gradient_are_skipped_where_that_is_configured(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient: bool
) -> None:
    trainer = Trainer(config(f"output_dir={tmp_path}", "train.on_divergence=skip", "train.batch_size=1"), CPU)
    break_at(trainer, monkeypatch, 2, gradient=gradient)
    reports: list[StepReport] = []
    means = trainer.train_epoch(reports.append)
    assert [report.step for report in reports] == [1, 3, 4]
    assert trainer.progress.skipped == 1
    assert means["loss"] == pytest.approx(sum(report.losses["loss"] for report in reports) / 3)
    assert all(value.isfinite().all() for value in weights(trainer).values())


def test_too_many_skipped_steps_stop_the_run(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("train.on_divergence=skip", "train.max_skipped=1", "train.batch_size=1")
    trainer = Trainer(config(f"output_dir={tmp_path}", *options), CPU)
    break_at(trainer, monkeypatch, 1, 3)
    with pytest.raises(DivergenceError, match=r"(?s)step 3: .*skipped so far: 1"):
        trainer.train_epoch()


def test_a_loss_that_explodes_is_kept_and_changes_nothing(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "RECENT", 2)
    trainer = Trainer(config(f"output_dir={tmp_path}", "train.on_divergence=skip", "train.batch_size=1"), CPU)
    break_at(trainer, monkeypatch, 1, 4, factor=1e5)  # before the first nobody knows what is usual
    reports, divergences = list[StepReport](), list[tuple[Divergence, Path]]()
    trainer.train_epoch(reports.append, lambda divergence, folder: divergences.append((divergence, folder)))
    assert [report.step for report in reports] == [1, 2, 3]
    ((divergence, folder),) = divergences
    assert (divergence.step, folder) == (4, tmp_path / "tiny" / "nonfinite_steps" / "step_000004")
    assert divergence.median_loss == pytest.approx(sum(report.losses["loss"] for report in reports[1:]) / 2)
    assert divergence.losses["loss"] > 100 * divergence.median_loss
    assert divergence.what == f"the loss is {divergence.losses['loss']:.4g}, usually {divergence.median_loss:.4g}"
    assert trainer.progress.recent_losses == [report.losses["loss"] for report in reports[1:]]
    again = replay(folder / "rank_0", CPU)
    assert again.divergence == divergence
    for name in ("loss_bbox", "loss_giou"):
        assert again.losses[name] == pytest.approx(divergence.losses[name])


def test_a_loss_that_explodes_stops_the_run_with_what_is_usual(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "RECENT", 2)
    trainer = Trainer(config(f"output_dir={tmp_path}", "train.batch_size=1"), CPU)
    break_at(trainer, monkeypatch, 3, factor=1e5)
    with pytest.raises(DivergenceError, match=r"(?s)step 3: the loss is .*usually .*train\.loss_spike_factor=100\.0"):
        trainer.train_epoch()


def test_how_high_a_loss_may_be_is_configured(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "RECENT", 2)
    trainer = Trainer(config("train.loss_spike_factor=null", "train.batch_size=1"), CPU)
    break_at(trainer, monkeypatch, 3, factor=1e5)
    reports: list[StepReport] = []
    trainer.train_epoch(reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4]


def test_accumulated_parts_make_one_step(config: Any) -> None:
    trainer = Trainer(config("train.batch_size=4", "train.gradient_accumulation_steps=2", "train.epochs=1"), CPU)
    reports: list[StepReport] = []
    trainer.train_epoch(reports.append)
    assert [(report.step, report.epoch_steps, report.images_seen) for report in reports] == [(1, 1, 4)]


def test_the_picture_shows_validation_images(config: Any) -> None:
    assert isinstance(Trainer(config(), CPU).picture(), Image.Image)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_compiled_model_is_traced_for_no_further_size_of_images_or_number_of_objects(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        traced.append(trainer.step)
        return graph.forward

    traced: list[int] = []
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=count))
    settings = config("model.compile=true", "model.decoder_layers=1", "train.epochs=2", "train.batch_size=1")
    root = settings.data.root
    for split in ("train", "val"):
        for number in range(4):
            path = root / split / "images" / f"{number}.png"
            Image.open(path).crop((0, 0, 64 - 9 * number, 64)).resize((64 + 40 * number, 96)).save(path)
            annotations = root / split / "annotations" / f"{number}.txt"
            annotations.write_text("\n".join(annotations.read_text().splitlines()[:number]))
    trainer = Trainer(settings, CPU)
    losses: list[float] = []
    trainer.train_epoch(lambda report: losses.append(report.losses["loss"]))
    trainer.evaluate()
    once = len(traced)
    assert once > 0
    trainer.train_epoch(lambda report: losses.append(report.losses["loss"]))
    trainer.evaluate()
    assert len(traced) == once
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize(
    ("scores", "epochs"),
    [
        ([0.1, 0.2, 0.2, 0.1, 0.3], 4),  # an equal score is no gain
        ([0.1, 0.2, 0.1, 0.3, 0.2, 0.3, 0.9], 6),
        ([math.nan, math.nan, math.nan], 3),
        ([0.1, math.nan, 0.2, 0.3], 4),
    ],
)
def test_a_training_without_gain_stops_when_its_patience_ends(
    scores: list[float], epochs: int, config: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = iter(scores)
    monkeypatch.setattr("mrqm.engine.trainer.evaluate", lambda *_: {"AP": next(given)})
    settings = config("train.patience=2", f"train.epochs={len(scores)}", "data.max_side=32")
    trainer = Trainer(settings, CPU)
    while not trainer.finished:
        assert trainer.stop_reason == ""
        trainer.train_epoch()
        trainer.evaluate()
    assert trainer.epoch == epochs
    reason = f"stopped after epoch {epochs} of {len(scores)}: 2 evaluations without a higher AP (train.patience=2)"
    assert trainer.stop_reason == (reason if epochs < len(scores) or math.isnan(scores[-1]) else "")
    trainer.save(tmp_path / "checkpoint", {})
    resumed = Trainer(settings, CPU)
    resumed.load(tmp_path / "checkpoint")
    assert (resumed.finished, resumed.stop_reason) == (True, trainer.stop_reason)


def test_an_initialised_training_begins_with_the_ancestors_weights_and_a_fresh_state(
    config: Any, tmp_path: Path
) -> None:
    parent = Trainer(config("train.epochs=1"), CPU)
    run(parent)
    parent.save(tmp_path / "parent", {})
    child = Trainer(config(f"model.init={tmp_path / 'parent'}", "data.classes=[yellow, red, blue]"), CPU)
    assert child.initialization is not None
    assert child.initialization.describe() == "2 of 3 classes matched; new: red"
    assert (child.epoch, child.step, child.state.optimizer.state_dict()["state"]) == (0, 0, {})
    old, new, averaged = (one.state_dict() for one in (parent.model, unwrap(child.state.model), child.model))
    for name, value in new.items():
        assert torch.equal(value, averaged[name]), name
        assert value.shape != old[name].shape or torch.equal(value, old[name]), name
    assert torch.equal(new["decoder.class_head.weight"][[0, 2]], old["decoder.class_head.weight"][[1, 0]])


def test_a_training_takes_the_batch_of_all_its_workers_and_the_rate_that_belongs_to_it(config: Any) -> None:
    trainer = Trainer(config("train.batch_size=1", "train.batch_size_per_worker=4", "optim.lr=1e-3"), CPU)
    assert trainer.config.train.batch_size == len(next(iter(trainer.train_loader))[0]) == 4
    assert max(group["lr"] for group in trainer.state.optimizer.param_groups) == pytest.approx(2e-3)
