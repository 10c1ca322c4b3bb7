"""A game and its attributions as Quantus wants them: a model of presence masks, and `a` beside.

    view = as_quantus(game, scores)
    quantus.PixelFlipping(**view.settings)(**view.arguments)

Quantus (LGPL, not a dependency) takes one tensor as input and hides by overwriting features. So the
input is the mask that says which players are there: ones, which it overwrites by 0. Its
`Sufficiency` is another measure than ERASER's, which is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame


@dataclass(frozen=True, eq=False)
class QuantusView:
    """What a metric of Quantus is made with, and called with.

    Attributes:
        settings: of the metric: absence is 0, attributions keep their sign and size.
        arguments: of its call: model, x_batch (B, 1, P), y_batch (B,), a_batch (B, 1, P).
    """

    settings: dict[str, Any]
    arguments: dict[str, Any]


class PresenceModel(nn.Module):
    """Maps presence masks (N, 1, P) to the game's scores (N, H), a column for each head."""

    def __init__(self, game: TokenGame) -> None:
        super().__init__()
        self.game = game

    def forward(self, masks: Tensor) -> Tensor:
        """Returns the scores of the players that are there (more than 1/2)."""
        present = masks.detach().cpu().numpy()[:, 0] > 0.5
        return torch.from_numpy(self.game.heads(present)).to(torch.float32)


def as_quantus(
    game: TokenGame, attributions: Sequence[float] | NDArray[np.float64], *, repeats: int = 1
) -> QuantusView:
    """Returns a game and one attribution of its players for metrics of Quantus.

    Args:
        game: its head is the class that is explained.
        attributions: (P,) one number for each player.
        repeats: rows B, all of this sample; metrics that draw at random see it so many times.

    Raises:
        InputError: when there are not as many attributions as players, or one is not finite.
    """
    values = np.asarray(attributions, dtype=np.float64)
    if values.shape != (game.n_players,):
        found, expected = f"shape {values.shape}", f"({game.n_players},), one for each player"
        raise InputError("as_quantus: attributions", found, expected)
    if not np.isfinite(values).all():
        raise InputError("as_quantus: attributions", "NaN or infinite values", "finite numbers")
    column = game.head_names.index(game.head)
    rows = (repeats, 1, game.n_players)
    return QuantusView(
        settings={
            "perturb_baseline": 0.0,
            "abs": False,
            "normalise": False,
            "disable_warnings": True,
            "return_aggregate": False,
        },
        arguments={
            "model": PresenceModel(game).eval(),
            "x_batch": np.ones(rows, dtype=np.float32),
            "y_batch": np.full(repeats, column, dtype=np.int64),
            "a_batch": np.broadcast_to(values, rows).copy(),
            "channel_first": True,
            "softmax": False,
            "device": "cpu",
        },
    )
