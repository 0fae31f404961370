"""A version of a registered model, read from the tags that `pipelines.registry.register` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mrqm.structures.metric import Metric, by_key, is_evaluated, protocol_tag
from pipelines.registry.lineage import VIEW

DATA = "data.digest"
REGISTERED_AS = "registered.as"
"""Tag of a version with its model's name at registration."""
DIGEST_DIGITS = 12
"""Number of displayed digits of a digest."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: name of the registered model.
        number: number of the version.
        aliases: aliases that point at the version.
        created: time of registration, local time.
        run_id: id of the MLflow run that trained it.
        source: URI of the logged model.
        tags: all tags of the version.
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    created: datetime
    run_id: str | None
    source: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{printable(self.name)} version {self.number}"

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name, such as `coco/AP`, in alphabetical order; see `not_numbers`."""
        return by_key(metric for metric in self._parsed().values() if metric is not None)

    @property
    def not_numbers(self) -> list[str]:
        """Tags that are named like metrics, such as `coco/note`, but have no number as value."""
        return [key for key, metric in self._parsed().items() if metric is None]

    def conditions(self, protocol: str) -> dict[str, str | None]:
        """Return the conditions of the metrics under a protocol, besides the model; None for an unknown one."""
        return {key: self.tags.get(key) for key in (protocol_tag(protocol), DATA, VIEW)}

    def _parsed(self) -> dict[str, Metric | None]:
        """Parse the tags that are named like metrics; None for those without a number."""
        return {key: Metric.parse_tag(key, self.tags[key]) for key in sorted(filter(is_evaluated, self.tags))}


def differences(first: Version, second: Version, protocol: str) -> list[str]:
    """List the reasons why metrics of two versions are not comparable.

    Args:
        first: a version.
        second: another version.
        protocol: name of the evaluation protocol.

    Returns:
        One line for each reason; empty if the metrics are comparable.
    """
    ours, theirs = first.conditions(protocol), second.conditions(protocol)
    return [
        f"{key}: {_shown(key, ours[key])} (version {first.number}), "
        f"{_shown(key, theirs[key])} (version {second.number})"
        for key in ours
        if ours[key] is None or ours[key] != theirs[key]
    ]


def printable(text: str) -> str:
    """Escape control characters of untrusted text, so that it is one line and does not control the terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _shown(key: str, value: str | None) -> str:
    return "unknown" if value is None else printable(value[:DIGEST_DIGITS] if key == DATA else value)
