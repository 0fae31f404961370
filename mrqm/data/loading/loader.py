"""Batches: padding, the split over ranks, and the order of a training epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from mrqm.config import Config
from mrqm.data.augmentation.source import Draw
from mrqm.data.loading.dataset import DetectionDataset, Sample
from mrqm.data.loading.pools import draw_turns
from mrqm.data.loading.view_sizes import largest_view
from mrqm.structures.annotations import DataError
from mrqm.structures.batch import Batch

IsFinal = Callable[[float], bool]
"""Function that tells whether a share of an epoch lies in the final part of the training."""

STRIDE = 32
"""Coarsest stride of the backbone in px; batches are padded to a multiple of it."""


def collate(samples: Sequence[Sample | None], least: tuple[int, int] | None = None) -> Batch:
    """Join samples into a batch, padded right and bottom with 0 to a common multiple of 32.

    Args:
        samples: (uint8 image (3, H, W), target) pairs, at least one; None, an image that did not decode, is left out.
        least: least height and width of the batch in px; None for no minimum.

    Returns:
        Images (B, 3, H, W) uint8, masks (B, H, W) bool that are True on padding, or None when nothing is padded and
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
    """Round the side of an image in px up to the side of a batch."""
    return -(-side // STRIDE) * STRIDE


class TrainingSampler(Sampler[list[Draw]]):
    """Batches of one rank in a shuffled epoch, as lists of draws.

    Items are dealt to the ranks in turn, so that the ranks' batches of a step together are the batch of a single rank,
    whatever the number of ranks: some get one item more than others where it does not divide the batch. The last
    incomplete step is dropped, so that every rank has equally many batches.

    Images are visited in pools: the items of a pool are shuffled among themselves before the next begins, so that no
    image is decoded again for every tile. Pools differ from epoch to epoch.

    Args:
        images: (N,) number of the image that each item of the dataset belongs to.
        pool: number of images whose items are shuffled among themselves.
        step_size: items of one optimizer step over all ranks.
        parts: number of batches that a step is accumulated from, equally large and of at least one item per rank.
        seed: seed of the order, together with the epoch.
        rank: rank of the process.
        world_size: number of ranks.

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
        self.set_epoch(0)

    def set_epoch(self, epoch: int, begin: int = 0, is_final: IsFinal = lambda epoch_share: False) -> None:
        """Set the order, and the augmentation, of the next iteration.

        The order does not depend on the number of ranks, so that a run can be resumed with another number.

        Args:
            epoch: number of the epoch, from 0.
            begin: number of items to skip, over all ranks.
            is_final: function that tells whether a share of the epoch lies in the final part of the training.
        """
        self._epoch, self._begin, self._is_final = epoch, begin, is_final

    def __len__(self) -> int:
        return self._used // self._part

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self._seed, self._epoch))
        turn = draw_turns(self._images, rng) // self._pool
        order = np.lexsort((rng.random(len(turn)), turn)).tolist()
        for begin in range(self._begin, self._used, self._part):
            share = order[begin + self._rank : begin + self._part : self._world_size]
            final = self._is_final(begin / self._used)
            yield [Draw(self._epoch, index, final) for index in share]


class DetectionLoader(DataLoader[Sample | None]):
    """`DataLoader` that reports errors of its workers as its own and skips batches without an image."""

    @property
    def data(self) -> DetectionDataset:
        """Data set of the loader."""
        assert isinstance(self.dataset, DetectionDataset)
        return self.dataset

    def set_epoch(self, epoch: int, begin: int = 0, is_final: IsFinal = lambda epoch_share: False) -> None:
        """Set the order and augmentation of the next iteration; without effect on evaluation.

        Args:
            epoch: number of the epoch, from 0.
            begin: number of items to skip, over all ranks.
            is_final: function that tells whether a share of the epoch lies in the final part of the training.
        """
        if isinstance(self.batch_sampler, TrainingSampler):
            self.batch_sampler.set_epoch(epoch, begin, is_final)

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
            # End the worker processes now; the garbage collector would wait for each of them in vain.
            self._iterator = None
            error.__traceback__ = None
            # A worker's error arrives wrapped in its traceback; only the message helps the user.
            raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None


def _pack(
    samples: Sequence[Sample | None], least: tuple[int, int] | None
) -> tuple[Tensor, Tensor | None, list[dict[str, NDArray[Any]]]] | None:
    """Collate samples with targets in numpy: processes send arrays through a pipe, every tensor as a shared file."""
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
    """Build the loader of one rank: shuffled for training, or every `world_size`-th item in order for evaluation.

    Args:
        config: configuration of the training.
        dataset: data set.
        training: True for a shuffled and augmented epoch.
        rank: rank of the process.
        world_size: number of ranks.

    Returns:
        The loader.

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
        generator=torch.Generator(),  # keeps the model's random numbers independent of loading
    )


def _leave_group(worker: int) -> None:
    """Move a worker process out of the main one's group, so that it ends by order of the main process, not by a signal.

    A signal to the group would end the worker first, and PyTorch then raises an error in the main process while that
    shuts down.
    """
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # Ray's processes block it
