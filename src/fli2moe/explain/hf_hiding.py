"""Keeping a Hugging Face model from seeing tokens: masked attention or baseline embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fli2moe.errors import InputError, unknown_name

HIDES = ("embedding", "attention")
BASELINES = ("mean", "zero", "neutral")
LEAK = 1e-3  # of the score, at least of 1: more than this is no rounding

Present = Mapping[str, Tensor]
"""{modality: (N, T) bool}, True where a token or patch is present; structural ones always are."""


@dataclass(frozen=True)
class Hiding:
    """What happens to hidden tokens.

    Attributes:
        masked: whether attention leaves them out.
        baseline: {modality: (D,)} that replaces their embeddings, before positions are added;
            a modality that is not in it keeps its own.
    """

    masked: bool
    baseline: Mapping[str, Tensor]


@dataclass(frozen=True)
class OpenModel:
    """A model and one sample, ready to be asked with tokens hidden.

    Attributes:
        embeddings: {modality: (T, D)} of the sample, before positions; `text` comes first.
        neutral: {modality: (D,)} embedding of nothing: of the mask or padding token (missing where
            the tokenizer has neither), of a patch whose pixels are all 0.
        boxes: {picture: (T, 4)} patches x0 y0 x1 y1 in raw pixels; -1 marks what lies outside.
        labels: names of the C logits.
        run: hiding -> function from `Present` to logits (N, C).
    """

    embeddings: Mapping[str, Tensor]
    neutral: Mapping[str, Tensor]
    boxes: Mapping[str, Tensor]
    labels: tuple[str, ...]
    run: Callable[[Hiding], Callable[[Present], Tensor]]


def hiding_of(
    opened: OpenModel,
    content: Mapping[str, Tensor],
    hide: str,
    baseline: str | Mapping[str, Tensor],
) -> Hiding:
    """Returns the hiding that a user asked for.

    Args:
        opened: the model and the sample.
        content: {modality: (T,) bool} what may be hidden.
        hide: one of `HIDES`.
        baseline: one of `BASELINES`, or {modality: (D,)}.

    Raises:
        InputError: an unknown name, no neutral token, a baseline that does not fit.
    """
    if hide not in HIDES:
        raise unknown_name("hide", "way", hide, HIDES)
    if isinstance(baseline, str) and baseline not in BASELINES:
        raise unknown_name("baseline", "baseline", baseline, BASELINES)
    if hide == "attention":
        return Hiding(True, {})
    if not isinstance(baseline, str):
        return Hiding(False, {m: _given(baseline, m, e) for m, e in opened.embeddings.items()})
    if baseline == "zero":
        return Hiding(False, {m: e.new_zeros(e.shape[1]) for m, e in opened.embeddings.items()})
    if baseline == "mean":
        return Hiding(
            False, {m: e[content[m].to(e.device)].mean(0) for m, e in opened.embeddings.items()}
        )
    if "text" not in opened.neutral:
        found = "a tokenizer with neither a mask nor a padding token"
        raise InputError("baseline 'neutral'", found, "one of the two", "use baseline='mean'")
    return Hiding(False, opened.neutral)


def check_unseen(opened: OpenModel, content: Mapping[str, Tensor]) -> None:
    """Checks that masked attention hides: what stands in a hidden token's place is not seen.

    Costs one evaluation, and one more for each modality.

    Raises:
        InputError: when it is seen, as by a pooling that takes no mask.
    """
    nobody = {m: ~mask[None] for m, mask in content.items()}
    expected = opened.run(Hiding(True, {}))(nobody)
    for modality, embeddings in opened.embeddings.items():
        other = embeddings.flip(-1).mean(0) + 1.0  # anything but what the sample has
        found = opened.run(Hiding(True, {modality: other}))(nobody)
        worst = float(((found - expected).abs() / expected.abs().clamp(min=1.0)).max())
        if not worst <= LEAK:
            what = f"the model still sees tokens of {modality} that attention leaves out"
            raise InputError("hide 'attention'", what, "", "use hide='embedding'")


@contextmanager
def replaced(module: nn.Module, hidden: Tensor, baseline: Tensor | None) -> Iterator[None]:
    """Replaces a module's output by a baseline at hidden places, inside the block only.

    Args:
        module: an embedding that returns (N, T, D), or (N, D, rows, columns) with T of them.
        hidden: (N, T) bool.
        baseline: (D,), or None to change nothing.

    Raises:
        InputError: when the model never called the module, so that nothing was hidden.
    """
    if baseline is None:
        yield
        return
    calls = 0

    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        value = baseline.to(output)
        if output.ndim == 4:
            where = hidden.view(len(hidden), 1, *output.shape[2:])
            return torch.where(where, value[None, :, None, None], output)
        return torch.where(hidden[..., None], value, output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if not calls:
        found = f"the model never called its {type(module).__name__}"
        raise InputError("hide 'embedding'", found, "one call", "use hide='attention'")


def _given(baseline: Mapping[str, Tensor], modality: str, embeddings: Tensor) -> Tensor:
    width = embeddings.shape[1]
    if modality not in baseline:
        found = f"no {modality} among {', '.join(baseline) or 'none'}"
        raise InputError("baseline", found, f"an embedding ({width},) for every modality")
    if baseline[modality].shape != (width,):
        found = f"shape {tuple(baseline[modality].shape)}"
        raise InputError(f"baseline of {modality}", found, f"({width},)")
    return baseline[modality].to(embeddings)
