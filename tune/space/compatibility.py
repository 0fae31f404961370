"""Compatibility of spaces: a space may replace a sweep's former one if the results so far remain valid."""

from __future__ import annotations

from mrqm.config.values import canonical, to_line
from tune.space.schema import Space

FREE = ("description", "budget", "fixed", "keep_trials", "paper", "parameters", "name")
"""Parts that may change, or have a comparison of their own; `fixed` is compared as part of the configuration."""


def find_differences(former: Space, space: Space) -> list[str]:
    """List the differences that make a space incompatible with a sweep, a line for each part.

    Args:
        former: space of the sweep until now.
        space: space of the command.

    Returns:
        Sorted lines, such as `search.algorithm: was tpe, is now random`; empty if the sweep can continue.
    """
    then, now = former.model_dump(mode="json"), space.model_dump(mode="json")
    lines = [
        f"{part}: was {to_line(then[part])}, is now {to_line(now[part])}"
        for part in then
        if part not in FREE and canonical(then[part]) != canonical(now[part])
    ]
    for key in former.parameters.keys() | space.parameters.keys():
        old, new = former.parameters.get(key), space.parameters.get(key)
        if old is None or new is None:
            lines.append(f"parameters.{key}: {'added' if old is None else 'removed'}")
        elif not new.contains(old):
            lines.append(f"parameters.{key}: was {old.describe()}, is now {new.describe()}")
    return sorted(lines)
