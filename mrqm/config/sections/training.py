"""Optimizer, learning rate schedule and duration of the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mrqm.config.sections.annotations import RenamedFrom, Role, Roles
from mrqm.config.sections.section import Count, CountOrZero, Fraction, NonNegative, Positive, Section

SpikeFactor = Annotated[float, Field(gt=1, allow_inf_nan=False)]


class OptimConfig(Section):
    """AdamW optimizer and learning rate schedule."""

    lr: Positive = 2e-4
    """Peak learning rate."""
    lr_batch_rule: Literal["sqrt", "linear", "none"] = "sqrt"
    """Factor of lr where train.batch_size_per_worker makes batches of B' instead of train.batch_size = B images: `sqrt`
    is √(B'/B), `linear` is B'/B, `none` is 1; warm-up takes B/B' as many steps.
    """
    backbone_lr_factor: NonNegative = 0.1
    """Learning rate of the backbone as a share of lr; 0 freezes it."""
    weight_decay: Annotated[NonNegative, Roles()] = 1e-4
    """Decoupled weight decay; norms, biases and embeddings have none."""
    max_grad_norm: Annotated[Positive, RenamedFrom("optim.clip_norm")] = 0.1
    """Greatest norm of the gradient; larger gradients are clipped to it."""
    lr_scheduler: Annotated[Literal["step", "cosine", "flat_cosine"], RenamedFrom("optim.schedule")] = "step"
    """Learning rate schedule: `step` divides the rate by 10 at `step_at`; `cosine` lowers it to lr/100 at the end;
    `flat_cosine` does so after `flat_until`.
    """
    step_at: Fraction = 11 / 12
    """Fraction of the training after which the step schedule drops."""
    flat_until: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Fraction of the training after which the flat_cosine schedule falls."""
    warmup_steps: CountOrZero = 500
    """Number of optimizer steps of linear warm-up."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9997
    """Decay of the exponential moving average of the weights, which is evaluated and kept; 0 turns it off."""


class TrainConfig(Section):
    """Duration, batches, precision and checkpoints of the training."""

    epochs: Count = 12
    """Number of passes over the training data."""
    max_minutes: Annotated[Positive | None, Roles(Role.SHARED)] = None
    """Greatest training time in minutes, at which the learning rate schedule then ends; null trains all epochs."""
    batch_size: Count = 2
    """Number of images per optimizer step, over all workers and accumulation steps together."""
    batch_size_per_worker: Count | None = None
    """Number of images per worker and optimizer step, so that the batch grows with scaling.num_workers; optim.lr, which
    is stated for batch_size, follows by optim.lr_batch_rule. null divides batch_size among the workers.
    """
    gradient_accumulation_steps: Annotated[Count, RenamedFrom("train.accumulate")] = 1
    """Number of forward and backward passes in which a worker computes its share of a step, to save memory."""
    precision: Annotated[Literal["float32", "bfloat16"], Roles(Role.INFERENCE)] = "float32"
    """Floating point precision; `bfloat16` uses autocast on CPU and GPU."""
    seed: CountOrZero = 0
    """Seed of initialisation, sampling, augmentation and noise."""
    evaluate_every: Count = 1
    """Number of epochs between evaluations; the last epoch is always evaluated."""
    patience: Count | None = None
    """Number of evaluations without a higher AP after which the training stops; null trains to the end."""
    resume: Annotated[str, Roles(Role.RUNTIME, Role.SHARED)] = "auto"
    """Training state to start from: `auto` resumes the run of this name, `never` refuses to; the path of a checkpoint,
    or of a run (its best checkpoint), resumes from there.
    """
    on_divergence: Annotated[Literal["stop", "skip"], Roles(Role.RUNTIME)] = "stop"
    """Reaction to a step whose loss or gradient is not finite, after saving it for `mrqm replay`: `stop` ends the run,
    `skip` continues without the step.
    """
    loss_spike_factor: Annotated[SpikeFactor | None, Roles(Role.RUNTIME), RenamedFrom("train.explosion_factor")] = 100.0
    """Multiple of the median loss of the last 100 steps above which a loss counts as divergence; null turns it off."""
    max_skipped: Annotated[CountOrZero, Roles(Role.RUNTIME)] = 10
    """Greatest number of steps that `on_divergence=skip` may leave out in a run."""
    num_checkpoints_to_keep: Annotated[Count, Roles(Role.RUNTIME, Role.SHARED), RenamedFrom("keep_checkpoints")] = 2
    """Number of checkpoints of a run that are kept: the best ones, and always the latest."""
    checkpoint_minutes: Annotated[Positive | None, Roles(Role.RUNTIME, Role.SHARED)] = 15.0
    """Minutes of training between checkpoints within an epoch, besides the one after each epoch; null writes none."""
