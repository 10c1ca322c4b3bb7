"""Model evaluations by coalition: batched, checked, and never made twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fli2moe.devices import in_memory
from fli2moe.errors import InputError, MachineError

Evaluate = Callable[[Tensor], Tensor]
"""bool (N, P) on the CPU -> float (N, H), or (N,) for a single head."""

TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 2e-2}  # else FINE_TOLERANCE
FINE_TOLERANCE = 1e-3


class Evaluations:
    """The values of a function of coalitions, each evaluated once; shared by views of a game.

    Args:
        evaluate: bool (N, P) -> float (N, H) or (N,).
        n_players: P.
        head_names: names of the H heads; None takes them from the first values returned (`score`,
            or `head 0`, `head 1`, ...).
        batch_size: most coalitions in one call of `evaluate`; halved when memory runs out.
        progress: called after every batch with the number of evaluations just made.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        n_players: int,
        head_names: Sequence[str] | None,
        batch_size: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.n_players = n_players
        self.batch_size = batch_size
        self.repeats = 0
        self._evaluate = evaluate
        self._head_names = None if head_names is None else tuple(head_names)
        self._progress = progress
        self._rows: dict[bytes, int] = {}
        self._values: NDArray[np.float64] = np.empty((0, 0))
        self._tolerance = FINE_TOLERANCE
        self._checked = False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def heads_known(self) -> bool:
        """Whether the names of the heads were given or have been seen."""
        return self._head_names is not None

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads; evaluates the empty coalition where they are not known yet."""
        if self._head_names is None:
            self.values(np.zeros((1, self.n_players), dtype=np.bool_))
        return self._head_names or ()

    def values(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Returns (N, H) for coalitions (N, P), evaluating only those never seen before."""
        keys = _keys(coalitions)
        fresh: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._rows:
                fresh.setdefault(key, row)
        new_keys, new_rows = list(fresh), list(fresh.values())
        done = 0
        while done < len(new_rows):  # batch by batch, so that an interruption keeps what is done
            batch = coalitions[new_rows[done : done + self.batch_size]]
            values = self._batch(batch)
            self._store(new_keys[done : done + len(values)], values)
            done += len(values)
            if self._progress is not None:
                self._progress(len(values))
        if not len(coalitions):
            return np.empty((0, len(self.head_names)))
        found: NDArray[np.float64] = self._values[[self._rows[key] for key in keys]]
        return found

    def check(self, coalition: NDArray[np.bool_]) -> None:
        """Evaluates `coalition` (P,) once more and compares, unless a check was made before.

        The tolerance is 1e-3 of the value (2e-2 for half precision), at least of 1.

        Raises:
            InputError: when the two values differ.
        """
        if self._checked:
            return
        known = self.values(coalition[None])[0]
        again = self._batch(coalition[None])[0]
        self.repeats += 1
        if self._progress is not None:
            self._progress(1)
        worst = float(np.max(np.abs(known - again) / np.maximum(1.0, np.abs(known))))
        if worst > self._tolerance:
            head = int(np.argmax(np.abs(known - again)))
            found = f"the same coalition gave {known[head]:.6g}, then {again[head]:.6g}"
            remedy = "call model.eval() and draw noise from a fixed generator"
            raise InputError("game", found, "one value per coalition", remedy)
        self._checked = True

    def _store(self, keys: list[bytes], values: NDArray[np.float64]) -> None:
        used, needed = len(self._rows), len(self._rows) + len(keys)
        if needed > len(self._values):
            grown = np.empty((max(needed, 2 * len(self._values), 256), values.shape[1]))
            grown[:used] = self._values[:used] if used else 0.0
            self._values = grown
        self._values[used:needed] = values
        self._rows.update(zip(keys, range(used, needed), strict=True))

    def _batch(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Values of the first rows of `coalitions`: all of them unless memory ran out."""

        def evaluate(size: int) -> Tensor:
            rows = torch.from_numpy(np.ascontiguousarray(coalitions[:size]))
            with torch.no_grad():
                return self._evaluate(rows)

        too_small = MachineError(
            "game",
            "out of memory on a single coalition",
            "memory for one evaluation of the model",
            "use a smaller model or input, or another device",
        )
        values, size = in_memory(evaluate, len(coalitions), "coalitions", too_small)
        if size < len(coalitions):
            self.batch_size = size
        return self._checked_values(values, size)

    def _checked_values(self, values: Tensor, rows: int) -> NDArray[np.float64]:
        if not isinstance(values, Tensor | np.ndarray):
            raise InputError("game", f"a {type(values).__name__}", "a tensor (N,) or (N, heads)")
        tensor = torch.as_tensor(values).detach()
        self._tolerance = TOLERANCE.get(tensor.dtype, FINE_TOLERANCE)
        shape = tuple(tensor.shape)
        if tensor.ndim == 1:
            tensor = tensor[:, None]
        known = self._head_names
        heads = len(known) if known is not None else "heads"
        if tensor.ndim != 2 or len(tensor) != rows or (known and tensor.shape[1] != heads):
            expected = f"({rows}, {heads})" + (f" or ({rows},)" if heads in (1, "heads") else "")
            remedy = "return one row per coalition and one column per head"
            raise InputError("game", f"values of shape {shape}", expected, remedy)
        array: NDArray[np.float64] = tensor.to("cpu", torch.float64).numpy()
        if not np.isfinite(array).all():
            row, head = np.argwhere(~np.isfinite(array))[0]
            found = f"{array[row, head]} in row {row}, head {head} of a batch"
            raise InputError("game", found, "finite values", "check the model and its input")
        if known is None:
            self._head_names = _default_names(shape)
        return array


def _default_names(shape: tuple[int, ...]) -> tuple[str, ...]:
    if len(shape) == 1 or shape[1] == 1:
        return ("score",)
    return tuple(f"head {h}" for h in range(shape[1]))


def _keys(coalitions: NDArray[np.bool_]) -> list[bytes]:
    packed = np.packbits(coalitions, axis=1)  # (N, ceil(P / 8))
    data, width = packed.tobytes(), packed.shape[1]
    return [data[start : start + width] for start in range(0, len(data), width)]
