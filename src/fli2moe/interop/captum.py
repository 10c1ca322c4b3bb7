"""One sample of a model as Captum wants it: a function of tensors, inputs, baselines, groups.

view = as_captum(predictor.model, tokens, players, predictor.baseline("mean"))
values = ShapleyValueSampling(view).attribute(
view.inputs, view.baselines, target=3, feature_mask=view.feature_mask
)
view.player_scores(values)  # one number for each word and patch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fli2moe.errors import InputError, unknown_name
from fli2moe.model import MIXTURE, FusionModel, check_baseline, check_batch, undisturbed
from fli2moe.tokens import Player, TokenBatch


@dataclass(frozen=True, eq=False)
class CaptumView:
    """A function of features in Captum's convention, with what its methods ask for.

    Called with one tensor (N, T, D) for each modality it returns the logits (N, C) of a head;
    gradients pass. Tokens that no player holds keep their features whatever is handed in, as in
    our games, so that no method attributes anything to them.

    Attributes:
        model: answers in evaluation mode.
        tokens: the sample (B = 1).
        players: what the features are grouped into.
        head: whose logits.
        inputs: a tensor (1, T, D) for each modality.
        baselines: the same shapes: what absence is.
        feature_mask: the same shapes: the player that each feature belongs to, ids shared between
            modalities; what belongs to none has the id after the last player's.
    """

    model: FusionModel
    tokens: TokenBatch
    players: tuple[Player, ...]
    head: str
    inputs: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]
    feature_mask: tuple[Tensor, ...]

    def __call__(self, *features: Tensor) -> Tensor:
        """Returns logits (N, C) for features (N, T, D), one tensor for each modality.

        Raises:
            InputError: when there are not as many tensors as modalities.
        """
        if len(features) != len(self.inputs):
            found = f"{len(features)} tensors"
            raise InputError("CaptumView", found, f"{len(self.inputs)}, one for each modality")
        batch = {}
        ours = zip(self.tokens.items(), features, self.inputs, self.feature_mask, strict=True)
        for (name, tokens), x, own, mask in ours:
            kept = torch.where(mask == len(self.players), own, x)
            n = len(kept)
            one = tokens[torch.zeros(n, dtype=torch.int64, device=tokens.mask.device)]
            batch[name] = one.with_features(kept)
        with undisturbed(self.model):
            output = self.model(TokenBatch(batch))
        if self.head == MIXTURE:
            logits: Tensor = output.logits
            return logits
        of_head: Tensor = output.head_logits[:, self.model.heads.index(self.head)]
        return of_head

    def player_scores(self, attributions: Sequence[Tensor]) -> Tensor:
        """Returns (P,) one number for each player.

        A perturbation method gives every feature of a group the group's value: that value. Values
        of a gradient method differ inside a group: their sum.

        Args:
            attributions: as Captum returns them, (1, T, D) for each modality.
        """
        found = torch.zeros(len(self.players), dtype=torch.float64)
        for values, mask in zip(attributions, self.feature_mask, strict=True):
            for p in torch.unique(mask).tolist():
                if p < len(self.players):
                    own = values.detach().to("cpu", torch.float64)[mask.cpu() == p]
                    same = bool((own == own[0]).all())
                    found[p] += own[0] if same else own.sum()
        return found


def as_captum(
    model: FusionModel,
    tokens: TokenBatch,
    players: Sequence[Player],
    baseline: Mapping[str, Tensor] | None = None,
    *,
    head: str = MIXTURE,
) -> CaptumView:
    """Returns one sample as Captum wants it.

    Args:
        model: any model of this library.
        tokens: the sample (B = 1).
        players: groups of features, as `Predictor.players` returns them.
        baseline: {modality: (D,)} what absence is; zeros by default.
        head: whose logits: the mixture's or an expert's.

    Raises:
        InputError: when there is more than one sample, or tokens, baseline, players or head do not
            fit the model.
    """
    if tokens.batch_size != 1:
        raise InputError("as_captum", f"{tokens.batch_size} samples", "one sample")
    check_batch(tokens, model.widths)
    if baseline is not None:
        check_baseline(baseline, model.widths)
    if head != MIXTURE and head not in model.heads:
        raise unknown_name("as_captum", "head", head, model.heads)
    tokens = TokenBatch({m: tokens[m] for m in model.modalities}).to(model.device)
    owner = {m: torch.full(t.mask.shape, len(players)) for m, t in tokens.items()}
    for p, player in enumerate(players):
        if player.modality not in owner:
            raise unknown_name("player", "modality", player.modality, owner)
        owner[player.modality][0, list(player.tokens)] = p
    inputs = tuple(t.features for t in tokens.values())
    absent = baseline or {m: torch.zeros(t.width) for m, t in tokens.items()}
    return CaptumView(
        model,
        tokens,
        tuple(players),
        head,
        inputs,
        tuple(absent[m].to(x).expand_as(x) for m, x in zip(tokens, inputs, strict=True)),
        tuple(
            owner[m].to(x.device)[..., None].expand_as(x)
            for m, x in zip(tokens, inputs, strict=True)
        ),
    )
