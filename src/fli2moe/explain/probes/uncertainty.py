"""Standard errors of means over few contexts, which rare events would otherwise make too small."""

from __future__ import annotations

import numpy as np

from fli2moe.explain.probes.terms import Values

RANGE_FACTOR = 3.0 / 1.96
"""Rule of three: what was not seen in n contexts has probability up to 3 / n at 95%; 1.96 standard
errors are to cover it."""
NOTHING = 1e-6  # a range below this share of the widest one is rounding of 32-bit floats


def standard_error(terms: Values, per_unit: int, *ranges: Values) -> Values:
    """Returns the standard error of the mean of `terms` (n, ...) over its first axis.

        SE^2 = s^2 / U + (RANGE_FACTOR R / n)^2

    s^2 is the sample variance of the U independent units (the mean of an antithetic pair of
    contexts, or one context); with one unit only the second term is left. R is the first of
    `ranges` that is not zero up to rounding. The second term has the shape of the empirical
    Bernstein bound (Maurer and Pontil 2009, 7 R log(2 / delta) / 3 (n - 1)) with our smaller
    constant, because theirs exceeds R itself for every n below 8; the combination is our
    definition. NaN where no range is known: nothing ever varied.

    Args:
        terms: (n, ...), n contexts in order, those of a unit side by side.
        per_unit: 1 or 2 contexts in an independent unit.
        ranges: of one term, known or observed, narrowest first, each broadcast to the result.
    """
    n = len(terms)
    units = n // per_unit
    span = np.zeros(terms.shape[1:])
    for wider in ranges:
        span = np.where(span <= NOTHING * ranges[-1], wider, span)
    error: Values = RANGE_FACTOR / n * span
    if units > 1:
        means = terms.reshape(units, per_unit, *terms.shape[1:]).mean(axis=1)
        error = np.hypot(error, np.sqrt(means.var(axis=0, ddof=1) / units))
    return np.where(error > 0, error, np.nan)


def observed_range(terms: Values) -> Values:
    """Returns the range of `terms` (n, ...) over its first axis, 0 included."""
    span: Values = np.maximum(terms.max(axis=0), 0.0) - np.minimum(terms.min(axis=0), 0.0)
    return span
