"""The methods that are compared: the library's own and those of shapiq; each run in a process."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import multiprocessing
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from probe_cases import Case, Estimate, Evaluate, Values, figures
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.explain import PairScores, TokenGame, redundancy_gaps, shapley_interactions
from fli2moe.explain.probes import METHODS

OURS = ("direct", "monte_carlo", "sparse", "quadblock", "kernel", "auto")
PEERS = (
    "PermutationSamplingSII",
    "InconsistentKernelSHAPIQ",
    "KernelSHAPIQ",
    "SVARMIQ",
    "SHAPIQ",
    "ProxySPEX",
)
NOT_KNOWN = "not in this version of the library"
MEMORY = 8  # gigabytes that one run may hold
GIGABYTE = 2**30


class Counted:
    """A game's function that counts the rows it is asked for, and the CPU seconds inside it."""

    def __init__(self, function: Evaluate) -> None:
        self.function, self.rows, self.seconds = function, 0, 0.0

    def __call__(self, coalitions: Tensor) -> Tensor:
        """Maps bool (N, P) to (N,)."""
        started = time.process_time()
        values = self.function(coalitions)
        self.seconds += time.process_time() - started
        self.rows += len(coalitions)
        return values


def not_applicable(case: Case, method: str, budget: int) -> str | None:
    """Why a method is not run on a case; None where it is."""
    if method in OURS:
        known = method == "auto" or method in METHODS
        return None if known else NOT_KNOWN
    if case.index != "SII":
        return "shapiq has no redundancy gap"
    if importlib.util.find_spec("shapiq") is None:
        return "shapiq is not installed"
    if method == "ProxySPEX" and importlib.util.find_spec("lightgbm") is None:
        return "lightgbm is not installed"
    n = case.n_players
    least = 1 + n + n * (n - 1) // 2
    if method == "KernelSHAPIQ" and budget < least:
        return f"skipped: below {least} evaluations its regression is underdetermined"
    return None


def load_peers() -> None:
    """Imports what the processes of the runs would else import, each by itself."""
    for name in ("shapiq", "lightgbm"):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def estimate(case: Case, method: str, budget: int, seed: int) -> Estimate:
    """Runs a method in this process."""
    if method in OURS:
        _ours(_small_case(case), method, 600, seed)  # what is loaded late is loaded now
        return _ours(case, method, budget, seed)
    return _of_shapiq(case, method, budget, seed)


def _ours(case: Case, method: str, budget: int, seed: int) -> Estimate:
    counted = Counted(case.function())
    ask = redundancy_gaps if case.index == "redundancy_gap" else shapley_interactions
    started = time.process_time()
    game = TokenGame.from_callable(counted, case.sizes, batch_size=2048)
    table = ask(game, budget, method=method, seed=seed)
    spent = time.process_time() - started - counted.seconds
    audited = table.columns.get("audited")
    return Estimate(
        value=_by_pair(case, table, table.value),
        error=_by_pair(case, table, table.standard_error),
        audited=None if audited is None else _by_pair(case, table, audited) == 1,
        evaluations=counted.rows,
        own_seconds=spent,
    )


def _by_pair(case: Case, table: PairScores, column: Values) -> Values:
    """(m,) a column of one head in the order of the case's pairs; NaN where there is no row."""
    text, image = case.sizes.values()
    full = np.full((text, image), np.nan)
    full[table.first, table.second - text] = column
    return full.ravel()


def _of_shapiq(case: Case, method: str, budget: int, seed: int) -> Estimate:
    """Index SII, order 2, masks in pairs where the method can: that is its better setting.

    v(nobody) is taken off for free, which some of shapiq's methods need.
    """
    import shapiq

    kind = getattr(shapiq, method, None) or getattr(shapiq.approximator, method)
    options: dict[str, Any] = {"n": case.n_players, "index": "SII", "max_order": 2}
    options["random_state"] = seed
    better = {"hpo": False, "pairing_trick": True}
    known = inspect.signature(kind.__init__).parameters
    options |= {name: x for name, x in better.items() if name in known}
    function = case.function()
    empty = float(function(torch.zeros(1, case.n_players, dtype=torch.bool))[0])
    counted = Counted(function)

    def game(coalitions: NDArray[Any]) -> Values:
        rows = torch.from_numpy(np.atleast_2d(coalitions).astype(np.bool_))
        return counted(rows).double().numpy() - empty

    started = time.process_time()
    found = kind(**options).approximate(budget, game)
    spent = time.process_time() - started - counted.seconds
    text, image = case.sizes.values()
    value = np.full((text, image), np.nan)
    for members, x in found.dict_values.items():
        if len(members) == 2 and min(members) < text <= max(members):
            value[min(members), max(members) - text] = x
    return Estimate(value.ravel(), None, None, counted.rows, spent)


def _small_case(case: Case) -> Case:
    def product(coalitions: Tensor) -> Tensor:
        z = coalitions.double()
        return z[:, 0] * z[:, -1] + z.sum(1)

    return Case({"text": 9, "image": 9}, lambda: product, np.zeros(81), 1, case.index)


def measured(
    case: Case, method: str, budget: int, seed: int, limit: float = 120.0
) -> dict[str, Any]:
    """Returns the figures of one run in a process of its own, or why there are none.

    Args:
        case: the game and its truth.
        method: one of `OURS` or `PEERS`.
        budget: evaluations that it is given.
        seed: that it is given.
        limit: CPU seconds, after which the process ends.
    """
    reason = not_applicable(case, method, budget)
    if reason is not None:
        return {"status": reason}
    answer = in_child(lambda: figures(case, estimate(case, method, budget, seed)), limit)
    return {"status": "ok", **answer} if isinstance(answer, dict) else {"status": answer}


def in_child(work: Callable[[], Any], limit: float | None = None, memory: float = MEMORY) -> Any:
    """Returns what `work` returns in a forked process, or a line that says why it did not."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, limit, memory, sender))
    child.start()
    sender.close()
    try:
        answer = receiver.recv()
        child.join()
    except EOFError:
        child.join()
        late = child.exitcode == -signal.SIGXCPU
        answer = f"no answer in {limit:g} s" if late else f"ended with code {child.exitcode}"
    return answer


def _child(work: Callable[[], Any], limit: float | None, memory: float, sender: Connection) -> None:
    size = int(memory * GIGABYTE)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    if limit is not None:
        seconds = int(time.process_time() + limit) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = work()
    except MemoryError:
        answer = f"out of memory ({memory:g} GB)"
    except InputError as error:
        answer = f"refused: {error}"
    except Exception as error:  # a peer's failure is a result
        traceback.print_exc()
        answer = f"failed: {type(error).__name__}: {str(error)[:200]}"
    sender.send(answer)
