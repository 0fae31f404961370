"""Backbone: any timm model with strides 4, 8, 16 and 32, as C2..C5.

Convolutions see zeros wherever an image is padded, exactly as they do beyond the border of an unpadded one. So the
features of an image do not depend on what it is batched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from mrqm.config import BackboneConfig, ConfigError
from mrqm.models.pretrained.backbone_weights import load_backbone_weights

STRIDES = (4, 8, 16, 32)
PROBE = (64, 96)
"""Height and width in px of the image that a backbone is tested with: no square, and no usual size."""


def mask_at(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Reduce padding masks to a coarser size: a cell is padding when its first pixel is.

    Args:
        masks: (B, H, W), True = padding.
        size: height and width h, w of the result.

    Returns:
        (B, h, w), True = padding.
    """
    rows, columns = masks.shape[-2] // size[0], masks.shape[-1] // size[1]
    return masks[:, ::rows, ::columns]


class Backbone(nn.Module):
    """C2..C5 of a timm feature extractor.

    Attributes:
        channels: channels of C2..C5.
        mean, std: normalisation that the weights were trained with, for inputs in [0, 1].
        origin: description of the weights that were loaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Any, *, channels_last: bool, origin: str = "random weights") -> None:
        super().__init__()
        self.origin = origin
        reductions = trunk.feature_info.reduction()
        if missing := [stride for stride in STRIDES if stride not in reductions]:
            raise ConfigError(
                f"model.backbone.name: strides {reductions} lack {missing}; choose a model with strides 4, 8, 16, 32"
            )
        self._levels = [reductions.index(stride) for stride in STRIDES]
        self.channels = [trunk.feature_info.channels()[level] for level in self._levels]
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.trunk = trunk.to(memory_format=self._memory_format)
        defaults = getattr(trunk, "default_cfg", None) or trunk.pretrained_cfg
        self.register_buffer("mean", torch.tensor(defaults["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(defaults["std"]).view(3, 1, 1), persistent=False)
        self._masks: Tensor | None = None
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
                module.register_forward_pre_hook(self._blank_padding)

    def forward(self, images: Tensor, masks: Tensor | None) -> list[Tensor]:
        """Normalise and extract.

        Args:
            images: (B, 3, H, W) in [0, 1], H and W multiples of 32.
            masks: (B, H, W), True = padding, or None.

        Returns:
            C2..C5, (B, channels[l], H / stride, W / stride).
        """
        self._masks = masks
        images = ((images - self.mean) / self.std).contiguous(memory_format=self._memory_format)
        features = self.trunk(images)
        self._masks = None
        return [features[level] for level in self._levels]

    def _blank_padding(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._masks is None:
            return None
        padding = mask_at(self._masks, inputs[0].shape[-2:])
        return (inputs[0].masked_fill(padding.unsqueeze(1), 0), *inputs[1:])


def build_backbone(config: BackboneConfig, *, channels_last: bool) -> Backbone:
    """Create the backbone and load its weights.

    Args:
        config: settings of the backbone.
        channels_last: memory format of the features.

    Returns:
        The backbone.

    Raises:
        ConfigError: the model is unknown, lacks a stride, takes images of one size only, or its weights are not
            available or do not fit.
    """
    trunk = _create(config)
    origin = {"none": "random weights", "hub": "timm's weights"}.get(config.weights)
    if origin is None:
        weights, origin = load_backbone_weights(trunk.state_dict(), Path(config.weights))
        trunk.load_state_dict(weights, strict=False)  # without the counters of BatchNorm if the file lacks them
    if config.frozen_batch_norm:
        trunk = freeze_batch_norm_2d(trunk)
    backbone = Backbone(trunk, channels_last=channels_last, origin=origin)
    _require_any_size(backbone, config.name)
    _freeze_stages(backbone, config.frozen_stages)
    return backbone


def _create(config: BackboneConfig) -> Any:
    if not timm.is_model(config.name):
        similar = get_close_matches(config.name, timm.list_models(), n=8)
        raise ConfigError(f"model.backbone.name={config.name}: timm has no such model; similar: {similar}")
    try:
        return timm.create_model(config.name, features_only=True, pretrained=config.weights == "hub")
    except (OSError, RuntimeError) as error:
        if config.weights != "hub":
            raise
        raise ConfigError(
            f"model.backbone.weights=hub: the weights of {config.name} could not be downloaded "
            f"({type(error).__name__}). Offline, give a local file: model.backbone.weights=PATH.safetensors, "
            "or train from scratch: model.backbone.weights=none model.backbone.frozen_batch_norm=false"
        ) from error


def _require_any_size(backbone: Backbone, name: str) -> None:
    """Test the backbone: some accept squares of one size only, or return features in another layout."""
    height, width = PROBE
    wanted = [(1, count, height // s, width // s) for count, s in zip(backbone.channels, STRIDES, strict=True)]
    training = backbone.training
    backbone.eval()  # keeps the statistics of BatchNorm
    try:
        with torch.no_grad():
            found = [tuple(feature.shape) for feature in backbone(torch.zeros(1, 3, height, width), None)]
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:  # of any timm model
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"model.backbone.name={name}: {_ONE_SIZE} ({reason})") from error
    finally:
        backbone.train(training)
    if found != wanted:
        raise ConfigError(f"model.backbone.name={name}: {_ONE_SIZE} (features of shape {found} instead of {wanted})")


_ONE_SIZE = (
    "it does not take images of any size, as a detector needs; choose a convolutional model, such as resnet50, "
    "convnext_tiny or tf_efficientnet_lite0, or a transformer such as pvt_v2_b2"
)


def _freeze_stages(backbone: Backbone, stages: int) -> None:
    """Freeze all parameters that the first of C2..C5 depend on, found by autograd, as models name them differently."""
    if not stages:
        return
    parameters = list(backbone.parameters())
    feature = backbone(torch.zeros(1, 3, *PROBE), None)[stages - 1]
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(feature.sum(), parameters, allow_unused=True), strict=True
    ):
        if gradient is not None:
            parameter.requires_grad_(False)
