"""The whole configuration, and what its sections have to agree on."""

from __future__ import annotations

from typing import Self

import yaml
from pydantic import Field, model_validator

from mrqm.config.sections.data import DataConfig
from mrqm.config.sections.evaluation import EvaluationConfig
from mrqm.config.sections.loss import LossConfig
from mrqm.config.sections.model import ModelConfig
from mrqm.config.sections.scaling import ScalingConfig
from mrqm.config.sections.section import Section
from mrqm.config.sections.tracking import TrackingConfig
from mrqm.config.sections.training import OptimConfig, TrainConfig


class Config(Section):
    """A complete, valid configuration of a run."""

    name: str = Field(default="mrqm", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; the same name continues the same run."""
    output_dir: str = "runs"
    """Folder, or a URI such as s3://bucket/runs, under which runs keep their checkpoints and pictures."""
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    scaling: ScalingConfig = ScalingConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        workers, steps, batch_size = (
            self.scaling.num_workers,
            self.train.gradient_accumulation_steps,
            self.train.batch_size,
        )
        if isinstance(workers, int) and batch_size % (workers * steps):
            raise ValueError(
                f"train.batch_size={batch_size} must be a multiple of scaling.num_workers × "
                f"train.gradient_accumulation_steps = {workers} × {steps} = {workers * steps}"
            )
        if batch_size % steps or batch_size // steps < self.scaling.max_workers:
            raise ValueError(
                f"train.batch_size={batch_size} must be a multiple of train.gradient_accumulation_steps={steps}, and of "
                f"each part every one of at most {self.scaling.max_workers} workers (scaling.num_workers) must get an "
                "image"
            )
        return self

    @model_validator(mode="after")
    def _mined_supervision_has_miner(self) -> Self:
        if self.loss.encoder_supervision == "mined" and not self.model.iou_aware_head.enabled:
            raise ValueError(
                "loss.encoder_supervision=mined needs the mined anchors of the IoU-aware head; "
                "set model.iou_aware_head.enabled=true or loss.encoder_supervision=one_to_one"
            )
        return self

    @property
    def micro_batch_size(self) -> int:
        """Images in one forward pass of one worker, the most where workers get unequally many."""
        return -(-self.train.batch_size // (self.scaling.min_workers * self.train.gradient_accumulation_steps))

    def with_classes(self, classes: tuple[str, ...] | None) -> Config:
        """The same with other class names in label order."""
        return self.model_copy(update={"data": self.data.model_copy(update={"classes": classes})})

    def to_yaml(self) -> str:
        """The resolved configuration, every key spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
