"""AP of every configuration of a grid after every epoch, from the runs of search_table.py.

A configuration that was trained has the AP that was measured. The others have what a quadratic function of the searched
keys, fitted to the trained ones epoch by epoch, says, plus the error that the fit makes for a trained one, drawn at
random, when that one is left out: so they scatter as real runs do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_table import Row

Array = NDArray[np.float64]
RIDGE = 0.1
"""What is added to the diagonal of the normal equations: keys are scaled to -1 … 1."""


class Surrogate:
    """A table of results.

    Args:
        grid: every configuration.
        rows: those that were trained.

    Attributes:
        epochs: of each.
        expected: best AP of each configuration by the fit alone (C,).
        best: highest AP of the table.
        r2: share of the variance of best APs that the fit explains in configurations it was not fitted to.
    """

    def __init__(self, grid: Sequence[dict[str, Any]], rows: Sequence[Row]) -> None:
        features = quadratic(scaled(grid))
        self._index = {frozenset(params.items()): number for number, params in enumerate(grid)}
        trained = [self.index(row["params"]) for row in rows]
        measured = np.array([row["ap"] for row in rows])  # (N, E)
        fit = ridge(features[trained])
        errors = left_out_errors(features[trained], fit, measured)
        fitted = features @ (fit @ measured)  # (C, E)
        self.epochs = measured.shape[1]
        self.expected: Array = fitted.max(axis=1)
        drawn = np.random.default_rng(0).integers(len(rows), size=len(grid))
        self._ap = np.maximum(fitted + errors[drawn], 0.0)
        self._ap[trained] = measured
        self.best = float(self._ap.max())
        best = measured.max(axis=1)
        missed = (measured - errors).max(axis=1) - best
        self.r2 = 1 - float((missed**2).sum() / ((best - best.mean()) ** 2).sum())

    def index(self, params: dict[str, Any]) -> int:
        """The number of a configuration in the grid."""
        return self._index[frozenset(params.items())]

    def curve(self, params: dict[str, Any]) -> Array:
        """Its AP after each epoch (E,)."""
        return self._ap[self.index(params)]

    @property
    def highest(self) -> Array:
        """Best AP of each configuration (C,)."""
        return self._ap.max(axis=1)


def scaled(grid: Sequence[dict[str, Any]]) -> Array:
    """Values of the keys from -1 to 1 (C, K)."""
    values = np.array([list(params.values()) for params in grid], dtype=float)
    least, most = values.min(axis=0), values.max(axis=0)
    return (2 * values - least - most) / (most - least)


def quadratic(values: Array) -> Array:
    """One, the keys, their products and their squares, but for keys of two values, whose squares are one (C, F)."""
    keys = range(values.shape[1])
    products = [values[:, i] * values[:, j] for i, j in itertools.combinations_with_replacement(keys, 2)]
    columns = [np.ones(len(values)), *values.T, *products]
    return np.stack([column for n, column in enumerate(columns) if n == 0 or np.ptp(column) > 0], axis=1)


def ridge(features: Array) -> Array:
    """The matrix that makes coefficients of results (F, N)."""
    weights = RIDGE * np.eye(features.shape[1])
    weights[0, 0] = 0.0
    solution: Array = np.linalg.solve(features.T @ features + weights, features.T)
    return solution


def left_out_errors(features: Array, fit: Array, measured: Array) -> Array:
    """Measured less fitted, if each run were left out of the fit (N, E)."""
    hat = features @ fit
    errors: Array = (measured - hat @ measured) / (1 - np.diag(hat))[:, None]
    return errors
