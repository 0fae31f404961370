"""Batches: padding, the split over ranks, and the order of a training epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from mrqm.config import Config
from mrqm.data.loading.dataset import DetectionDataset, Sample
from mrqm.data.loading.view_sizes import largest_view
from mrqm.structures.annotations import DataError
from mrqm.structures.batch import Batch

STRIDE = 32
"""Batches are padded to a multiple of this, the coarsest stride of the backbone."""


def collate(samples: Sequence[Sample | None], least: tuple[int, int] | None = None) -> Batch:
    """Join samples into a batch, padded right and bottom with 0 to a common multiple of 32.

    Args:
        samples: (uint8 image (3, H, W), target) pairs, at least one; None, an image that did not decode, is left out.
        least: height and width in px that the batch is padded to at least.

    Returns:
        images (B, 3, H, W) uint8, masks (B, H, W) bool that are True on padding, or None when nothing is padded and
        `least` not given, and the targets.
    """
    readable = [sample for sample in samples if sample is not None]
    images, targets = [image for image, _ in readable], [target for _, target in readable]
    sizes = [tuple(image.shape[1:]) for image in images] + ([] if least is None else [least])
    height, width = (to_stride(max(sides)) for sides in zip(*sizes, strict=True))
    if least is None and all(image.shape[1:] == (height, width) for image in images):
        return torch.stack(images), None, targets
    batch = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    masks = torch.ones(len(images), height, width, dtype=torch.bool)
    for row, mask, image in zip(batch, masks, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
        mask[: image.shape[1], : image.shape[2]] = False
    return batch, masks, targets


def to_stride(side: int) -> int:
    """The side of a batch, in px, that holds images with that side."""
    return -(-side // STRIDE) * STRIDE


class TrainingSampler(Sampler[list[tuple[int, int]]]):
    """One rank's batches of a shuffled epoch, as lists of (epoch, index) pairs.

    Ranks take turns, so that the ranks' batches of a step together are what a single rank with a batch as large would
    get, whatever the number of ranks: some get one item more than others where it does not divide the batch. The last
    incomplete step is dropped: every rank has equally many batches.

    Images take turns in pools: the items of a pool are shuffled among themselves before the next begins, so that no
    image is decoded anew for every tile. Pools differ from epoch to epoch.

    Args:
        images: (N,) number of the image that each item of the dataset is of.
        pool: images whose items are shuffled among themselves.
        step_size: items of one optimizer step over all ranks.
        parts: batches that a step is accumulated from, equally large and of at least one item per rank.
        seed: of the order, together with the epoch.

    Raises:
        DataError: there are fewer items than one step needs.
    """

    def __init__(
        self, images: NDArray[np.int64], pool: int, *, step_size: int, parts: int, seed: int, rank: int, world_size: int
    ) -> None:
        length = len(images)
        if length < step_size:
            raise DataError(
                f"{length} training items are fewer than one step takes ({step_size}); "
                "give more data or lower train.batch_size"
            )
        self._images, self._pool, self._used = images, pool, length // step_size * step_size
        self._part = step_size // parts
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._epoch, self._begin = 0, 0

    def set_epoch(self, epoch: int, begin: int = 0) -> None:
        """Choose the order, and the augmentation, of the next iteration, which leaves out the first `begin` items.

        The order does not depend on the number of ranks: where one run stopped, a run with other ranks can go on.
        """
        self._epoch, self._begin = epoch, begin

    def __len__(self) -> int:
        return self._used // self._part

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng((self._seed, self._epoch))
        turn = rng.permutation(self._images.max() + 1)[self._images] // self._pool
        order = np.lexsort((rng.random(len(turn)), turn)).tolist()
        for begin in range(self._begin, self._used, self._part):
            share = order[begin + self._rank : begin + self._part : self._world_size]
            yield [(self._epoch, index) for index in share]


class DetectionLoader(DataLoader[Sample | None]):
    """A `DataLoader` whose workers' errors read like its own and that passes over batches without an image."""

    @property
    def data(self) -> DetectionDataset:
        """The data set of which it gives batches."""
        assert isinstance(self.dataset, DetectionDataset)
        return self.dataset

    def set_epoch(self, epoch: int, begin: int = 0) -> None:
        """Choose the order and augmentation of the next iteration, without its first items; evaluation has but one."""
        if isinstance(self.batch_sampler, TrainingSampler):
            self.batch_sampler.set_epoch(epoch, begin)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterate over the batches of the sampler's epoch.

        Raises:
            DataError: more images than `data.max_unreadable` do not decode.
        """
        try:
            for batch in super().__iter__():
                if batch is not None:
                    yield _unpack(batch)
        except DataError as error:
            # End the worker processes here and now: left to the garbage collector, each would be waited for in vain.
            self._iterator = None
            error.__traceback__ = None
            # A worker's error arrives wrapped in its traceback; the message is what the user can act on.
            raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None


def _pack(
    samples: Sequence[Sample | None], least: tuple[int, int] | None
) -> tuple[Tensor, Tensor | None, list[dict[str, NDArray[Any]]]] | None:
    """`collate` with targets in numpy: processes send arrays through a pipe, but every tensor as a shared file."""
    if not any(samples):
        return None
    images, masks, targets = collate(samples, least)
    return images, masks, [{key: value.numpy() for key, value in target.items()} for target in targets]


def _unpack(batch: tuple[Tensor, Tensor | None, list[dict[str, NDArray[Any]]]]) -> Batch:
    images, masks, targets = batch
    return images, masks, [{key: torch.from_numpy(value) for key, value in target.items()} for target in targets]


def build_loader(
    config: Config, dataset: DetectionDataset, *, training: bool, rank: int = 0, world_size: int = 1
) -> DetectionLoader:
    """Batches of one rank: shuffled for training, or every `world_size`-th item in order for evaluation.

    Raises:
        DataError: the training data is smaller than one step.
    """
    batches: dict[str, Any] = {
        "sampler": range(rank, len(dataset), world_size),
        "batch_size": config.evaluation.batch_size,
    }
    if training:
        train = config.train
        batches = {
            "batch_sampler": TrainingSampler(
                *dataset.image_pools(), step_size=train.batch_size, parts=train.gradient_accumulation_steps,
                seed=train.seed, rank=rank, world_size=world_size,
            )
        }  # fmt: skip
    return DetectionLoader(
        dataset,
        **batches,
        num_workers=config.data.loader_workers,
        persistent_workers=config.data.loader_workers > 0,
        collate_fn=partial(_pack, least=largest_view(config, dataset) if training and config.model.compile else None),
        worker_init_fn=_leave_group,
        pin_memory=config.scaling.use_gpu,
        generator=torch.Generator(),  # its own: loading leaves the model's random numbers alone
    )


def _leave_group(worker: int) -> None:
    """Begin a worker process: it ends when the main one says so, and not by a signal to the main one's group.

    Ended by a signal it would have PyTorch raise an error in the main process, in the middle of whatever that closes.
    """
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # which processes of Ray block
