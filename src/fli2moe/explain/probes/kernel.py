"""A smooth surrogate: Gaussian-process regression over coalitions, with a relevance per player.

Networks spread small interactions of several orders over the players that matter, where a sparse
expansion fits badly. The prior of a Fourier coefficient c_T is normal with variance
tau_|T| * prod_{i in T} a_i: a variance for each order up to four, a relevance a_i for each player
(automatic relevance determination, Neal 1996). So k(z, z') = sum over d of tau_d e_d(x), with e_d
the elementary symmetric polynomial of x_i = a_i chi_i chi'_i, and every score that is linear in
the coefficients has a closed-form posterior. All hyperparameters maximise the marginal likelihood
of some of the masks. The kernel is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.explain.probes.design import Design, Parity
from fli2moe.explain.probes.terms import Values
from fli2moe.explain.probes.uncertainty import RANGE_FACTOR

TUNED_ON = 320  # masks that the hyperparameters are fitted to: their cost grows with the cube
STEPS = 30  # of L-BFGS
FEWER_STEPS = 10  # from the hyperparameters of another head
WIDE = 0.05  # weight of the squares of log relevances: a prior of standard deviation 3.2
JITTER = 1e-6  # of the variance, added to the noise
ABSORBED = 2.0  # what masks away from 1/2 hide of six-way effects in lower orders (ORs of six)
PAIRS_AT_ONCE = 512
ROWS_AT_ONCE = 128  # predictions whose kernel stays in the processor's cache
EVEN, ODD = (2, 4), (1, 3)
START = (0.6, 0.2, 0.02)  # shares of the variance to begin with


@dataclass(frozen=True, eq=False)
class Process:
    """The posterior of one parity.

    Attributes:
        orders: that the kernel holds.
        relevance: (P,) a_i, mean one.
        variance: tau_d of each order.
        shares: (3,) of the variance of the values: of both orders, and of noise.
        mean: of the values.
        dual: (U,) K^-1 (y - mean).
        factor: (U, U) lower Cholesky factor of K.
    """

    orders: tuple[int, int]
    relevance: Values
    variance: Values
    shares: Values
    mean: float
    dual: Values
    factor: Values

    def kernel(self, chi: Values, other: Values) -> Values:
        """(N, M) covariance of the values of two sets of masks."""
        table = _kernel(
            torch.from_numpy(chi),
            torch.from_numpy(other),
            torch.from_numpy(self.relevance),
            torch.from_numpy(self.variance),
            self.orders,
        )
        result: Values = table.numpy()
        return result


class KernelSurrogate:
    """The posterior mean of both parities of an antithetic design; see the module.

    Args:
        design: antithetic masks (one group).
        head: column of the values.
        seed: of the choice of masks that tune the hyperparameters.
        like: of another head, whose hyperparameters to start from.
    """

    def __init__(
        self, design: Design, head: int, seed: int = 0, like: KernelSurrogate | None = None
    ) -> None:
        self.design, self.head = design, head
        self.chi: Values = design.chi.astype(np.float64)
        tuned = np.random.default_rng(seed).permutation(design.units)[:TUNED_ON]
        values: dict[Parity, Values] = {p: v[:, head] for p, v in design.parts.items()}
        even, odd = (None, None) if like is None else (like.even, like.odd)
        self.even: Process = _regress(self.chi, values[(0,)], EVEN, tuned, even)
        self.odd: Process = _regress(self.chi, values[(1,)], ODD, tuned, odd)

    def interactions(self, pairs: NDArray[np.int64], law: str) -> tuple[Values, Values]:
        """See `Surrogate.interactions`.

        Errors are of the posterior, with a range term, and as if all that is wrong about masks left
        out were the next even order: coefficients of six players, which the kernel does not hold.
        The last two are ours.
        """
        process, a = self.even, self.even.relevance
        pair, quadruple, sextuple = _per_coefficient(law)
        variance = np.zeros(len(pairs))
        inverse = np.linalg.inv(process.factor)  # one triangular inverse serves all pairs
        left_out = process.dual / np.sum(inverse**2, axis=0)  # (U,) errors of each mask left out
        higher = ABSORBED**2 * float(np.mean(left_out**2))
        for rows, covariance in self._covariances(pairs, law):
            i, j = pairs[rows].T
            squares = float(a @ a) - a[i] ** 2 - a[j] ** 2
            others = ((float(a.sum()) - a[i] - a[j]) ** 2 - squares) / 2  # e_2 of the others
            prior = pair**2 * process.variance[0] + quadruple**2 * process.variance[1] * others
            explained = np.sum((inverse @ covariance) ** 2, axis=0)
            variance[rows] = np.maximum(a[i] * a[j] * prior - explained, 0.0)
            variance[rows] += sextuple**2 * higher * _share_of_sixes(a, pairs[rows])
        left = self.design.parts[(0,)][:, self.head] - self._predict(process, self.chi)
        rare = 4 * RANGE_FACTOR / (2 * self.design.units) * float(np.ptp(left))
        return self.expected(pairs, law), np.hypot(np.sqrt(variance), rare)

    def expected(self, pairs: NDArray[np.int64], law: str) -> Values:
        """See `Surrogate.expected`: the posterior mean is that game."""
        found: Values = self._expected(law)[pairs[:, 0], pairs[:, 1]]
        return found

    def _expected(self, law: str) -> Values:
        """(P, P) dual @ the covariances below, of all pairs in two products of matrices.

        With s the sum of a chi, e_2 of the others is (s^2 - |a|^2) / 2 + a_i^2 + a_j^2 +
        a_i a_j chi_i chi_j - s (a_i chi_i + a_j chi_j), and chi_i^2 = 1.
        """
        process, a, dual = self.even, self.even.relevance, self.even.dual
        pair, quadruple, _ = _per_coefficient(law)
        sums, squares = self.chi @ a, float(a @ a)
        plain = self.chi.T @ (self.chi * dual[:, None])
        others = self.chi.T @ (self.chi * (dual * (sums**2 - squares) / 2)[:, None])
        others += plain * np.add.outer(a**2, a**2) + np.outer(a, a) * dual.sum()
        once = np.outer(a, (dual * sums) @ self.chi)  # a_i sum of dual s chi_j
        others -= once + once.T
        table = pair * process.variance[0] * plain + quadruple * process.variance[1] * others
        expected: Values = np.outer(a, a) * table
        return expected

    def _covariances(self, pairs: NDArray[np.int64], law: str) -> Iterator[tuple[slice, Values]]:
        """Yields (U, some pairs) the prior covariance of each value seen with each pair's SII."""
        process, a = self.even, self.even.relevance
        pair, quadruple, _ = _per_coefficient(law)
        own, squares = self.chi * a, float(a @ a)  # (U, P)
        sums = own.sum(axis=1)[:, None]
        first, second = pair * process.variance[0], quadruple * process.variance[1] / 2
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            rows = slice(start, start + PAIRS_AT_ONCE)
            i, j = pairs[rows].T
            a_i, a_j = own[:, i], own[:, j]
            rest = sums - a_i - a_j  # sum over the others of a chi
            np.square(rest, out=rest)
            rest *= second
            rest += first - second * (squares - a[i] ** 2 - a[j] ** 2)  # pair + quadruple e_2
            rest *= a_i
            rest *= a_j
            yield rows, rest

    def predict(self, present: NDArray[np.bool_]) -> Values:
        """See `Surrogate.predict`."""
        chi = np.where(present, 1.0, -1.0)
        return self._predict(self.even, chi) + self._predict(self.odd, chi)

    def backup_scores(self) -> Values:
        """See `Surrogate.backup_scores`: min(|4 c_ij|, |2 c_ij| + min(|2 c_i|, |2 c_j|))."""
        both = np.abs(self._expected("banzhaf"))
        np.fill_diagonal(both, 0.0)
        single = 2 * np.abs(self.odd.variance[0] * self.odd.relevance * (self.odd.dual @ self.chi))
        bound: Values = np.minimum(both, np.minimum.outer(single, single) + both / 2)
        return bound

    def _predict(self, process: Process, chi: Values) -> Values:
        parts = [
            process.kernel(chi[start : start + ROWS_AT_ONCE], self.chi) @ process.dual
            for start in range(0, len(chi), ROWS_AT_ONCE)
        ]
        return process.mean + np.concatenate([*parts, np.zeros(0)])


def _per_coefficient(law: str) -> tuple[float, float, float]:
    """What a coefficient of a pair, and of two or four players more, adds to the pair's SII."""
    return (4.0, 0.0, 0.0) if law == "banzhaf" else (4.0, 4 / 3, 4 / 5)


def _share_of_sixes(relevance: Values, pairs: NDArray[np.int64]) -> Values:
    """(m,) share that sets with both players of a pair have in e_6, all products of six a_i."""
    whole = np.zeros(7)
    whole[0] = 1.0
    for a in relevance:
        whole[1:] += a * whole[:-1]
    if whole[6] <= 0.0:  # fewer than six players
        return np.zeros(len(pairs))
    first, second = relevance[pairs].T
    without = np.repeat(whole[:, None], len(pairs), axis=1)  # (7, m), then without both players
    for a in (first, second):
        for order in range(1, 7):
            without[order] -= a * without[order - 1]
    share: Values = np.clip(first * second * without[4] / whole[6], 0.0, 1.0)
    return share


def _regress(
    chi: Values,
    y: Values,
    orders: tuple[int, int],
    tuned: NDArray[np.int64],
    like: Process | None,
) -> Process:
    """Fits the hyperparameters to the masks `tuned`, and the process to all."""
    scale = float(np.mean((y - y.mean()) ** 2))
    n_players = chi.shape[1]
    if scale <= 1e-24 * float(np.max(y**2, initial=0.0)) or scale == 0.0:  # a constant
        nothing = np.zeros(len(y))
        ones, mean = np.ones(n_players), float(y.mean())
        return Process(orders, ones, np.zeros(2), np.array(START), mean, nothing, np.eye(len(y)))
    counts = torch.tensor([max(comb(n_players, d), 1) for d in orders], dtype=torch.float64)
    target = (y[tuned] - y.mean()) / np.sqrt(scale)
    relevance, shares = _tune(chi[tuned], target, orders, counts, like)
    with torch.no_grad():
        variance = scale * shares[:2] / counts
        x = torch.from_numpy(chi)
        table = _kernel(x, x, relevance, variance, orders)
        table += scale * (shares[2] + JITTER) * torch.eye(len(y), dtype=torch.float64)
        factor = torch.linalg.cholesky(table)
        one = torch.ones(len(y), 1, dtype=torch.float64)
        weights = torch.cholesky_solve(one, factor)[:, 0]
        mean = float((weights @ torch.from_numpy(y)) / weights.sum()) if orders == EVEN else 0.0
        dual = torch.cholesky_solve(torch.from_numpy(y - mean)[:, None], factor)[:, 0]
    return Process(
        orders,
        relevance.numpy(),
        variance.numpy(),
        shares.numpy(),
        mean,
        dual.numpy(),
        factor.numpy(),
    )


def _tune(
    chi: Values, y: Values, orders: tuple[int, int], counts: Tensor, like: Process | None
) -> tuple[Tensor, Tensor]:
    """(P,) relevances of mean one; shares (3,) of the variance: two orders and noise."""
    x, target = torch.from_numpy(chi), torch.from_numpy(y)[:, None]
    start = np.ones(chi.shape[1]) if like is None else like.relevance
    shares = np.array(START) if like is None else like.shares
    log_relevance = torch.from_numpy(start).log().requires_grad_(True)
    log_share = torch.from_numpy(shares).log().requires_grad_(True)
    identity = torch.eye(len(y), dtype=torch.float64)
    constant = torch.ones_like(identity)  # an unknown mean

    def unpack() -> tuple[Tensor, Tensor]:
        relevance = log_relevance.clamp(-6, 6).exp()
        return relevance / relevance.mean(), log_share.clamp(-14, 7).exp()

    optimiser = torch.optim.LBFGS(
        [log_relevance, log_share],
        max_iter=STEPS if like is None else FEWER_STEPS,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        relevance, share = unpack()
        table = _kernel(x, x, relevance, share[:2] / counts, orders)
        table = table + (share[2] + JITTER) * identity + constant
        prior: Tensor = WIDE * log_relevance.square().sum()
        with torch.no_grad():  # d loss / d table = (table^-1 - dual dual') / 2
            factor = torch.linalg.cholesky(table)
            dual = torch.cholesky_solve(target, factor)
            slope = (torch.cholesky_inverse(factor) - dual @ dual.T) / 2
            loss = 0.5 * (target * dual).sum() + factor.diagonal().log().sum()
        torch.autograd.backward([table, prior], [slope, torch.ones_like(prior)])
        total: Tensor = loss + prior.detach()
        return total

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return unpack()


def _kernel(
    x: Tensor, other: Tensor, relevance: Tensor, variance: Tensor, orders: tuple[int, int]
) -> Tensor:
    """(N, M) tau_1 e_1 + tau_3 e_3, or tau_2 e_2 + tau_4 e_4, by Newton's identities."""
    squares, fourths = relevance.square().sum(), relevance.pow(4).sum()
    p1 = (x * relevance) @ other.T
    p3 = (x * relevance**3) @ other.T
    e2 = (p1.square() - squares) / 2
    e3 = (e2 * p1 - p1 * squares + p3) / 3
    if orders == ODD:
        return variance[0] * p1 + variance[1] * e3
    e4 = (e3 * p1 - e2 * squares + p1 * p3 - fourths) / 4
    return variance[0] * e2 + variance[1] * e4
