"""Files of weights that other libraries write, read without executing code from them.

.safetensors                  tensors alone
.pth, .pt, .bin, .ckpt        of torch.save: tensors; objects of other classes are passed over, never made
.pkl                          of detectron2's model zoo: NumPy arrays in a plain pickle
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mrqm.errors import UserError

SAFETENSORS = ".safetensors"
NAMED = 5
"""Most objects that a message names."""
ARRAYS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
    **{
        (f"numpy.{core}.multiarray", name): getattr(np._core.multiarray, name)  # type: ignore[attr-defined]
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}
"""All that a pickle of arrays may name."""


class WeightsFileError(UserError):
    """A file that has no readable weights; the message says why."""


class _PassedOver:
    """Stand-in for an object of a class that is not a tensor's."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of NumPy arrays in plain containers, which refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of `ARRAYS`.

        Args:
            module: module that the pickle names.
            name: name in the module.

        Returns:
            The constructor.

        Raises:
            WeightsFileError: it is none of them.
        """
        if (module, name) not in ARRAYS:
            raise WeightsFileError(f"it holds {module}.{name}, which is not an array")
        return ARRAYS[module, name]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file.

    Args:
        path: file of weights.

    Returns:
        Tensors on the CPU by dotted name; that of a nested tensor begins with the keys that lead to it, such as
        `ema.module.`.

    Raises:
        WeightsFileError: the file is damaged or has no tensors.
    """
    try:
        content = load_file(path) if path.suffix == SAFETENSORS else _load_pickled(path)
    except WeightsFileError:
        raise
    except SafetensorError as error:
        raise WeightsFileError(f"not a safetensors file: {error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsFileError(f"damaged, or not a file of weights: {str(error).partition(chr(10))[0]}") from error
    tensors = dict(_walk(content, ""))
    if not tensors:
        raise WeightsFileError("it holds no tensors")
    return tensors


def _load_pickled(path: Path) -> Any:
    if path.suffix == ".pkl" and not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    others = []
    if zipfile.is_zipfile(path):
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)  # reads names alone
    stand_ins: list[Any] = [(type(name.rpartition(".")[2], (_PassedOver,), {}), name) for name in others]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if others:
            raise WeightsFileError(
                f"it holds objects beside tensors that cannot be passed over: {', '.join(sorted(others)[:NAMED])}; "
                "write the weights alone, where it was made, by torch.save or safetensors"
            ) from error
        raise


def _walk(value: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested mappings by dotted name."""
    for key, item in value.items() if isinstance(value, Mapping) else ():
        if isinstance(item, Tensor):
            yield f"{prefix}{key}", item
        elif isinstance(item, np.ndarray) and item.dtype != object:
            yield f"{prefix}{key}", torch.from_numpy(item.copy())
        elif isinstance(item, Mapping):
            yield from _walk(item, f"{prefix}{key}.")
