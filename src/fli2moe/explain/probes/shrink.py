"""What a shortlist measured and what its surrogate says, weighed by how well they agreed."""

from __future__ import annotations

import numpy as np

from fli2moe.explain.probes.terms import Values

SURE = 1.96
FAR = 2.5  # standard deviations of disagreement beyond which a pair is believed alone


def shrink(
    measured: Values, error: Values, noise: Values, guessed: Values, doubt: Values
) -> tuple[Values, Values, Values]:
    """Returns (m, H) values between what was measured and what the surrogate says, with errors.

    Third comes (H,) how many times larger than `doubt` the surrogate's errors on the shortlist
    were, at least 1: what is left unmeasured is to be doubted as much.

    The disagreements d of the whole shortlist tell how far the surrogate errs, tau^2 = mean of
    d^2 - noise^2, at least 0. A value is then guess + w d with w = tau^2 / (tau^2 + noise^2): six
    contexts of a pair are not thrown away for one of hundreds of masks that proved right on its
    neighbours, nor the other way round (empirical Bayes; a pair whose d is beyond `FAR` standard
    deviations keeps what was measured: limited translation, Efron and Morris 1972). The error is
    hypot(w error, (1 - w) max(tau', doubt)), tau' at the upper end of a two-sided 95% interval of
    tau. The use of it here is ours.

    Args:
        measured: (m, H) means in fresh contexts.
        error: (m, H) their standard errors.
        noise: (m, H) the part of them that the contexts' variance explains.
        guessed: (m, H) the surrogate's values.
        doubt: (m, H) their standard errors as screened.
    """
    gap = measured - guessed
    excess = gap**2 - noise**2
    unsure = SURE * excess.std(axis=0) / np.sqrt(len(gap))
    tau2 = np.maximum(np.mean(excess, axis=0), 0.0)[None]  # (1, H)
    most = tau2 + unsure
    spread = tau2 + noise**2
    weight = np.divide(tau2, spread, out=np.ones_like(spread), where=spread > 0)
    weight = np.where(gap**2 > FAR**2 * spread, 1.0, weight)
    left = np.where(weight < 1, (1 - weight) * np.maximum(np.sqrt(most), doubt), 0.0)
    scale = np.mean(doubt**2, axis=0)
    worse = np.divide(tau2[0], scale, out=np.ones_like(scale), where=scale > 0)
    inflation: Values = np.sqrt(np.maximum(worse, 1.0))
    return guessed + weight * gap, np.hypot(weight * error, left), inflation
