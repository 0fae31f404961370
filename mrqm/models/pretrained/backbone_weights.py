"""Weights of a backbone within a file of any kind: a backbone of timm, or a detector of this or another library.

The tensors of timm's model are looked for by name and shape, after any prefix and under the names of several libraries.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mrqm.config import ConfigError
from mrqm.models.pretrained.weight_files import WeightsFileError, read_tensors
from mrqm.models.pretrained.weight_names import NAMINGS, Naming

COUNTER = "num_batches_tracked"
"""Tensor of a BatchNorm that is optional, as it matters to nothing here."""
PREFIXES = 20
"""Most prefixes to try, of which all but a few are of single blocks."""
AVERAGED = re.compile(r"(?:^|[._])ema[._]")
"""Prefix of an exponential moving average of the weights."""
NAMED = 5
"""Most tensors that a message names."""


@dataclass(frozen=True)
class FoundBackbone:
    """Tensors of a file that belong to a backbone.

    Attributes:
        naming: names that they have in the file.
        prefix: beginning of their names in the file.
        tensors: those found in the right shape, by timm's names.
        others: those found in another shape.
    """

    naming: Naming
    prefix: str
    tensors: Mapping[str, Tensor]
    others: Mapping[str, Tensor]


def load_backbone_weights(wanted: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], str]:
    """Read the weights of a backbone.

    Args:
        wanted: state of timm's model, by parameter name.
        path: file of weights.

    Returns:
        The weights by parameter name, without counters that the file lacks, and a description of what was found.

    Raises:
        ConfigError: the file cannot be read or does not hold the whole backbone; the message says what was found and
            what is missing.
    """
    if not path.is_file():
        raise ConfigError(f"model.backbone.weights={path}: no such file")
    try:
        stored = read_tensors(path)
    except WeightsFileError as error:
        raise ConfigError(f"model.backbone.weights={path}: {error}") from error
    needed = {name for name in wanted if not name.endswith(COUNTER)}
    found = max(_candidates(wanted, stored), key=lambda one: _rank(one, needed), default=None)
    if found is None or needed - found.tensors.keys():
        raise ConfigError(f"model.backbone.weights={path}: {_describe_fault(wanted, needed, stored, found)}")
    prefix = f"prefix {found.prefix}" if found.prefix else "no prefix"
    names = f"names of {found.naming.library}"
    rest = len(stored) - len(found.tensors)
    unused = f", {rest} other tensors not used" if rest else ""
    return dict(found.tensors), f"{len(found.tensors)} tensors in {path.name}, {names}, {prefix}{unused}"


def _candidates(wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Iterator[FoundBackbone]:
    """Find the tensors under each naming, after each prefix that occurs."""
    for naming in NAMINGS:
        renamed = {naming.rename(name): tensor for name, tensor in stored.items()}
        for prefix in _prefixes(wanted, renamed):
            inner = {_plain(name[len(prefix) :]): each for name, each in renamed.items() if name.startswith(prefix)}
            pairs = {name: inner[_plain(name)] for name in wanted if _plain(name) in inner}
            fits = {name: tensor for name, tensor in pairs.items() if tensor.shape == wanted[name].shape}
            others = {name: tensor for name, tensor in pairs.items() if name not in fits}
            yield FoundBackbone(naming, prefix, fits, others)


def _prefixes(wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> list[str]:
    """List what precedes the names of the model's tensors, the most frequent first."""
    suffixes = {_plain(name) for name in wanted}
    counted: Counter[str] = Counter()
    for name in stored:
        plain = _plain(name)
        starts = [0, *(index + 1 for index, letter in enumerate(name) if letter == ".")]
        counted.update(name[:start] for start in starts if plain[start:] in suffixes)
    return [prefix for prefix, _ in counted.most_common(PREFIXES)]


def _rank(found: FoundBackbone, needed: set[str]) -> tuple[int, int, bool, int, int]:
    """Rank by the tensors found; of equals prefer averaged weights, the first naming and the shortest prefix."""
    fitting, averaged = len(needed & found.tensors.keys()), bool(AVERAGED.search(found.prefix))
    return fitting, len(found.others), averaged, -NAMINGS.index(found.naming), -len(found.prefix)


def _plain(name: str) -> str:
    """Write names alike: timm's feature wrappers write `stages.0` as `stages_0`."""
    return name.replace(".", "_")


def _describe_fault(
    wanted: Mapping[str, Tensor], needed: set[str], stored: Mapping[str, Tensor], found: FoundBackbone | None
) -> str:
    """Describe what a file has of the backbone and what it lacks."""
    if found is None:
        shown = ", ".join(list(stored)[:NAMED])
        return (
            f"{len(needed)} of {len(needed)} tensors do not fit: not one has a name of the backbone; the file has "
            f"{shown}{', …' if len(stored) > NAMED else ''}"
        )
    absent = [name for name in wanted if name in needed and name not in found.tensors]
    faults = [
        f"{name}: shape {tuple(found.others[name].shape)} instead of {tuple(wanted[name].shape)}"
        if name in found.others
        else f"{name}: missing"
        for name in absent
    ]
    more = " …" if len(faults) > NAMED else ""
    place = f" (names of {found.naming.library}, prefix {found.prefix or 'none'})"
    return (
        f"{len(absent)} of {len(needed)} tensors do not fit{place}: {'; '.join(faults[:NAMED])}{more}; "
        "choose the model.backbone.name that the file was made with"
    )
