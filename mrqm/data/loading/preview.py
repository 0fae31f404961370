"""Some training images as a training sees them."""

from __future__ import annotations

import numpy as np

from mrqm.data.augmentation.source import Draw
from mrqm.data.loading.dataset import DetectionDataset, Sample


def preview_samples(data: DetectionDataset, count: int) -> list[Sample]:
    """Read some items, evenly spread, as augmented in the first epoch; no decoded image is kept.

    Args:
        data: training data.
        count: greatest number of items.

    Returns:
        The samples.

    Raises:
        DataError: more images than `max_unreadable` do not decode.
    """
    chosen = np.unique(np.linspace(0, len(data) - 1, count).astype(int)).tolist()
    samples = [data[Draw(0, index)] for index in chosen]
    data.clear_cache()
    return [sample for sample in samples if sample is not None]
