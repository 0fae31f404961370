"""A surrogate table with the AP of every configuration of a grid after every epoch, from the runs of search_table.py.

A configuration that was trained has its measured AP. The others have the value of a quadratic function of the searched
keys, which is fitted to the trained ones epoch by epoch, plus the leave-one-out error of a random trained one, so that
they scatter as real runs do.
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
"""Addend to the diagonal of the normal equations, for keys that are scaled to -1 … 1."""


class Surrogate:
    """A table of results.

    Args:
        grid: all configurations, as values by dotted key.
        rows: results of the trained configurations.

    Attributes:
        epochs: epochs of each configuration.
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
        """Return the number of a configuration in the grid."""
        return self._index[frozenset(params.items())]

    def curve(self, params: dict[str, Any]) -> Array:
        """Return a configuration's AP after each epoch (E,)."""
        return self._ap[self.index(params)]

    @property
    def highest(self) -> Array:
        """Best AP of each configuration (C,)."""
        return self._ap.max(axis=1)


def scaled(grid: Sequence[dict[str, Any]]) -> Array:
    """Scale the values of the keys to -1 … 1 (C, K)."""
    values = np.array([list(params.values()) for params in grid], dtype=float)
    least, most = values.min(axis=0), values.max(axis=0)
    return (2 * values - least - most) / (most - least)


def quadratic(values: Array) -> Array:
    """Make features (C, F): one, keys, products and squares, without the constant squares of keys with two values."""
    keys = range(values.shape[1])
    products = [values[:, i] * values[:, j] for i, j in itertools.combinations_with_replacement(keys, 2)]
    columns = [np.ones(len(values)), *values.T, *products]
    return np.stack([column for n, column in enumerate(columns) if n == 0 or np.ptp(column) > 0], axis=1)


def ridge(features: Array) -> Array:
    """Compute the ridge regression's matrix (F, N), which maps results to coefficients."""
    weights = RIDGE * np.eye(features.shape[1])
    weights[0, 0] = 0.0
    solution: Array = np.linalg.solve(features.T @ features + weights, features.T)
    return solution


def left_out_errors(features: Array, fit: Array, measured: Array) -> Array:
    """Compute leave-one-out errors, measured less fitted (N, E).

    Args:
        features: features of the trained configurations (N, F).
        fit: matrix of the fit (F, N).
        measured: AP after each epoch (N, E).

    Returns:
        Errors (N, E).
    """
    hat = features @ fit
    errors: Array = (measured - hat @ measured) / (1 - np.diag(hat))[:, None]
    return errors
