"""What a shortlist measured and what its surrogate says, weighed by how well they agreed."""

from __future__ import annotations

import numpy as np

from fli2moe.explain.probes.terms import Values

FAR = 2.5  # standard deviations of disagreement beyond which a pair is believed alone


def shrink(
    measured: Values, error: Values, noise: Values, guessed: Values, doubt: Values
) -> tuple[Values, Values, Values]:
    """Returns (m, H) values between what was measured and what the surrogate says, with errors.

    Third comes (H,) how many times larger than `doubt` the surrogate's errors on the shortlist
    were, at least 1: what is left unmeasured is to be doubted as much.

    The disagreements d of the whole shortlist bound how far the surrogate errs: tau^2, their mean
    square, holds the noise of measuring too. A value is guess + w d, w = tau^2 / (tau^2 + noise^2):
    where only noise speaks against the surrogate they meet halfway, where it errs what was measured
    stands (empirical Bayes; a pair whose d is beyond `FAR` standard deviations keeps what was
    measured: limited translation, Efron and Morris 1972). The error is
    hypot(error, (1 - w) max(tau, doubt)), never less than the contexts' own: six that agree may
    have missed what seldom happens, and a surrogate that missed it too is no second witness. The
    use of all this here is ours.

    Args:
        measured: (m, H) means in fresh contexts.
        error: (m, H) their standard errors.
        noise: (m, H) the part of them that the contexts' variance explains.
        guessed: (m, H) the surrogate's values.
        doubt: (m, H) their standard errors as screened.
    """
    gap = measured - guessed
    tau2 = np.mean(gap**2, axis=0)[None]  # (1, H)
    spread = tau2 + noise**2
    weight = np.divide(tau2, spread, out=np.ones_like(spread), where=spread > 0)
    weight = np.where(gap**2 > FAR**2 * spread, 1.0, weight)
    left = np.where(weight < 1, (1 - weight) * np.maximum(np.sqrt(tau2), doubt), 0.0)
    wrong = np.maximum(np.mean(gap**2 - noise**2, axis=0), 0.0)
    scale = np.mean(doubt**2, axis=0)
    worse = np.divide(wrong, scale, out=np.ones_like(scale), where=scale > 0)
    inflation: Values = np.sqrt(np.maximum(worse, 1.0))
    combined = np.hypot(error, left)
    return guessed + weight * gap, combined, inflation
