"""Expert transformers over several modalities' tokens, weighed by a router (design 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fli2moe.config import ModelConfig
from fli2moe.errors import InputError
from fli2moe.model.bank import BankOutput, ExpertBank, ExpertLinear, Pass, run_experts
from fli2moe.model.coalitions import TwoStates, choose
from fli2moe.model.dropout import dropout
from fli2moe.model.inputs import Positions, Projection, check_batch
from fli2moe.model.output import MoEOutput
from fli2moe.model.router import Router, UniformRouter
from fli2moe.model.views import SharedTokens, View
from fli2moe.tokens import TokenBatch

MIXTURE = "mixture"


class FusionTransformer(nn.Module):
    """A bank of expert transformers over the modalities' tokens, with an optional router.

    Args:
        widths: {modality: D}, in the order of the sequence.
        classes: C.
        experts: names of the experts; more than one needs a router.
        config: sizes, positions and dropout of each expert.
        router: weighs the experts; None gives a single expert the weight 1.
        sees: {expert: modalities that its attention and pooling see}; all for one not named.

    Raises:
        InputError: for fewer than two modalities, a modality whose name cannot name a module, or
            several experts without a router.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        experts: Sequence[str],
        config: ModelConfig,
        router: Router | UniformRouter | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            found = f"one modality ({', '.join(widths) or 'none'})"
            raise InputError("model", found, "at least two: interactions need a partner")
        for m in widths:
            taken = hasattr(nn.ModuleDict(), m) or hasattr(nn.ParameterDict(), m)
            if not m or "." in m or taken:
                remedy = "rename it; `column` may keep the manifest's name"
                raise InputError("model", f"modality {m!r}", "a name PyTorch does not use", remedy)
        if len(experts) > 1 and router is None:
            raise InputError("model", f"{len(experts)} experts and no router", "a router")
        hidden = config.hidden
        self.widths, self.experts = dict(widths), tuple(experts)
        self.sees = {e: tuple((sees or {}).get(e, widths)) for e in experts}
        self.hidden, self.classes, self.input_dropout = hidden, classes, config.input_dropout
        self.projections = nn.ModuleDict({m: Projection(d, hidden) for m, d in widths.items()})
        self.positions = Positions(self.modalities, hidden, config.positions, config.max_positions)
        self.bank = ExpertBank(
            experts=len(experts),
            modalities=len(widths),
            width=hidden,
            layers=config.layers,
            heads=config.heads,
            feed_forward=config.feed_forward * hidden,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            final_norm=config.final_norm,
            pooling=config.pooling,
            sees=[[self.modalities.index(m) for m in self.sees[e]] for e in experts],
        )
        self.classifier = ExpertLinear(len(experts), len(widths) * hidden, classes)
        self.router = router

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities in the order of the sequence."""
        return tuple(self.widths)

    @property
    def heads(self) -> tuple[str, ...]:
        """What can be explained: `mixture`, then the experts when there are several."""
        return (MIXTURE, *self.experts) if len(self.experts) > 1 else (MIXTURE,)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def standardise(self, modality: str, mean: Tensor, deviation: Tensor) -> None:
        """Stores the training set's channel mean and deviation (D,) of one modality."""
        projection = self.projections[modality]
        assert isinstance(projection, Projection)  # for the type checker
        projection.set_statistics(mean, deviation)

    def forward(self, batch: TokenBatch, *, attention: bool = False) -> MoEOutput:
        """Runs the model on features; attention maps are returned on request."""
        return self.fuse(self.project(batch), masks_of(batch), attention=attention)

    def project(self, batch: TokenBatch) -> dict[str, Tensor]:
        """Returns {modality: (B, T, H)}: standardised and projected, without positions.

        Features at padding are cleared first: attention and pooling give them the weight 0, but
        0 times NaN or infinity would still reach the logits and the gradients.

        Raises:
            InputError: when modalities or widths are not the model's.
        """
        check_batch(batch, self.widths)
        clean = {
            m: torch.where(batch[m].mask[..., None], batch[m].features, 0.0)
            for m in self.modalities
        }
        return {m: self.projections[m](x) for m, x in clean.items()}

    def fuse(
        self,
        projected: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        *,
        attention: bool = False,
    ) -> MoEOutput:
        """Runs experts and router on projected tokens {(B, T, H)} with masks {(B, T)}."""
        view = View({m: projected[m] for m in self.modalities}, masks)
        bank = self.read([view], trace="map" if attention else "")[0]
        return self.weigh(view, bank.latents, joined(bank.traces))

    def weigh(
        self, view: View, latents: Tensor, attention: tuple[Tensor, ...] | None = None
    ) -> MoEOutput:
        """Returns the output that follows from the experts' latents (E, B, M * H) of a view."""
        expert_logits = self.classifier(latents).transpose(0, 1)  # (B, E, C)
        if self.router is None:
            weights = expert_logits.new_ones(expert_logits.shape[:2])
        else:
            ordered = {m: view.projected[m] for m in self.modalities}
            weights = self.router(ordered, view.masks)  # (B, E)
        logits = torch.einsum("be,bec->bc", weights, expert_logits)
        return MoEOutput(logits, weights, expert_logits, latents.transpose(0, 1), attention)

    def read(self, views: Sequence[View], *, trace: str = "") -> list[BankOutput]:
        """Runs the experts on several views; what these share goes through layer 1's entry once.

        Args:
            views: of at most as many rows as the first.
            trace: what to return of each attention: `map` or `relevance` (see `attend`).
        """
        owner = self._owner(views[0].masks)
        passes = [Pass(torch.cat([v.masks[m] for m in self.modalities], 1), owner) for v in views]
        if len(views) == 1:
            placed = [self._place(m, views[0].projected[m]) for m in self.modalities]
            return run_experts(self.bank, torch.cat(placed, dim=1), passes, trace=trace)
        shared = SharedTokens(views, self.modalities, share=not self._drops_inputs)
        placed = [self._place(m, x).flatten(0, 1) for m, x in shared.segments]
        return run_experts(self.bank, torch.cat(placed), passes, shared.assemble, trace=trace)

    def under(self, states: TwoStates, kept: Mapping[str, Tensor]) -> MoEOutput:
        """Returns the output for one sample under N coalitions.

        Args:
            states: what its tokens are, there and hidden.
            kept: {modality: (N, T)} bool: the tokens that each coalition shows.
        """
        owner = self._owner(states.masks)
        mask = torch.cat([states.masks[m] for m in self.modalities], dim=1)[0]
        shown = torch.cat([kept[m] for m in self.modalities], dim=1)
        drop = states.absent is None
        placed = [
            self._place(m, x.expand_as(states.present[m]))[0]
            for state in (states.present, states.absent or {})
            for m, x in ((m, state[m]) for m in self.modalities if state)
        ]
        latents, rows = [], []
        for chosen in choose(shown, mask, owner, drop=drop):
            read = run_experts(self.bank, torch.cat(placed), [chosen.one], chosen.assemble)[0]
            latents.append(read.latents)
            rows.append(chosen.rows)
        order = torch.cat(rows).argsort()
        return self.weigh(states.view(kept), torch.cat(latents, dim=1)[:, order])

    def _owner(self, masks: Mapping[str, Tensor]) -> Tensor:
        """(T,) the number of the modality of each token of the sequence."""
        lengths = torch.tensor([masks[m].shape[1] for m in self.modalities], device=self.device)
        return torch.arange(len(lengths), device=self.device).repeat_interleave(lengths)

    @property
    def _drops_inputs(self) -> bool:
        return self.training and self.input_dropout > 0

    def _place(self, modality: str, projected: Tensor) -> Tensor:
        placed = self.positions(modality, projected)
        return dropout(placed, self.input_dropout, self.training)


def joined(maps: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...] | None:
    """Returns one map (E, B, heads, T, T) per layer from those of each group of experts."""
    layers = list(zip(*maps, strict=True))
    if not layers:
        return None
    return tuple(groups[0] if len(groups) == 1 else torch.cat(groups) for groups in layers)


def masks_of(batch: TokenBatch) -> dict[str, Tensor]:
    """Returns {modality: (B, T) bool mask}."""
    return {m: tokens.mask for m, tokens in batch.items()}


def expert_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns `unique_<modality>` for each modality, then `synergy` and `redundancy`."""
    return (*(f"unique_{m}" for m in modalities), "synergy", "redundancy")
