"""Promotion: an alias moves only to a better version that works, and can be moved back.

MLflow has no lock: of two concurrent promotions, the later write stays. A candidate is therefore compared again with
the version that has the alias after its smoke test, which takes seconds, and a promotion that was overwritten fails.

A registered model stores the former versions of an alias in the tag `former.ALIAS`: version numbers, the oldest first.
"""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import count

from mrqm.structures.metric import Metric, read_metrics
from pipelines.registry.client import Registry, RegistryError
from pipelines.registry.model_files import place_of
from pipelines.registry.model_version import Version, differences
from pipelines.registry.smoke_test import try_model


def promote(registry: Registry, version: Version, alias: str, metric: str, margin: float) -> Version | None:
    """Move an alias to a version that is better, by comparable metrics, and works.

    Args:
        registry: registry that has the version.
        version: candidate.
        alias: name of the alias, such as `champion`.
        metric: metric to compare, such as `coco/AP`.
        margin: minimum improvement of the metric.

    Returns:
        The previous version of the alias; None if there was none.

    Raises:
        RegistryError: the margin is not finite; the version is not better, not comparable or does not work; or the
            alias changed meanwhile.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise RegistryError(f"--margin {margin}: expected a minimum improvement of {metric}, such as 0.01")
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
            f"{version} was {alias} only briefly: another process "
            f"{f'made version {winner.number} {alias}' if winner else f'removed the alias {alias}'} at the same time; "
            f"compare the two, and promote again to keep this one"
        )
    return present


def roll_back(registry: Registry, name: str, alias: str) -> tuple[Version, Version]:
    """Move an alias back to its previous version.

    Args:
        registry: registry that has the model.
        name: name of the model.
        alias: name of the alias.

    Returns:
        The version that had the alias, and the one that has it now.

    Raises:
        RegistryError: there is no such model or alias, or no former version, or it is deleted.
    """
    present = registry.find(f"{name}@{alias}")
    formers = _formers(registry, name, alias, present)
    if not formers:
        raise RegistryError(f"{present} is the first {alias}: there is no former one to return to")
    former = next((version for version in registry.versions(name) if version.number == formers[-1]), None)
    if former is None:
        raise RegistryError(f"{name} version {formers[-1]}, the former {alias}, is deleted; promote another version")
    registry.client.set_registered_model_alias(name, alias, former.number)
    _remember(registry, name, alias, formers[:-1])
    return present, former


def _measure(registry: Registry, version: Version, alias: str, metric: str, margin: float) -> Version | None:
    """Return the version that has the alias; raise `RegistryError` if the candidate is not measurably better."""
    present = _holder(registry, version.name, alias)
    if present and present.number == version.number:
        raise RegistryError(f"{version} is already {alias}")
    if violation := _violation(version, present, alias, metric, margin):
        raise RegistryError(f"{version} does not become {alias}: {violation}")
    return present


def _violation(version: Version, present: Version | None, alias: str, metric: str, margin: float) -> str | None:
    """Return the reason why the metrics of a version do not allow its promotion; None if they do."""
    candidate = Metric.parse(metric, version.metrics.get(metric, math.nan))
    if not candidate.is_known:
        others = [each.key for each in read_metrics(version.metrics) if each.class_name is None and each.is_known]
        return f"it has no {metric}; it has {', '.join(others) or 'no metrics'}"
    if unknown := [key for key, condition in version.conditions(candidate.protocol).items() if condition is None]:
        return f"its {metric} was measured under unknown {' and '.join(unknown)}"
    if present is None:
        return None
    if reasons := differences(version, present, candidate.protocol):
        lines = "\n".join(f"  {reason}" for reason in reasons)
        return (
            f"its {metric} is not comparable with that of the {alias}, version {present.number}:\n{lines}\n"
            f"train on the same data and view, or remove the alias in MLflow and promote again"
        )
    bar = Metric.parse(metric, present.metrics.get(metric, math.nan))
    if not bar.is_known:
        return f"the {alias}, version {present.number}, has no {metric} to compare with; choose another --metric"
    gain = candidate.gain_over(bar)
    asked = Decimal(str(margin))
    if gain < asked:
        digits = next(digits for digits in count(4) if round(gain, digits) < asked)
        return (
            f"its {metric} is {candidate.value:.4f}, that of the {alias}, version {present.number}, {bar.value:.4f}: "
            f"{gain:+.{digits}f}, and at least {margin:+.4f} is required"
        )
    return None


def _holder(registry: Registry, name: str, alias: str) -> Version | None:
    return next((version for version in registry.versions(name) if alias in version.aliases), None)


def _formers(registry: Registry, name: str, alias: str, present: Version) -> list[str]:
    """Read the numbers of former versions, without the present one, which an interrupted command may have added."""
    formers = registry.model(name).tags.get(_tag(alias), "").split()
    while formers and formers[-1] == present.number:
        formers.pop()
    return formers


def _remember(registry: Registry, name: str, alias: str, formers: list[str]) -> None:
    registry.client.set_registered_model_tag(name, _tag(alias), " ".join(formers))


def _tag(alias: str) -> str:
    return f"former.{alias}"
