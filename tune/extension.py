"""Whether a sweep may go on with a changed space: only if all it learned still counts."""

from __future__ import annotations

from pathlib import Path

from tune.space import Space, SpaceError, load_space

FREE = ("about", "budget", "keep_trials", "paper", "parameters", "name")
"""Parts that may change, or are looked at more closely."""


def keep_space(folder: Path, space: Space) -> None:
    """Remember the space of a sweep in its folder.

    Raises:
        SpaceError: the folder has another one, and the sweep cannot go on with this one; the message says what differs.
    """
    path = folder / "space.yaml"
    if path.is_file():
        former = load_space(path)
        if differences := find_differences(former, space):
            raise SpaceError(
                "\n".join([f"{folder} is a sweep of another space:", *(f"  {line}" for line in differences)])
                + "\nonly more trials, hours and wider ranges extend a sweep; give the space another `name`, or remove "
                f"{folder}"
            )
    path.write_text(space.to_yaml())


def find_differences(former: Space, space: Space) -> list[str]:
    """What makes a space another one, a line for each part."""
    then, now = former.model_dump(mode="json"), space.model_dump(mode="json")
    lines = [
        f"{part}: {then[part]} there, {now[part]} now" for part in then if part not in FREE and then[part] != now[part]
    ]
    for key in former.parameters.keys() | space.parameters.keys():
        old, new = former.parameters.get(key), space.parameters.get(key)
        if old is None or new is None:
            lines.append(f"parameters.{key}: only {'now' if old is None else 'there'}")
        elif not new.contains(old):
            lines.append(f"parameters.{key}: {old.describe()} there, {new.describe()} now")
    return sorted(lines)
