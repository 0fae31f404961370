"""The whole configuration and the rules between its sections."""

from __future__ import annotations

from typing import Annotated, Self

import yaml
from pydantic import Field, model_validator

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.data import DataConfig
from mrqm.config.sections.evaluation import EvaluationConfig
from mrqm.config.sections.loss import LossConfig
from mrqm.config.sections.model import ModelConfig
from mrqm.config.sections.scaling import ScalingConfig
from mrqm.config.sections.section import Section
from mrqm.config.sections.tracking import TrackingConfig
from mrqm.config.sections.training import OptimConfig, TrainConfig


class Config(Section):
    """Complete and valid configuration of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), Roles(Role.RUNTIME, Role.SHARED)] = "mrqm"
    """Name of the run; a run of the same name is resumed."""
    output_dir: Annotated[str, Roles(Role.RUNTIME, Role.SHARED), RenamedFrom("output")] = "runs"
    """Folder, or a URI such as s3://bucket/runs, in which each run has a folder for checkpoints and pictures."""
    model: Annotated[ModelConfig, Roles(Role.INFERENCE)] = ModelConfig()
    loss: Annotated[LossConfig, Roles(Role.SCHEDULABLE)] = LossConfig()
    data: DataConfig = DataConfig()
    optim: Annotated[OptimConfig, Roles(Role.SCHEDULABLE)] = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluation: Annotated[EvaluationConfig, Roles(Role.INFERENCE)] = EvaluationConfig()
    scaling: Annotated[ScalingConfig, Roles(Role.RUNTIME, Role.SHARED)] = ScalingConfig()
    tracking: Annotated[TrackingConfig, Roles(Role.RUNTIME, Role.SHARED)] = TrackingConfig()

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        workers, steps, batch_size = (
            self.scaling.num_workers,
            self.train.gradient_accumulation_steps,
            self.train.batch_size,
        )
        if self.train.batch_size_per_worker is not None:
            self._require_fixed_batch(self.train.batch_size_per_worker)
            return self
        if isinstance(workers, int) and batch_size % (workers * steps):
            raise ValueError(
                f"train.batch_size={batch_size} must be a multiple of scaling.num_workers × "
                f"train.gradient_accumulation_steps = {workers} × {steps} = {workers * steps}"
            )
        if batch_size % steps or batch_size // steps < self.scaling.max_workers:
            raise ValueError(
                f"train.batch_size={batch_size} must be a multiple of train.gradient_accumulation_steps={steps}, with "
                f"at least one image per accumulation step for each of up to {self.scaling.max_workers} workers "
                "(scaling.num_workers)"
            )
        return self

    def _require_fixed_batch(self, per_worker: int) -> None:
        workers, steps = self.scaling.num_workers, self.train.gradient_accumulation_steps
        if not isinstance(workers, int):
            raise ValueError(
                f"train.batch_size_per_worker={per_worker} needs a fixed number of workers, as the batch and its "
                f"learning rate depend on it; set scaling.num_workers={self.scaling.max_workers} or "
                "train.batch_size_per_worker=null"
            )
        if per_worker % steps:
            raise ValueError(
                f"train.batch_size_per_worker={per_worker} must be a multiple of "
                f"train.gradient_accumulation_steps={steps}"
            )

    @model_validator(mode="after")
    def _mined_supervision_has_miner(self) -> Self:
        if self.loss.encoder_supervision == "mined" and not self.model.iou_aware_head.enabled:
            raise ValueError(
                "loss.encoder_supervision=mined needs the mined anchors of the IoU-aware head; "
                "set model.iou_aware_head.enabled=true or loss.encoder_supervision=one_to_one"
            )
        return self

    @model_validator(mode="after")
    def _weights_have_one_source(self) -> Self:
        if self.model.init is not None and self.train.resume not in ("auto", "never"):
            raise ValueError(
                f"train.resume={self.train.resume} goes on with that training, model.init={self.model.init} starts a "
                "new one from trained weights; set one of them"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_evaluations(self) -> Self:
        train = self.train
        if train.patience is None:
            return self
        if train.evaluate_every >= train.epochs:
            raise ValueError(
                f"train.patience={train.patience} counts evaluations, and train.evaluate_every={train.evaluate_every} "
                f"leaves the one after the last of train.epochs={train.epochs}; lower train.evaluate_every, or set "
                "train.patience=null"
            )
        if self.evaluation.asynchronous:
            raise ValueError(
                f"train.patience={train.patience} needs the score before the next epoch begins; set "
                "evaluation.asynchronous=false or train.patience=null"
            )
        return self

    @property
    def micro_batch_size(self) -> int:
        """Images in one forward pass of one worker; the largest number if workers get different numbers."""
        if self.train.batch_size_per_worker is not None:
            return self.train.batch_size_per_worker // self.train.gradient_accumulation_steps
        return -(-self.train.batch_size // (self.scaling.min_workers * self.train.gradient_accumulation_steps))

    def with_classes(self, classes: tuple[str, ...] | None) -> Config:
        """Copy the configuration with other class names, in label order."""
        return self.model_copy(update={"data": self.data.model_copy(update={"classes": classes})})

    def to_yaml(self) -> str:
        """Write the resolved configuration with every key."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
