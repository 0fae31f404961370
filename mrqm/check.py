"""Results of preflight checks: every layer contributes some, and `mrqm plan` prints all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: title of the check, such as `data train`.
        status: `error` if a training would be refused or fail, `warning` if it would run with a risk.
        finding: observed state or fault.
        remedy: advice to the user; empty if there is nothing to do.
    """

    name: str
    status: Status
    finding: str
    remedy: str = ""

    @classmethod
    def refused(cls, name: str, error: Exception) -> Self:
        """Turn the error that would refuse a training into a failed check.

        The last sentence or line of a message is its remedy, unless the message lists several faults.

        Args:
            name: title of the check.
            error: error of a user, such as a `DataError`.

        Returns:
            A check of status `error`.
        """
        text = str(error)
        finding, separator, remedy = text.rpartition("\n" if "\n" in text else "; ")
        if not separator or remedy.startswith(" "):  # a list of faults, each with its own remedy
            return cls(name, "error", text)
        return cls(name, "error", finding, remedy)


def check(name: str, inspect: Callable[[], str]) -> Check:
    """Run one check and catch the error that a training would be refused with.

    Args:
        name: title of the check.
        inspect: function that describes the observed state, or raises `ValueError` or `OSError` if it is unusable.

    Returns:
        A check of status `ok` or `error`.
    """
    try:
        return Check(name, "ok", inspect())
    except (ValueError, OSError) as error:
        return Check.refused(name, error)
