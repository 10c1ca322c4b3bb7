"""Which samples have which modality: what a term of a modality is a mean over (ours).

Exchanging a modality that a sample lacks changes nothing: its cosine would be 1 and its triplet the
margin, constants that dilute a mean. So a term is the mean over the (sample, modality) pairs that
are there, 0 without any; a triplet of two modalities needs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.model import View


@dataclass(frozen=True, eq=False)
class Presence:
    """Which of the samples at hand count for a modality, and how many do in the whole batch.

    Attributes:
        here: {modality: (B',) bool} of the samples at hand.
        whole: {modality: (B,) bool} of the batch that they are a part of.
    """

    here: Mapping[str, Tensor]
    whole: Mapping[str, Tensor]

    @staticmethod
    def of(view: View) -> Presence:
        """Returns the presence of a whole batch: a sample has a modality if it has a token."""
        return Presence(view.present, view.present)

    @staticmethod
    def of_replaced(view: View, replaced: Mapping[str, View]) -> Presence:
        """Returns who counts where each modality is replaced: who has it before and after.

        Args:
            view: a whole batch.
            replaced: {modality: the same samples with that modality replaced}.
        """
        both = {m: view.present[m] & other.present[m] for m, other in replaced.items()}
        return Presence(both, both)

    def rows(self, index: Tensor) -> Presence:
        """Returns the presence of a part of the samples at hand, of the same whole batch."""
        return Presence({m: x[index] for m, x in self.here.items()}, self.whole)

    def mean(self, values: Mapping[tuple[str, ...], Tensor]) -> Tensor:
        """Returns the mean over pairs of a sample and a group of modalities, if it has them all.

        Of the samples at hand the sum, over the number of pairs in the whole batch: over the parts
        of a batch these add up to its mean. 0 without any pair.

        Args:
            values: {modalities: (B',) values}; () is the group that every sample has.
        """
        kept = [torch.where(_have(self.here, group), x, 0.0) for group, x in values.items()]
        pairs = torch.stack([_have(self.whole, group).sum() for group in values]).sum()
        return torch.stack(kept).sum() / pairs.clamp_min(1)

    def all(self) -> Tensor:
        """Returns (B',) bool: which samples at hand have every modality."""
        return _have(self.here, tuple(self.here))


def _have(present: Mapping[str, Tensor], group: Sequence[str]) -> Tensor:
    found = torch.ones_like(next(iter(present.values())))
    for m in group:
        found = found & present[m]
    return found
