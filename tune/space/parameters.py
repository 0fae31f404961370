"""The parameters of a space: the values of a searched key, as choices or as a range."""

from __future__ import annotations

import math
import random
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from mrqm.config import Section
from mrqm.config.values import as_number, canonical, read_numbers, to_line
from tune.space.expressions import Expression

Value: TypeAlias = bool | int | float | str | None
Choice: TypeAlias = Value | tuple[Value, ...] | dict[str, Any]
Range = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]
IntRange = Annotated[tuple[int, int], Field(min_length=2, max_length=2)]


class Parameter(Section):
    """One searched key: exactly one of choice, uniform, loguniform, int and logint."""

    choice: Annotated[tuple[Choice, ...], Field(min_length=1)] | None = None
    """Values to choose from: numbers, words, null, lists or whole sections, which replace the configured one."""
    uniform: Range | None = None
    """Numbers from the lowest to the highest, with uniform density."""
    loguniform: Range | None = None
    """Numbers from the lowest to the highest, with uniform density of their logarithms."""
    int: IntRange | None = None
    """Whole numbers from the lowest to the highest, both included."""
    logint: IntRange | None = None
    """Whole numbers from the lowest to the highest, with uniform density of their logarithms."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance between the values of `uniform` or `int`."""
    when: str | None = None
    """Comparison of other keys; the key is searched where it is true, and keeps its configured value elsewhere."""

    @field_validator("choice", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, choices: Any) -> Any:
        return read_numbers(choices)

    @field_validator("when")
    @classmethod
    def _is_a_comparison(cls, text: str | None) -> str | None:
        if text is not None:
            Expression(text)
        return text

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        kinds = [
            name for name in ("choice", "uniform", "loguniform", "int", "logint") if getattr(self, name) is not None
        ]
        if len(kinds) != 1:
            raise ValueError(
                f"exactly one of choice, uniform, loguniform, int, logint is needed, got {kinds or 'none'}"
            )
        if self.step is not None and not (self.uniform or self.int):
            raise ValueError("step belongs to uniform or int")
        if self.int and self.step is not None and self.step % 1:
            raise ValueError(f"step={self.step} of an int must be a whole number")
        if self.choice is None and not self.low < self.high:
            raise ValueError(f"{kinds[0]}={[self.low, self.high]} must be [least, most]")
        if (self.loguniform or self.logint) and self.low <= 0:
            raise ValueError(f"{kinds[0]}={[self.low, self.high]} must be above 0")
        return self

    @property
    def is_log(self) -> bool:
        """True for a range on a logarithmic scale."""
        return bool(self.loguniform or self.logint)

    @property
    def is_integer(self) -> bool:
        """True for a range of whole numbers."""
        return bool(self.int or self.logint)

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value of a range."""
        found = self.uniform or self.loguniform or self.int or self.logint
        assert found is not None, "choices have no range"
        return found

    @property
    def low(self) -> float:
        """Lowest value of a range."""
        return self.range[0]

    @property
    def high(self) -> float:
        """Highest value of a range."""
        return self.range[1]

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All choices, or both ends of a range; a configuration that allows these allows the values between."""
        return self.choice if self.choice is not None else self.range

    @property
    def grid(self) -> tuple[Any, ...] | None:
        """All values; None if there are infinitely many."""
        if self.choice is not None:
            return self.choice
        if self.int or (self.uniform and self.step):
            step = self.step or 1
            count = int((self.high - self.low) / step + 1e-9) + 1
            values = (self.low + index * step for index in range(count))
            return tuple(round(value) if self.is_integer else float(f"{value:.12g}") for value in values)
        return None

    def own(self, value: Any) -> Any:
        """Convert a value that was read from JSON or text to this parameter's equal value.

        Raises:
            LookupError: the parameter has no such value.
        """
        number = as_number(value)
        if self.choice is not None:
            wanted = canonical(value)
            for own in self.choice:
                if canonical(own) == wanted:
                    return own
        elif number is not None and self.low <= number <= self.high:
            nearest = self._nearest(number)
            if math.isclose(nearest, number, rel_tol=1e-9):
                return nearest
        raise LookupError(f"{to_line(value)} is not one of {self.describe()}")

    def _nearest(self, number: float) -> float:
        """Return the value of a range that is closest to a number in it."""
        step = self.step or (1 if self.int else None)
        if step is not None:
            number = self.low + round((number - self.low) / step) * step
        return round(number) if self.is_integer else float(f"{number:.12g}") if step else number

    def quantize(self, value: Any) -> Any:
        """Round a number of a range to four significant digits, or to the nearest value of a grid."""
        if not isinstance(value, float) or self.choice is not None:
            return value
        if self.grid is not None:
            return self._nearest(value)
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    def draw(self, generator: random.Random) -> Any:
        """Draw a random value."""
        if self.grid is not None:
            return generator.choice(self.grid)
        if not self.is_log:
            return self.quantize(generator.uniform(self.low, self.high))
        if self.is_integer:
            return round(math.exp(generator.uniform(math.log(self.low - 0.5), math.log(self.high + 0.499))))
        return self.quantize(math.exp(generator.uniform(math.log(self.low), math.log(self.high))))

    def move(self, value: Any, generator: random.Random) -> Any:
        """Perturb a value: to a neighbour in a grid, or by a fifth in a range.

        Args:
            value: value of this parameter.
            generator: random generator.

        Returns:
            A value of this parameter.
        """
        if self.grid is not None:
            index = self.grid.index(self.own(value)) + generator.choice((-1, 1))
            return self.grid[min(max(index, 0), len(self.grid) - 1)]
        moved = min(max(value * generator.choice((0.8, 1.2)), self.low), self.high)
        return round(moved) if self.is_integer else self.quantize(moved)

    def contains(self, other: Parameter) -> bool:
        """Tell if this parameter has every value of another, so that trials of the other remain valid."""
        if self._kind != other._kind:
            return False
        if self.grid is not None and other.grid is not None and not (self.int and self.step is None):
            return {canonical(value) for value in other.grid} <= {canonical(value) for value in self.grid}
        return self.low <= other.low and other.high <= self.high

    @property
    def _kind(self) -> tuple[Any, ...]:
        """Everything about the parameter but its values."""
        return self.when, self.choice is None, self.is_log, self.is_integer, self.step

    def describe(self) -> str:
        """Describe the parameter in a few words."""
        if self.choice is not None:
            text = " | ".join(to_line(value) for value in self.choice)
        else:
            kind = "int " if self.is_integer else ""
            text = f"{kind}{self.low:g} … {self.high:g}" + (" log" if self.is_log else "")
            text += f" step {self.step:g}" if self.step else ""
        return f"{text}, when {self.when}" if self.when else text
