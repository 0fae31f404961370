"""The recipe of `train.batch_size` at another batch size: `train.batch_size_per_worker` × workers.

With B images per step the recipe is stated for, and B' that are trained, the learning rate is multiplied by

    sqrt      √(B'/B), for Adam and its kin (Malladi et al., 2022); the default
    linear    B'/B, for SGD (Goyal et al., 2017)
    none      1

and warm-up takes B/B' as many steps, which are as many images.
"""

from __future__ import annotations

import math

from mrqm.config.sections.config import Config


def resolve_batch(config: Config, workers: int | None = None) -> Config:
    """Replace the batch size per worker by that of all workers, and the rates by those that belong to it.

    Args:
        config: configuration of a training.
        workers: number of its workers; None for `scaling.num_workers`.

    Returns:
        Configuration without `train.batch_size_per_worker`; the same one if it has none.
    """
    per_worker = config.train.batch_size_per_worker
    if per_worker is None:
        return config
    images = per_worker * (workers or config.scaling.max_workers)
    optim, ratio = config.optim, images / config.train.batch_size
    factor = {"sqrt": math.sqrt(ratio), "linear": ratio, "none": 1.0}[optim.lr_batch_rule]
    warmup = math.ceil(optim.warmup_steps / ratio)
    train = config.train.model_copy(update={"batch_size": images, "batch_size_per_worker": None})
    optim = optim.model_copy(update={"lr": optim.lr * factor, "warmup_steps": warmup})
    return config.model_copy(update={"train": train, "optim": optim})


def describe_batch(config: Config) -> str | None:
    """Describe the batch of all workers and the rate that belongs to it; None without `train.batch_size_per_worker`."""
    if config.train.batch_size_per_worker is None:
        return None
    resolved = resolve_batch(config)
    return (
        f"{resolved.train.batch_size} images per step: {config.train.batch_size_per_worker} on each of "
        f"{config.scaling.max_workers} workers; optim.lr {config.optim.lr:g}, for train.batch_size="
        f"{config.train.batch_size}, becomes {resolved.optim.lr:g} (optim.lr_batch_rule={config.optim.lr_batch_rule})"
    )
