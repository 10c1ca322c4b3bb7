"""What every model is: projected tokens in, experts' logits weighed by a router out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from fli2moe.config import ModelConfig
from fli2moe.errors import InputError
from fli2moe.model.coalitions import TwoStates
from fli2moe.model.inputs import Projection, check_batch, check_finite
from fli2moe.model.output import MoEOutput, Routing
from fli2moe.model.passes import BankOutput
from fli2moe.model.router import Router, UniformRouter
from fli2moe.model.views import View
from fli2moe.tokens import TokenBatch

MIXTURE = "mixture"


class FusionModel(nn.Module, ABC):
    """Projections of several modalities' tokens, experts that read them, an optional router.

    A model is what `read` (views to the experts' latents) and `classify` (latents to logits) do;
    losses and explanations run it through these and `weigh`.

    Args:
        widths: {modality: D}, in the order of the sequence.
        classes: C.
        experts: names of the experts; more than one needs a router.
        config: width H.
        router: weighs the experts; None gives a single expert the weight 1.
        sees: {expert: modalities that it sees}; all for one not named.

    Attributes:
        attends: whether there are attention maps.
        config: what it was built from.
        routes: whether outputs say how tokens were routed (`MoEOutput.routing`).

    Raises:
        InputError: for fewer than two modalities, a modality whose name cannot name a module, or
            several experts without a router.
    """

    attends: ClassVar[bool] = True
    routes: ClassVar[bool] = False

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
        hidden, self.config = config.hidden, config
        self.widths, self.experts = dict(widths), tuple(experts)
        self.sees = {e: tuple((sees or {}).get(e, widths)) for e in experts}
        self.hidden, self.classes, self.input_dropout = hidden, classes, config.input_dropout
        self.projections = nn.ModuleDict({m: Projection(d, hidden) for m, d in widths.items()})
        self.router = router

    def save_pretrained(
        self, folder: str | Path, *, labels: Sequence[str] | None = None, card: str | None = None
    ) -> Path:
        """Writes the model into a folder, as `fli2moe.model.save_pretrained` does."""
        from fli2moe.model.pretrained import save_pretrained  # which builds models

        return save_pretrained(self, self.config, folder, labels=labels, card=card)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Self:
        """Reads a saved model of this class; `fli2moe.model.from_pretrained` has more options.

        Raises:
            InputError: as that function, and when the folder holds another kind of model.
        """
        from fli2moe.model.pretrained import from_pretrained

        model = from_pretrained(name_or_path)
        if not isinstance(model, cls):
            found, remedy = type(model).__name__, "use fli2moe.model.from_pretrained for any"
            raise InputError(str(name_or_path), f"a {found}", f"a {cls.__name__}", remedy)
        return model

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

    @property
    def longest(self) -> int | None:
        """The most tokens of a modality that it can read; None where there is no limit."""
        return None

    def standardise(self, modality: str, mean: Tensor, deviation: Tensor) -> None:
        """Stores the training set's channel mean and deviation (D,) of one modality."""
        projection = self.projections[modality]
        assert isinstance(projection, Projection)  # for the type checker
        projection.set_statistics(mean, deviation)

    def forward(self, batch: TokenBatch, *, attention: bool = False) -> MoEOutput:
        """Runs the model on features; attention maps are returned on request.

        A sample may lack a modality (its mask is False everywhere), or even all of them: then its
        latents are 0, and its logits are what the classifiers' biases say (ours).

        Raises:
            InputError: as `project`.
        """
        return self.fuse(self.project(batch), masks_of(batch), attention=attention)

    def project(self, batch: TokenBatch) -> dict[str, Tensor]:
        """Returns {modality: (B, T, H)}: standardised and projected, without positions.

        Features at padding are cleared first: attention and pooling give them the weight 0, but
        0 times NaN or infinity would still reach the logits and the gradients.

        Raises:
            InputError: when modalities or widths are not the model's, or a real token holds NaN or
                infinity.
        """
        check_batch(batch, self.widths)
        clean = {
            m: torch.where(batch[m].mask[..., None], batch[m].features, 0.0)
            for m in self.modalities
        }
        for m, x in clean.items():
            check_finite(m, x)
        return {m: self.projections[m](x) for m, x in clean.items()}

    def fuse(
        self,
        projected: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        *,
        attention: bool = False,
    ) -> MoEOutput:
        """Runs experts and router on projected tokens {(B, T, H)} with masks {(B, T)}."""
        view = View(projected, masks)
        bank = self.read([view], trace="map" if attention else "")[0]
        return self.weigh(view, bank.latents, joined(bank.traces), bank.routing or None)

    def weigh(
        self,
        view: View,
        latents: Tensor,
        attention: tuple[Tensor, ...] | None = None,
        routing: tuple[Routing, ...] | None = None,
    ) -> MoEOutput:
        """Returns the output that follows from the experts' latents (E, B, M * H) of a view."""
        expert_logits = self.classify(latents)
        if self.router is None:
            weights = expert_logits.new_ones(expert_logits.shape[:2])
        else:
            ordered = {m: view.projected[m] for m in self.modalities}
            weights = self.router(ordered, view.masks)  # (B, E)
        logits = torch.einsum("be,bec->bc", weights, expert_logits)
        return MoEOutput(
            logits, weights, expert_logits, latents.transpose(0, 1), attention, routing
        )

    @abstractmethod
    def read(self, views: Sequence[View], *, trace: str = "") -> list[BankOutput]:
        """Runs the experts on several views.

        Args:
            views: of at most as many rows as the first.
            trace: what to return of each attention: `map` or `relevance` (see `attend`).
        """

    @abstractmethod
    def classify(self, latents: Tensor) -> Tensor:
        """Maps the experts' latents (E, B, M * H) to their logits (B, E, C)."""

    def under(self, states: TwoStates, kept: Mapping[str, Tensor]) -> MoEOutput:
        """Returns the output for one sample under N coalitions.

        Args:
            states: what its tokens are, there and hidden.
            kept: {modality: (N, T)} bool, on the CPU: the tokens that each coalition shows.
        """
        view = states.view(kept)
        return self.fuse(view.projected, view.masks)


def joined(maps: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...] | None:
    """Returns one map (E, B, heads, T, T) per layer from those of each group of experts."""
    layers = list(zip(*maps, strict=True))
    if not layers:
        return None
    return tuple(groups[0] if len(groups) == 1 else torch.cat(groups) for groups in layers)


def masks_of(batch: TokenBatch) -> dict[str, Tensor]:
    """Returns {modality: (B, T) bool mask}."""
    return {m: tokens.mask for m, tokens in batch.items()}
