"""Names of a backbone's parameters in other libraries, as rules that turn them into timm's.

torchvision, mmdetection (and Co-DETR), DETR, DINO, D-FINE and DEIM name the parameters of a ResNet or HGNetV2 as timm
does, after a prefix such as `backbone.body.`, `backbone.`, `backbone.0.body.` or `ema.module.backbone.`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Replacement = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Naming:
    """The names of a library.

    Attributes:
        library: name of the library, for messages.
        rules: patterns and their replacements, applied one after the other.
    """

    library: str
    rules: tuple[tuple[re.Pattern[str], Replacement], ...]

    def rename(self, name: str) -> str:
        """Turn a name into timm's; names of other parts stay as they are or become nonsense."""
        for pattern, replacement in self.rules:
            name = pattern.sub(replacement, name)
        return name


def _naming(library: str, *rules: tuple[str, Replacement]) -> Naming:
    """Make a naming from patterns that begin at the start of a name or after a dot."""
    return Naming(library, tuple((re.compile(rf"(?<![^.]){pattern}"), replacement) for pattern, replacement in rules))


def _block(match: re.Match[str]) -> str:
    """Name a block of a ResNet, whose stages timm counts from one."""
    return f"layer{int(match[1]) + 1}.{match[2]}."


_TRANSFORMERS_BLOCKS: tuple[tuple[str, Replacement], ...] = (
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.", _block),
    (r"layer\.(\d)\.convolution\.", lambda match: f"conv{int(match[1]) + 1}."),
    (r"layer\.(\d)\.normalization\.", lambda match: f"bn{int(match[1]) + 1}."),
)
"""Rules for the blocks of transformers' ResNets, which DETR and RT-DETR share."""

NAMINGS = (
    _naming("timm and torchvision"),
    _naming(
        "detectron2",
        (r"stem\.conv1\.norm\.", "bn1."),
        (r"stem\.conv1\.", "conv1."),
        (r"res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
        (r"conv(\d)\.norm\.", r"bn\1."),
        (r"shortcut\.norm\.", "downsample.1."),
        (r"shortcut\.", "downsample.0."),
    ),
    _naming(
        "transformers (ResNet)",
        (r"embedder\.embedder\.convolution\.", "conv1."),
        (r"embedder\.embedder\.normalization\.", "bn1."),
        *_TRANSFORMERS_BLOCKS,
        (r"shortcut\.convolution\.", "downsample.0."),
        (r"shortcut\.normalization\.", "downsample.1."),
    ),
    _naming(
        "transformers (RT-DETR)",
        (r"embedder\.embedder\.2\.normalization\.", "bn1."),
        (r"embedder\.embedder\.(\d)\.convolution\.", lambda match: f"conv1.{3 * int(match[1])}."),
        (r"embedder\.embedder\.(\d)\.normalization\.", lambda match: f"conv1.{3 * int(match[1]) + 1}."),
        *_TRANSFORMERS_BLOCKS,
        (r"shortcut\.(?:1\.)?convolution\.", "downsample.1."),
        (r"shortcut\.(?:1\.)?normalization\.", "downsample.2."),
    ),
    _naming(
        "transformers (HGNetV2)",
        (r"embedder\.(stem\w+)\.", r"stem.\1."),
        (r"encoder\.stages\.", "stages."),
        (r"convolution\.", "conv."),
        (r"normalization\.", "bn."),
    ),
    _naming(
        "RT-DETR (PResNet)",
        (r"conv1\.conv1_3\.norm\.", "bn1."),
        (r"conv1\.conv1_(\d)\.conv\.", lambda match: f"conv1.{3 * int(match[1]) - 3}."),
        (r"conv1\.conv1_(\d)\.norm\.", lambda match: f"conv1.{3 * int(match[1]) - 2}."),
        (r"res_layers\.(\d)\.blocks\.(\d+)\.", _block),
        (r"branch2([abc])\.conv\.", lambda match: f"conv{'abc'.index(match[1]) + 1}."),
        (r"branch2([abc])\.norm\.", lambda match: f"bn{'abc'.index(match[1]) + 1}."),
        (r"short\.(?:conv\.)?norm\.", "downsample.2."),
        (r"short\.(?:conv\.)?conv\.", "downsample.1."),
    ),
)
"""Namings to try; of equally good ones the first is taken."""
