"""The chain of detectors from which a registered version descends, by the digests of their weights (`model.init`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from mrqm.redaction import redact
from pipelines.registry.client import Registry
from pipelines.registry.lineage import WEIGHTS_DIGEST
from pipelines.registry.model_version import DIGEST_DIGITS, Version, printable
from pipelines.tracking.client import equals


def describe_ancestors(version: Version, registry: Registry) -> Iterator[str]:
    """Describe the detectors that a version's training, and those before it, started from, the nearest first.

    Weights are found again in the registry whatever they were named by, so also those of a run's folder.

    Args:
        version: version of a model.
        registry: registry that has it.

    Yields:
        One line for each ancestor; the last may be one that this registry does not have.
    """
    tags, seen = version.tags, set[str]()
    while (digest := tags.get("init.sha256")) and digest not in seen:
        seen.add(digest)
        parent = _find_by_digest(registry, digest, tags.get("init.version"))
        origin = printable(redact(tags.get("init.source", "an unknown detector")))
        name = f"{parent}" if parent else f"{origin} (not in this registry)"
        yield f"{name}, weights {printable(digest[:DIGEST_DIGITS])}{_count_classes(tags)}"
        if parent is None:
            return
        tags = parent.tags


def _find_by_digest(registry: Registry, digest: str, named: str | None) -> Version | None:
    """Find the version of these weights, of several the one that the training named, else the oldest."""
    made = list(registry.client.versions(equals(f"tags.`{WEIGHTS_DIGEST}`", digest)))
    if not made:
        return None
    first = min(made, key=lambda each: (f"{each.name}/{each.version}" != named, each.creation_timestamp or 0))
    return next((one for one in registry.versions(first.name) if one.number == str(first.version)), None)


def _count_classes(tags: Mapping[str, str]) -> str:
    try:
        count = len(json.loads(tags["init.classes"]))
    except (KeyError, ValueError, TypeError):  # not known, cut to fit, or of a stranger
        return ""
    return f", {count} class{'' if count == 1 else 'es'}"
