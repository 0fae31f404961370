"""Metrics: numbers with their protocol and their name under it.

    coco/AP  coco/AP50  coco/AP/car  visdrone/AR@500  train/loss  cost/gflops

Checkpoints, messages, journals and MLflow store metrics as numbers by such keys. Only this module knows the parts of a
key and the text of a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Self, get_args

ProtocolName = Literal["coco", "coco-drop-ignored", "visdrone", "soda-d"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
VALIDATION: ProtocolName = "coco"
"""Protocol of validation during training."""
TRAIN, COST = "train", "cost"
"""Prefixes besides the protocols: metrics of a training, and of a model's size and speed."""


@dataclass(frozen=True)
class Metric:
    """A number with its protocol and name.

    Attributes:
        protocol: name of an evaluation protocol, or `train` or `cost`; empty for a number without one.
        name: name under the protocol: `AP`, `AP50`, `AP_small`, `AP/car`.
        value: number; NaN if there was nothing to measure.
    """

    protocol: str
    name: str
    value: float

    @classmethod
    def parse(cls, key: str, value: float) -> Self:
        """Parse the key of a value.

        Args:
            key: protocol and name, such as `coco/AP`, or a name alone, such as `epoch`.
            value: number.

        Returns:
            The metric; its protocol is empty if the key has none.
        """
        protocol, slash, name = key.partition("/")
        return cls(protocol, name, value) if slash else cls("", key, value)

    @classmethod
    def parse_tag(cls, key: str, text: str) -> Self | None:
        """Parse a tag.

        Args:
            key: key of the tag, such as `coco/AP`.
            text: value of the tag.

        Returns:
            The metric; None if the text is not a number or is infinite.
        """
        try:
            value = float(text)
        except ValueError:
            return None
        return None if math.isinf(value) else cls.parse(key, value)

    @property
    def key(self) -> str:
        """Protocol and name, such as `coco/AP`."""
        return metric_key(self.protocol, self.name)

    @property
    def text(self) -> str:
        """Value with as many digits as are needed to read the same number back."""
        return repr(float(self.value))

    @property
    def class_name(self) -> str | None:
        """Class name, such as `car` of `AP/car`; None for a metric over all classes."""
        _, slash, class_name = self.name.partition("/")
        return class_name if slash else None

    @property
    def is_known(self) -> bool:
        """True if there was something to measure."""
        return not math.isnan(self.value)

    def gain_over(self, other: Metric) -> Decimal:
        """Subtract another metric's value in decimal arithmetic, without the error of binary fractions.

        Args:
            other: metric of the same key.

        Returns:
            This value minus the other one.

        Raises:
            ValueError: the other metric has another name or protocol.
        """
        if self.key != other.key:
            raise ValueError(f"{self.key} and {other.key} are not comparable; compare metrics of one name and protocol")
        return Decimal(self.text) - Decimal(other.text)


def metric_key(protocol: str, name: str) -> str:
    """Build the key of a metric.

    Args:
        protocol: name of a protocol; empty for none.
        name: name of the metric.

    Returns:
        The key, such as `coco/AP`.
    """
    return f"{protocol}/{name}" if protocol else name


def is_evaluated(key: str) -> bool:
    """Check for the key of a metric under an evaluation protocol."""
    return Metric.parse(key, math.nan).protocol in PROTOCOLS


def protocol_tag(protocol: str) -> str:
    """Return the name of the tag with a protocol's version, such as `protocol.coco`."""
    return f"protocol.{protocol}"


def with_protocol(protocol: str, values: Mapping[str, float]) -> dict[str, float]:
    """Add a protocol to the names of metrics.

    Args:
        protocol: name of a protocol.
        values: values by name.

    Returns:
        Values by key, in the same order.
    """
    return {metric_key(protocol, name): value for name, value in values.items()}


def read_metrics(values: Mapping[str, float]) -> list[Metric]:
    """Parse values by key to metrics, in the same order."""
    return [Metric.parse(key, value) for key, value in values.items()]


def group_by_protocol(values: Mapping[str, float]) -> dict[str, list[Metric]]:
    """Parse values by key to metrics and group these by protocol, in the same order."""
    groups: dict[str, list[Metric]] = {}
    for metric in read_metrics(values):
        groups.setdefault(metric.protocol, []).append(metric)
    return groups


def without_protocol(protocol: str, values: Mapping[str, float]) -> dict[str, float]:
    """Select the values of one protocol, by their names without it; the inverse of `with_protocol`.

    Args:
        protocol: name of a protocol.
        values: values by key.

    Returns:
        Values by name, in the same order.
    """
    start = metric_key(protocol, "")
    return {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}


def select_protocol(values: Mapping[str, float], protocol: str) -> dict[str, float]:
    """Select the values of one protocol.

    Args:
        values: values by key.
        protocol: name of the protocol.

    Returns:
        Values by key, in the same order.
    """
    return by_key(group_by_protocol(values).get(protocol, ()))


def by_key(metrics: Iterable[Metric]) -> dict[str, float]:
    """Convert metrics to values by key."""
    return {metric.key: metric.value for metric in metrics}
