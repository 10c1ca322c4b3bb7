"""A plain PyTorch model, nothing of FL-I2MoE in it, explained by its answers alone.

All it takes is a function from "who is present" to a score. Here a hidden token is replaced by
zeros; what absence means for your model is yours to choose.
"""

import torch
from torch import Tensor, nn

from fli2moe.explain import PairScores, TokenGame, pair_interactions

WORDS, PATCHES, WIDTH = 6, 9, 8


class Agreement(nn.Module):
    """Speaks up where word 1 and patch 4 carry the same sign, and where word 2 or patch 0 is on."""

    def forward(self, words: Tensor, patches: Tensor) -> Tensor:
        """Maps (N, WORDS, WIDTH) and (N, PATCHES, WIDTH) to logits (N,)."""
        together = words[:, 1, 0] * patches[:, 4, 0]
        either = torch.maximum(words[:, 2, 1], patches[:, 0, 1])
        return 3 * together + 2 * either + words[:, 5, 2]


def main() -> tuple[PairScores, PairScores]:
    """Prints and returns synergy and redundancy of every word with every patch."""
    model = Agreement().eval()
    words, patches = torch.ones(WORDS, WIDTH), torch.ones(PATCHES, WIDTH)

    def score(present: Tensor) -> Tensor:  # bool (N, 15) -> (N,)
        there = present.float()[:, :, None]
        with torch.no_grad():
            return model(words * there[:, :WORDS], patches * there[:, WORDS:])

    game = TokenGame.from_callable(score, {"word": WORDS, "patch": PATCHES})
    found = pair_interactions(game, budget=2000, seed=0)
    print("model evaluations:", game.evaluations)
    print("only together:", *found.sii.top(2), sep="\n  ")
    print("the same twice:", *found.redundancy.top(2), sep="\n  ")
    return found.sii, found.redundancy


if __name__ == "__main__":
    main()
