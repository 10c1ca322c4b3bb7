"""Expert transformers over several modalities' tokens, weighed by a router (design 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fli2moe.config import ModelConfig
from fli2moe.model.bank import ExpertBank, ExpertLinear
from fli2moe.model.base import FusionModel
from fli2moe.model.coalitions import TwoStates, choose
from fli2moe.model.dropout import dropout
from fli2moe.model.inputs import Positions
from fli2moe.model.output import MoEOutput
from fli2moe.model.passes import Bank, BankOutput, Pass, run_experts
from fli2moe.model.router import Router, UniformRouter
from fli2moe.model.views import SharedTokens, View


class FusionTransformer(FusionModel):
    """A bank of expert transformers over the modalities' tokens, with an optional router.

    Args:
        widths: {modality: D}, in the order of the sequence.
        classes: C.
        experts: names of the experts; more than one needs a router.
        config: sizes, positions and dropout of each expert.
        router: weighs the experts; None gives a single expert the weight 1.
        sees: {expert: modalities that its attention and pooling see}; all for one not named.
        bank: runs in place of an `ExpertBank` of these sizes; it has to see what `sees` says.

    Raises:
        InputError: as `FusionModel` and `ExpertBank`.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        experts: Sequence[str],
        config: ModelConfig,
        router: Router | UniformRouter | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
        bank: Bank | None = None,
    ) -> None:
        super().__init__(widths, classes, experts, config, router, sees)
        hidden = config.hidden
        self.positions = Positions(self.modalities, hidden, config.positions, config.max_positions)
        self.bank: Bank = bank or ExpertBank(
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

    @property
    def longest(self) -> int | None:
        """The most tokens of a modality that learned positions reach; None for other positions."""
        return self.positions.longest if self.positions.kind == "learned" else None

    def classify(self, latents: Tensor) -> Tensor:
        """Maps the experts' latents (E, B, M * H) to their logits (B, E, C)."""
        logits: Tensor = self.classifier(latents)
        return logits.transpose(0, 1)

    def read(self, views: Sequence[View], *, trace: str = "") -> list[BankOutput]:
        """Runs the experts on several views; what these share goes through layer 1's entry once.

        Args:
            views: of at most as many rows as the first.
            trace: what to return of each attention: `map` or `relevance` (see `attend`).
        """
        owner = self._owner(views[0].masks, self.device)
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
            kept: {modality: (N, T)} bool, on the CPU: the tokens that each coalition shows.
        """
        owner = self._owner(states.masks, torch.device("cpu"))
        mask = torch.cat([states.masks[m] for m in self.modalities], dim=1)[0]
        shown = torch.cat([kept[m] for m in self.modalities], dim=1)
        drop = states.absent is None
        placed = [
            self._place(m, x.expand_as(states.present[m]))[0]
            for state in (states.present, states.absent or {})
            for m, x in ((m, state[m]) for m in self.modalities if state)
        ]
        tokens, latents, rows = torch.cat(placed), [], []
        for chosen in choose(shown, mask, owner, drop=drop, device=states.device):
            read = run_experts(self.bank, tokens, [chosen.one], chosen.assemble)[0]
            latents.append(read.latents)
            rows.append(chosen.rows)
        order = torch.cat(rows).argsort().to(states.device)
        return self.weigh(states.view(kept), torch.cat(latents, dim=1)[:, order])

    def _owner(self, masks: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """(T,) the number of the modality of each token of the sequence."""
        lengths = [masks[m].shape[1] for m in self.modalities]
        number = torch.arange(len(lengths), device=device)
        repeats = torch.tensor(lengths, device=device)
        return number.repeat_interleave(repeats, output_size=sum(lengths))  # asks no GPU

    @property
    def _drops_inputs(self) -> bool:
        return self.training and self.input_dropout > 0

    def _place(self, modality: str, projected: Tensor) -> Tensor:
        placed = self.positions(modality, projected)
        return dropout(placed, self.input_dropout, self.training)


def expert_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns `unique_<modality>` for each modality, then `synergy` and `redundancy`."""
    return (*(f"unique_{m}" for m in modalities), "synergy", "redundancy")
