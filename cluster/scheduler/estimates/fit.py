"""A small least-squares fit that forgets: how measured times grow with what was asked for.

Samples are weighted by the inverse of their squared size, so that the error that counts is the relative one,
and by their age. Coefficients are never negative: more work does not take less time. A sample far above what
the fit expects is taken for an accident (a collector's pause, a neighbour on the core) and left out, unless
the next ones say the same: then it is the world that has changed.
"""

from collections.abc import Sequence as Seq

OUTLIER = 3.0
"""A sample so many times larger than expected is an accident, ..."""
MOST_OUTLIERS = 5
"""... unless this many came in a row."""
TRUSTED_AFTER = 16
"""Samples before any of them can be an outlier."""
RIDGE = 1e-3
"""Pull of the coefficients towards zero, relative to the samples: what was never varied stays without effect."""


class DecayedFit:
    """``y = sum(c[i] * x[i])`` over recent samples, with all c[i] >= 0."""

    def __init__(self, size: int, decay: float) -> None:
        """Fit ``size`` coefficients; a sample's weight falls by the factor ``decay`` with each later one."""
        self._decay = decay
        self._products = [[0.0] * size for _ in range(size)]
        self._moments = [0.0] * size
        self._coefficients: list[float] | None = None
        self._outliers = 0
        self.count = 0
        """Samples taken so far, outliers aside."""

    def add(self, x: Seq[float], y: float) -> bool:
        """Take a sample; False where it was left out. Samples of zero or less are never taken."""
        if y <= 0 or self._is_accident(x, y):
            return False
        weight = 1.0 / (y * y)
        for i, row in enumerate(self._products):
            for j in range(len(row)):
                row[j] = row[j] * self._decay + weight * x[i] * x[j]
            self._moments[i] = self._moments[i] * self._decay + weight * x[i] * y
        self._coefficients = None
        self.count += 1
        return True

    def predict(self, x: Seq[float]) -> float:
        """Return the expected y; 0 before the first sample."""
        return sum(c * value for c, value in zip(self.coefficients(), x, strict=True))

    def coefficients(self) -> list[float]:
        """Return the non-negative coefficients of the present fit."""
        if self._coefficients is None:
            self._coefficients = _non_negative(self._products, self._moments)
        return self._coefficients

    def _is_accident(self, x: Seq[float], y: float) -> bool:
        if self.count < TRUSTED_AFTER or y <= OUTLIER * self.predict(x):
            self._outliers = 0
            return False
        self._outliers += 1
        return self._outliers <= MOST_OUTLIERS


def _non_negative(products: list[list[float]], moments: list[float]) -> list[float]:
    """Solve the ridged normal equations; a coefficient that comes out negative is dropped, one at a time."""
    free = [i for i, row in enumerate(products) if row[i] > 0]
    solution = [0.0] * len(moments)
    while free:
        values = _solve([[products[i][j] for j in free] for i in free], [moments[i] for i in free])
        lowest = min(range(len(free)), key=lambda k: values[k])
        if values[lowest] >= 0:
            for i, value in zip(free, values, strict=True):
                solution[i] = value
            break
        del free[lowest]
    return solution


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination on a small symmetric matrix, scaled to a unit diagonal and ridged."""
    scale = [row[i] ** -0.5 for i, row in enumerate(matrix)]
    size = len(right)
    rows = [
        [matrix[i][j] * scale[i] * scale[j] + (RIDGE if i == j else 0.0) for j in range(size)] + [right[i] * scale[i]]
        for i in range(size)
    ]
    for k in range(size):
        for i in range(k + 1, size):
            factor = rows[i][k] / rows[k][k]
            for j in range(k, size + 1):
                rows[i][j] -= factor * rows[k][j]
    values = [0.0] * size
    for k in reversed(range(size)):
        known = sum(rows[k][j] * values[j] for j in range(k + 1, size))
        values[k] = (rows[k][size] - known) / rows[k][k]
    return [value * factor for value, factor in zip(values, scale, strict=True)]
