"""Aliases move only through a gate, and back.

MLflow has no lock: two promotions at one moment both write, and the later one stays. A candidate is therefore measured
again by the version that has the alias once it has been tried, which takes seconds, and a promotion that was overtaken
says so.

A registered model remembers in the tag `former.ALIAS` where the alias pointed before: version numbers, oldest first.
"""

from __future__ import annotations

import math

from pipelines.registry.client import Registry, RegistryError
from pipelines.registry.model_files import place_of
from pipelines.registry.model_version import Version, differences
from pipelines.registry.smoke_test import try_model

ROUNDING = 1e-9
"""Figures have four decimals; their differences are those of binary fractions."""


def promote(registry: Registry, version: Version, alias: str, metric: str, margin: float) -> Version | None:
    """Let an alias point at a version that is better, by comparable figures, and works.

    Args:
        registry: that has the version.
        version: the candidate.
        alias: such as `champion`.
        metric: that decides, such as `coco/AP`.
        margin: how much better it has to be.

    Returns:
        The version that the alias pointed at before.

    Raises:
        RegistryError: the gate is closed; the message says why.
    """
    _measure(registry, version, alias, metric, margin)
    if fault := try_model(registry.uri, place_of(registry, version)):
        raise RegistryError(f"{version} does not become {alias}: it does not load and predict: {fault}")
    present = _measure(registry, version, alias, metric, margin)
    if present:
        formers = _formers(registry, version.name, alias, present)
        _remember(registry, version.name, alias, [*formers, present.number])
    registry.client.set_registered_model_alias(version.name, alias, version.number)
    winner = _holder(registry, version.name, alias)
    if winner is None or winner.number != version.number:
        raise RegistryError(
            f"{version} was {alias} for a moment only: at the same time somebody made "
            f"{f'version {winner.number} {alias}' if winner else f'the alias {alias} point at nothing'}; "
            f"compare the two, and promote again if this one is to stay"
        )
    return present


def roll_back(registry: Registry, name: str, alias: str) -> tuple[Version, Version]:
    """Let an alias point at the version that it pointed at before.

    Returns:
        The version it pointed at, and the one it points at now.

    Raises:
        RegistryError: no such model or alias, no former version, or one that is deleted.
    """
    present = registry.find(f"{name}@{alias}")
    formers = _formers(registry, name, alias, present)
    if not formers:
        raise RegistryError(f"{present} is the first {alias}: there is no former one to go back to")
    former = next((version for version in registry.versions(name) if version.number == formers[-1]), None)
    if former is None:
        raise RegistryError(f"{name} version {formers[-1]}, the former {alias}, is deleted; promote another version")
    registry.client.set_registered_model_alias(name, alias, former.number)
    _remember(registry, name, alias, formers[:-1])
    return present, former


def _measure(registry: Registry, version: Version, alias: str, metric: str, margin: float) -> Version | None:
    """The version that has the alias now; `RegistryError` if the candidate's figures do not let it take its place."""
    present = _holder(registry, version.name, alias)
    if present and present.number == version.number:
        raise RegistryError(f"{version} is {alias} already")
    if violation := _objection(version, present, alias, metric, margin):
        raise RegistryError(f"{version} does not become {alias}: {violation}")
    return present


def _objection(version: Version, present: Version | None, alias: str, metric: str, margin: float) -> str | None:
    """The reason for which the figures of a version do not let it pass; None if they do."""
    value, protocol = version.metrics.get(metric, math.nan), metric.partition("/")[0]
    if math.isnan(value):
        others = [name for name, other in version.metrics.items() if name.count("/") == 1 and not math.isnan(other)]
        return f"it has no {metric}; it has {', '.join(others) or 'no metrics'}"
    if unknown := [key for key, condition in version.conditions(protocol).items() if condition is None]:
        return f"it does not say under which {' and '.join(unknown)} its {metric} was measured"
    if present is None:
        return None
    if reasons := differences(version, present, protocol):
        lines = "\n".join(f"  {reason}" for reason in reasons)
        return (
            f"its {metric} is not comparable with that of the {alias}, version {present.number}:\n{lines}\n"
            f"train on the same data and view, or remove the alias in MLflow and promote afresh"
        )
    bar = present.metrics.get(metric, math.nan)
    if math.isnan(bar):
        return f"the {alias}, version {present.number}, has no {metric} to compare with; choose another --metric"
    gain = value - bar
    if gain < margin - ROUNDING:
        return (
            f"its {metric} is {value:.4f}, that of the {alias}, version {present.number}, {bar:.4f}: "
            f"{gain:+.4f}, and at least {margin:+.4f} is asked for"
        )
    return None


def _holder(registry: Registry, name: str, alias: str) -> Version | None:
    return next((version for version in registry.versions(name) if alias in version.aliases), None)


def _formers(registry: Registry, name: str, alias: str, present: Version) -> list[str]:
    """Numbers of former versions, without the present one: a command may have been stopped between its two writes."""
    formers = registry.model(name).tags.get(_tag(alias), "").split()
    while formers and formers[-1] == present.number:
        formers.pop()
    return formers


def _remember(registry: Registry, name: str, alias: str, formers: list[str]) -> None:
    registry.client.set_registered_model_tag(name, _tag(alias), " ".join(formers))


def _tag(alias: str) -> str:
    return f"former.{alias}"
