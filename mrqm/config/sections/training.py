"""How the detector learns: optimizer, schedule, epochs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.section import Count, CountOrZero, Fraction, NonNegative, Positive, Section

SpikeFactor = Annotated[float, Field(gt=1, allow_inf_nan=False)]


class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: Positive = 2e-4
    """Peak learning rate."""
    backbone_lr_factor: NonNegative = 0.1
    """Learning rate of the backbone as a share of lr; 0 freezes it."""
    weight_decay: Annotated[NonNegative, Roles()] = 1e-4
    """Decoupled weight decay; none on norms, biases and embeddings."""
    max_grad_norm: Annotated[Positive, RenamedFrom("optim.clip_norm")] = 0.1
    """Gradients are clipped to this norm."""
    lr_scheduler: Annotated[Literal["step", "cosine"], RenamedFrom("optim.schedule")] = "step"
    """`step`: divided by 10 at `step_at`; `cosine`: down to lr/100 at the end."""
    step_at: Fraction = 11 / 12
    """Share of the training after which the step schedule drops."""
    warmup_steps: CountOrZero = 500
    """Optimizer steps of linear warm-up."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9997
    """Decay of the exponential moving average of the weights that is evaluated and kept; 0 keeps none."""


class TrainConfig(Section):
    """How long and in what portions."""

    epochs: Count = 12
    """Passes over the training data."""
    max_minutes: Annotated[Positive | None, Roles(Role.SHARED)] = None
    """Stop after this much training; the schedule then ends at that moment instead of at the last epoch."""
    batch_size: Count = 2
    """Images per optimizer step over all workers and accumulated parts together."""
    gradient_accumulation_steps: Annotated[Count, RenamedFrom("train.accumulate")] = 1
    """Parts in which a worker computes its share of a step, to save memory."""
    precision: Annotated[Literal["float32", "bfloat16"], Roles(Role.INFERENCE)] = "float32"
    """`bfloat16`: autocast on CPU and GPU."""
    seed: CountOrZero = 0
    """Seed of initialisation, sampling, augmentation and noise."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    resume: Annotated[str, Roles(Role.RUNTIME, Role.SHARED)] = "auto"
    """`auto` continues the run of this name, `never` refuses to; a checkpoint or run (its best one) is resumed."""
    on_divergence: Annotated[Literal["stop", "skip"], Roles(Role.RUNTIME)] = "stop"
    """A step whose loss or gradient is not finite is kept (`mrqm replay`); the run stops, or goes on without it."""
    loss_spike_factor: Annotated[SpikeFactor | None, Roles(Role.RUNTIME), RenamedFrom("train.explosion_factor")] = 100.0
    """The same becomes of a loss above so many times the median of the last 100 steps; null: none is too high."""
    max_skipped: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 10
    """Steps of a run that `on_divergence=skip` may leave out."""
    num_checkpoints_to_keep: Annotated[Count, Roles(Role.RUNTIME, Role.SHARED), RenamedFrom("keep_checkpoints")] = 2
    """Checkpoints of a run that are kept: the best ones, and always the latest."""
    checkpoint_minutes: Annotated[Positive | None, Roles(Role.RUNTIME, Role.SHARED)] = 15.0
    """Minutes of training between checkpoints within an epoch, beside those after each; null: none."""
