"""Repeat-factor sampling: items with rare classes come several times in an epoch (Gupta et al., 2019, section 4).

    r(c) = max(1, √(t / f(c)))        r(i) = max over the classes c of item i

f(c) is the share of items with class c, and t the share below which a class counts as rare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrqm.data.images.windows import Item, visible_labels


def repeat_rare(items: Sequence[Item], min_area_ratio: float, threshold: float, seed: int) -> list[Item]:
    """Repeat the items with rare classes; a fraction of a repetition is drawn once for the whole training.

    Args:
        items: items of the training data.
        min_area_ratio: fraction of an object's area above which it is visible in an item.
        threshold: t; 0 repeats nothing.
        seed: seed of the draws.

    Returns:
        The items in their order, repetitions beside each other.
    """
    present = [np.unique(visible_labels(item, min_area_ratio)) for item in items]
    counts = np.bincount(np.concatenate(present))
    factors = np.sqrt(threshold * len(items) / counts.clip(min=1))
    repeats = np.array([factors[labels].max(initial=1.0) for labels in present])
    times = np.floor(repeats + np.random.default_rng(seed).random(len(items))).astype(int)
    return [item for item, count in zip(items, times, strict=True) for _ in range(count)]
