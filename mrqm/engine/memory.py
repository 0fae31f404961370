"""Prediction of the memory of a training step, on the CPU.

    peak = weights + gradients + optimizer + moving average  +  images · (a + b · px)  +  matching

`a` and `b` are measured on the model: it runs on two small random images with as many objects as the fullest image of
the data, and autograd reports the tensors it keeps for the backward pass (`torch.autograd.graph.saved_tensors_hooks`).
Each of them is constant or grows with the image's px, so two images predict every larger one. Denoising and mined
queries are bounded by the configuration; only the matching still grows with the number of objects.

`python benchmarks/memory.py` prints the prediction beside the measured memory of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mrqm.checkpoint.folder import build_unloaded
from mrqm.config import Config
from mrqm.data.loading.dataset import DetectionDataset
from mrqm.data.loading.loader import STRIDE, to_stride
from mrqm.data.loading.view_sizes import most_objects, view_sizes
from mrqm.engine.optim import Schedule, build_optimizer
from mrqm.engine.train_step import TrainState
from mrqm.losses.criterion import build_criterion, total_loss
from mrqm.ops.distributed import autocast
from mrqm.structures.batch import Batch

PX_PER_TOKEN = 12
"""Pixels of an image per token of a pyramid of strides 4 to 32."""
LEAST_SIDE = 4 * STRIDE
"""Least side of the small images in px."""
MATCHING_FLOATS = 14
"""Numbers that the matching holds at once for every pair of query and object."""


@dataclass(frozen=True)
class HeaviestBatch:
    """Largest input of one forward pass of one worker.

    Attributes:
        images: number of images.
        size: (height, width) in px that they are padded to.
        objects: number of objects in each image.
        padded: True if some images have padding, which the backbone then masks in every layer.
    """

    images: int
    size: tuple[int, int]
    objects: int
    padded: bool


@dataclass(frozen=True)
class StepMemory:
    """Device memory of a training step in bytes.

    Attributes:
        model: weights, gradients, AdamW's moments, the moving average and, with several workers, gradient buckets.
        activations: tensors kept for the backward pass.
        matching: numbers of all pairs of queries and objects.
    """

    model: int
    activations: int
    matching: int

    @property
    def total(self) -> int:
        """Peak memory in bytes."""
        return self.model + self.activations + self.matching


def heaviest_batch(config: Config, data: DetectionDataset) -> HeaviestBatch:
    """Compute the heaviest batch that training data can yield: the largest image with the most objects of any.

    Args:
        config: configuration of the training.
        data: training data.

    Returns:
        The heaviest batch of one worker.
    """
    grown, images = view_sizes(config, data), config.micro_batch_size
    padded = {(to_stride(height), to_stride(width)) for height, width in grown}
    if images == 1 and not config.model.compile:
        size = max(padded, key=math.prod)
    else:
        size = max(height for height, _ in padded), max(width for _, width in padded)
    return HeaviestBatch(
        images=images,
        size=size,
        objects=most_objects(config, data),
        padded=padded != grown or (images > 1 and len(grown) > 1) or config.data.augment.scale_jitter != (1.0, 1.0),
    )


def predict_step_memory(config: Config, num_classes: int, batch: HeaviestBatch) -> StepMemory:
    """Predict the peak memory of a training step; takes a few seconds on the CPU and less memory than the step.

    Args:
        config: configuration of the training; weights of the backbone are not read.
        num_classes: number of classes of the data.
        batch: heaviest batch of one worker.

    Returns:
        The predicted memory in bytes.
    """
    state = build_train_state(config, num_classes)
    side = max(LEAST_SIDE, to_stride(math.ceil(math.sqrt(PX_PER_TOKEN * config.model.num_queries))))
    small, larger = (side, side), (side + 2 * STRIDE, side + 2 * STRIDE)
    if math.prod(batch.size) <= math.prod(larger):
        an_image = _kept_bytes(state, num_classes, batch.size, batch)
    else:
        least, more = (_kept_bytes(state, num_classes, size, batch) for size in (small, larger))
        per_px = (more - least) / (math.prod(larger) - math.prod(small))
        an_image = round(least + per_px * (math.prod(batch.size) - math.prod(small)))
    layers = config.model.decoder_layers + 1
    pairs = layers * config.model.num_queries * batch.objects
    return StepMemory(_model_bytes(state), batch.images * an_image, 4 * MATCHING_FLOATS * pairs)


def build_train_state(config: Config, num_classes: int, device: torch.device | None = None) -> TrainState:
    """Build a model with random weights, criterion and optimizer, as `Trainer` does.

    Args:
        config: configuration of the training.
        num_classes: number of classes K.
        device: device of the model; None is the CPU.

    Returns:
        The state of a training before its first step.
    """
    device = device or torch.device("cpu")
    torch.manual_seed(0)
    model = build_unloaded(config, num_classes).to(device).train()
    optimizer = build_optimizer(model, config.optim)
    return TrainState(
        model=model,
        criterion=build_criterion(config.loss),
        optimizer=optimizer,
        schedule=Schedule(optimizer, config.optim),
        ema=ModelEmaV3(model, config.optim.ema_decay) if config.optim.ema_decay else None,
        config=config,
        device=device,
        nonfinite_steps=Path("nonfinite_steps"),
    )


def make_batch(objects: int, size: tuple[int, int], num_classes: int) -> Batch:
    """Make a batch of one random image with random boxes of 6 to 40 px.

    Args:
        objects: number of boxes N.
        size: (height, width) of the image in px.
        num_classes: number of classes K.

    Returns:
        Image (1, 3, height, width) uint8, no mask, and one target.
    """
    generator = torch.Generator().manual_seed(objects)
    height, width = size
    sides = (6 + 34 * torch.rand(objects, 2, generator=generator)) / torch.tensor([width, height])
    centers = sides / 2 + (1 - sides) * torch.rand(objects, 2, generator=generator)
    target = {
        "boxes": torch.cat([centers, sides], 1),
        "labels": torch.randint(num_classes, (objects,), generator=generator),
        "ignore_boxes": torch.zeros(0, 4),
        "ignore_labels": torch.zeros(0, dtype=torch.int64),
        "image_id": torch.tensor(0),
        "orig_size": torch.tensor([height, width]),
        "size": torch.tensor([height, width]),
    }
    return torch.randint(256, (1, 3, height, width), dtype=torch.uint8, generator=generator), None, [target]


def _kept_bytes(state: TrainState, num_classes: int, size: tuple[int, int], batch: HeaviestBatch) -> int:
    """Measure the bytes that autograd keeps of one image until the backward pass."""
    images, masks, targets = make_batch(batch.objects, size, num_classes)
    if batch.padded:
        masks = torch.zeros(1, *size, dtype=torch.bool)
        masks[:, -1] = masks[:, :, -1] = True
    own = {_address(tensor) for tensor in (*state.model.parameters(), *state.model.buffers())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        if (address := _address(tensor)) not in own:
            kept[address] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        with autocast(state.config, state.device):
            outputs = state.model(images, masks, targets)
        # keep the graph until all is counted, because freed memory is reused under the same addresses
        loss = total_loss(state.criterion(outputs, targets), state.config.loss)
    del loss
    return sum(kept.values())


def _model_bytes(state: TrainState) -> int:
    config = state.config
    model = sum(tensor.nbytes for tensor in (*state.model.parameters(), *state.model.buffers()))
    learning = sum(parameter.nbytes for parameter in state.model.parameters() if parameter.requires_grad)
    buckets = learning if config.scaling.max_workers > 1 else 0
    return model * (2 if state.ema is not None else 1) + 3 * learning + buckets


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
