"""The detectors that MRQM is compared with (peers), all on MRQM's own backbone.

Every peer has `loss(images, targets)` and `detect(images, targets)` over the project's tensors, so that one loop trains
and evaluates them all. Widths, heads and decoder layers come from MRQM's configuration; the rest is the peer's own
default (300 queries, denoising, matching costs, loss weights), except where that cannot learn from scratch or cannot
detect small objects:

- All get strides 4, 8, 16 and 32. Elsewhere RT-DETRv2 and D-FINE use 8 to 32, FCOS 8 to 128.
- transformers initialises for checkpoints that overwrite everything: every weight with std 0.01 or 0.02, the scales of
  BatchNorm around 0, no focal prior in Deformable-DETR. Here PyTorch's initialisation, the focal prior 0.01 and zero
  box offsets are set, as in the papers' own code.
- transformers' frozen BatchNorm replaces timm's `BatchNormAct2d` without its activation, so features come from MRQM's
  backbone, frozen or not as the configuration says.
- Deformable-DETR is the two-stage variant with box refinement. transformers' loss leaves out its proposals; they are
  supervised here by the library's own criterion, as in the paper.

Under bfloat16, backbones, encoders, decoder layers and convolutional heads run in autocast. Boxes and losses stay
float32: bfloat16 cannot place a box of five pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, box_convert

from mrqm.config import Config
from mrqm.models.backbone import STRIDES, Backbone

Targets = list[dict[str, Tensor]]


class Autocast(nn.Module):
    """A module that runs under bfloat16 autocast if `enabled`, and returns float32 outputs."""

    def __init__(self, module: nn.Module, enabled: bool) -> None:
        super().__init__()
        self.module, self.enabled = module, enabled

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module.

        Args:
            *args: arguments of the module.
            **kwargs: named arguments of the module.

        Returns:
            The module's outputs in float32.
        """
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.enabled):
            outputs = self.module(*args, **kwargs)
        return tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.is_floating_point() else x, outputs)


class Peer(nn.Module, ABC):
    """The interface of a detector for the training loop.

    Targets and detections have the project's names and formats. Ignored regions are left out, as none of the peers
    supports them.
    """

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """Module that is trained at the backbone's learning rate."""

    @abstractmethod
    def loss(self, images: Tensor, targets: Targets) -> Tensor:
        """Compute the weighted sum of the peer's own losses.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image.

        Returns:
            The loss, a scalar.
        """

    @abstractmethod
    def detect(self, images: Tensor, targets: Targets) -> list[dict[str, Tensor]]:
        """Detect objects.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image, of which only the sizes are used.

        Returns:
            Detections of each image in px of its `orig_size`, best first.
        """


class Pyramid(nn.Module):
    """A feature pyramid over MRQM's backbone, P2..P5."""

    def __init__(self, backbone: Backbone, out_channels: int) -> None:
        super().__init__()
        self.backbone, self.out_channels = backbone, out_channels
        self.fpn = FeaturePyramidNetwork(backbone.channels, out_channels)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute features (B, out_channels, H / stride, W / stride) by stride."""
        features = self.backbone(images, None)
        return self.fpn(OrderedDict((str(stride), x) for stride, x in zip(STRIDES, features, strict=True)))


class Fcos(Peer):
    """FCOS of torchvision."""

    def __init__(self, detector: FCOS, *, bfloat16: bool) -> None:
        super().__init__()
        head = detector.head
        detector.backbone = Autocast(detector.backbone, bfloat16)
        head.classification_head = Autocast(head.classification_head, bfloat16)
        head.regression_head = Autocast(head.regression_head, bfloat16)
        self.detector = detector

    @property
    def backbone(self) -> nn.Module:
        """MRQM's backbone, without the pyramid."""
        return self.detector.backbone.module.backbone

    def loss(self, images: Tensor, targets: Targets) -> Tensor:
        """Compute the sum of focal, GIoU and centerness losses; see `Peer.loss`.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image.

        Returns:
            The loss, a scalar.
        """
        height, width = images.shape[-2:]
        scale = images.new_tensor([width, height, width, height])
        labelled = [
            {"boxes": box_convert(target["boxes"], "cxcywh", "xyxy") * scale, "labels": target["labels"]}
            for target in targets
        ]
        return torch.stack(list(self.detector(list(images), labelled).values())).sum()

    def detect(self, images: Tensor, targets: Targets) -> list[dict[str, Tensor]]:
        """Return the detections after non-maximum suppression; see `Peer.detect`.

        Args:
            images: images (B, 3, H, W) in [0, 1].
            targets: targets of each image, of which only the sizes are used.

        Returns:
            `boxes` (k, 4) xyxy in px of the native image, `scores` (k,) and `labels` (k,) of each image.
        """
        detections = self.detector(list(images))
        for detection, target in zip(detections, targets, strict=True):
            height, width = (target["orig_size"] / target["size"]).tolist()
            detection["boxes"] = detection["boxes"] * images.new_tensor([width, height, width, height])
        return detections


def build_fcos(config: Config, backbone: Backbone, num_classes: int) -> Fcos:
    """Build FCOS on P2..P5 with MRQM's width, and with anchors as large as the strides, as in its documentation.

    Args:
        config: configuration with MRQM's width and the tiles' size.
        backbone: backbone of the detector.
        num_classes: number of classes.

    Returns:
        The detector.

    Raises:
        ValueError: the data are not cut into tiles, so that FCOS would resize images.
    """
    if config.data.tile is None:
        raise ValueError("the peers take tiles of one size: set data.tile")
    detector = FCOS(
        Pyramid(backbone, config.model.hidden_dim),
        num_classes,
        min_size=config.data.tile.size,  # the images' size, so that nothing is resized
        max_size=config.data.tile.size,
        image_mean=[0.0, 0.0, 0.0],  # the backbone normalises
        image_std=[1.0, 1.0, 1.0],
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
        score_thresh=0.001,
        detections_per_img=config.evaluation.max_detections,
    )
    return Fcos(detector, bfloat16=config.train.precision == "bfloat16")
