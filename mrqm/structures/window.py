"""A window of an image."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """Rectangle of an image in whole px."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height
