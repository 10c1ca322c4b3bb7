"""Passes: what experts read, and in which order they are run over it.

Why that is fast, and changes nothing, stands in `docs/execution.md`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fli2moe.errors import InputError
from fli2moe.model.output import Routing

ALONE = 2**18
"""Numbers in all sequences from which a CPU is faster with one expert after the other."""


@dataclass(frozen=True, eq=False)
class Pass:
    """A batch of sequences that the experts read.

    Attributes:
        mask: (B, T) bool: which tokens are there.
        owner: (T,) or (B, T) int64: the modality of each token, from 0.
    """

    mask: Tensor
    owner: Tensor

    def seen(self, sees: Tensor) -> Tensor:
        """(e, B, M, T) bool: the tokens there are of each modality, if the expert sees it.

        Args:
            sees: (e, M) bool.
        """
        modality = torch.arange(sees.shape[1], device=self.mask.device)[:, None]
        own = (self.owner[..., None, :] == modality) & self.mask[:, None]  # (B, M, T)
        return own & sees[:, None, :, None]


Assemble = Callable[[Tensor], Sequence[Tensor]]
"""Maps tokens, or what became of each, (e, ..., W), to the sequences (e, B, T, W) of each pass."""


def as_they_are(tokens: Tensor) -> Sequence[Tensor]:
    """One pass that reads the tokens as they stand."""
    return (tokens,)


@dataclass(frozen=True, eq=False)
class BankOutput:
    """What the experts make of one pass.

    Attributes:
        latents: (E, B, M * H).
        traces: per group of experts that ran together, what `attend` traced in each layer, as
            (e, B, ...); empty where nothing was asked for.
        routing: of each sparse layer; empty where there is none.
    """

    latents: Tensor
    traces: tuple[tuple[Tensor, ...], ...] = ()
    routing: tuple[Routing, ...] = ()


class Bank(nn.Module, ABC):
    """What `run_experts` runs: E experts that each see some of M modalities.

    Raises:
        InputError: when `heads` does not divide `width`.
    """

    sees: Tensor

    def __init__(
        self, sees: Sequence[Sequence[int]], modalities: int, heads: int, width: int
    ) -> None:
        super().__init__()
        check_heads(heads, width)
        seen = [[m in own for m in range(modalities)] for own in sees]
        self.register_buffer("sees", torch.tensor(seen), persistent=False)

    @abstractmethod
    def forward(
        self,
        tokens: Tensor,
        passes: Sequence[Pass],
        assemble: Assemble = as_they_are,
        *,
        trace: str = "",
    ) -> list[BankOutput]:
        """Runs all experts at once; arguments as those of `run_experts`."""


def check_heads(heads: int, width: int) -> None:
    """Raises InputError when `heads` does not divide `width`."""
    if width % heads:
        divisors = [h for h in range(1, width + 1) if width % h == 0 and h <= 16]
        found, expected = f"{heads} heads", f"a divisor of the width {width}"
        raise InputError("model.heads", found, expected, f"use one of {divisors}")


def run_experts(
    bank: Bank,
    tokens: Tensor,
    passes: Sequence[Pass],
    assemble: Assemble = as_they_are,
    *,
    trace: str = "",
) -> list[BankOutput]:
    """Runs a bank over passes whose sequences are made of the same tokens, the fastest way.

    What the first layer does to each token by itself is done once, before `assemble`. On a CPU each
    expert runs alone when all together would leave its caches; elsewhere all experts and passes run
    as one.

    Args:
        bank: E experts.
        tokens: (..., H), placed.
        passes: what is there in the sequences; as many tokens and the same owner in all.
        assemble: makes the sequences.
        trace: what to return of each attention, as that of `attend`.
    """
    numbers = sum(one.mask.numel() for one in passes) * tokens.shape[-1]
    with _SWAPPING:
        if tokens.device.type == "cpu" and numbers >= ALONE and len(bank.sees) > 1:
            return _one_by_one(bank, tokens, passes, assemble, trace)
        if len(passes) > 1 and len(bank.sees) > 1:
            return _folded(bank, tokens, passes, assemble, trace)
        as_asked: list[BankOutput] = bank(tokens, passes, assemble, trace=trace)
        return as_asked


_SWAPPING = threading.RLock()
"""`functional_call` puts an expert's weights into the bank: no other thread may run it then."""


def _one_by_one(
    bank: Bank, tokens: Tensor, passes: Sequence[Pass], assemble: Assemble, trace: str
) -> list[BankOutput]:
    """The bank with the weights of one expert after the other."""
    parts = {name: torch.split(x, 1) for name, x in bank.state_dict(keep_vars=True).items()}
    parts["sees"] = torch.split(bank.sees, 1)
    experts = ({name: part[e] for name, part in parts.items()} for e in range(len(bank.sees)))
    arguments = (tokens, passes, assemble)
    done = [functional_call(bank, weights, arguments, {"trace": trace}) for weights in experts]
    return [
        BankOutput(
            torch.cat([run[p].latents for run in done]),
            tuple(group for run in done for group in run[p].traces),
        )
        for p in range(len(passes))
    ]


def _folded(
    bank: Bank, tokens: Tensor, passes: Sequence[Pass], assemble: Assemble, trace: str
) -> list[BankOutput]:
    """All passes as the rows of one."""
    rows = [len(one.mask) for one in passes]
    whole = Pass(torch.cat([one.mask for one in passes]), passes[0].owner)

    def together(x: Tensor) -> Sequence[Tensor]:
        return (torch.cat(list(assemble(x)), dim=1),)

    folded: BankOutput = bank(tokens, [whole], together, trace=trace)[0]
    latents = torch.split(folded.latents, rows, dim=1)
    traces = [tuple(torch.split(x, rows, dim=1) for x in group) for group in folded.traces]
    return [
        BankOutput(z, tuple(tuple(layer[p] for layer in group) for group in traces))
        for p, z in enumerate(latents)
    ]
