"""Least squares of one part of a design on the terms chosen so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from fli2moe.explain.probes.design import Signs, Term, products
from fli2moe.explain.probes.terms import Values

RIDGE = 1e-9  # of the diagonal: keeps the normal equations defined when two terms coincide


class Regression:
    """One part, the terms in it, their coefficients and what is left over.

    Args:
        chi: (U, P) signs of the masks.
        y: (U,) the part's values.
        constant: whether a constant belongs to the part.
    """

    def __init__(self, chi: Signs, y: Values, constant: bool) -> None:
        self.chi, self.y = chi, y
        self.terms: list[Term] = [()] if constant else []
        self._x: Signs = products(chi, self.terms)
        self._gram: Values = (self._x.T @ self._x).astype(np.float64)
        self._fit()

    @property
    def freedom(self) -> int:
        """Masks less terms."""
        return len(self.y) - len(self.terms)

    @property
    def exact(self) -> bool:
        """Whether nothing is left over, up to rounding."""
        scale = float(np.abs(self.y).max(initial=0.0))
        return self.sigma <= 1e-6 * scale or scale == 0.0

    def add(self, terms: Sequence[Term]) -> None:
        """Adds terms and fits again."""
        new = products(self.chi, terms)
        cross = (self._x.T @ new).astype(np.float64)
        own = (new.T @ new).astype(np.float64)
        self._gram = np.block([[self._gram, cross], [cross.T, own]])
        self._x = np.concatenate([self._x, new], axis=1)
        self.terms = [*self.terms, *terms]
        self._fit()

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Keeps the terms where `rows` (K,) is True and fits again."""
        self.terms = [term for term, kept in zip(self.terms, rows, strict=True) if kept]
        self._x, self._gram = self._x[:, rows], self._gram[np.ix_(rows, rows)]
        self._fit()

    def z(self, correlations: Values) -> Values:
        """Returns sums of residual times feature in units of their standard deviation."""
        lost = np.sqrt(len(self.y) / max(self.freedom, 1))
        scores: Values = correlations * (lost / (self.sigma * np.sqrt(len(self.y)) + 1e-300))
        return scores

    def t(self) -> Values:
        """Returns (K,) the t statistic of every term."""
        scores: Values = self.coefficients / (self.sigma * np.sqrt(np.diag(self.inverse)) + 1e-300)
        return scores

    def jackknife(self, weights: Values) -> Values:
        """Returns (m,) delete-one jackknife standard errors of `weights` (m, K) @ coefficients.

        Each mask is left out together with its flips; closed form for least squares:
        the coefficients move by (X'X)^-1 x_u r_u / (1 - h_u).
        """
        if not len(self.terms):
            return np.zeros(len(weights))
        x = self._x.astype(np.float64)
        half = x @ self.inverse  # (U, K)
        left = 1.0 - np.einsum("uk,uk->u", half, x)
        moved = half * (self.residual / np.maximum(left, 1e-3))[:, None]
        shifts = weights @ moved.T  # (m, U)
        error: Values = np.sqrt((len(x) - 1) / len(x) * np.sum(shifts**2, axis=1))
        return error

    def _fit(self) -> None:
        if not self.terms:
            self.inverse, self.coefficients = np.zeros((0, 0)), np.zeros(0)
            self.residual = self.y
        else:
            k = len(self.terms)
            factor = cho_factor(self._gram + RIDGE * len(self.y) * np.eye(k))
            self.inverse = cho_solve(factor, np.eye(k))
            self.coefficients = self.inverse @ (self._x.T @ self.y)
            self.residual = self.y - self._x @ self.coefficients
        self.sigma = float(np.sqrt(np.sum(self.residual**2) / max(self.freedom, 1)))
