"""What a check found: `mrqm plan` asks every layer for some and shows all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what it was, such as `data train`.
        status: `error` if a training would be refused or fail, `warning` if it would run and may disappoint.
        finding: what was found.
        remedy: what to do about it; empty if nothing.
    """

    name: str
    status: Status
    finding: str
    remedy: str = ""

    @classmethod
    def refused(cls, name: str, error: Exception) -> Self:
        """What a training would be refused with: a message says what is wrong, and then what to do."""
        text = str(error)
        finding, separator, remedy = text.rpartition("\n" if "\n" in text else "; ")
        if not separator or remedy.startswith(" "):  # a list of faults, each with its own remedy
            return cls(name, "error", text)
        return cls(name, "error", finding, remedy)


def check(name: str, look: Callable[[], str]) -> Check:
    """`ok` with what was found, or the error that a training would be refused with.

    Args:
        name: of the check.
        look: says what is there; raises `ValueError` or `OSError` if that is of no use.
    """
    try:
        return Check(name, "ok", look())
    except (ValueError, OSError) as error:
        return Check.refused(name, error)
