"""Tiny models and token batches; everything in float64 and drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fli2moe.config import ModelConfig
from fli2moe.model import FusionTransformer, build_model
from fli2moe.tokens import TokenBatch, Tokens

WIDTHS = {"text": 5, "image": 3}
THREE = {"text": 5, "image": 3, "audio": 4}
FOUR = {**THREE, "table": 2}
CLASSES = 3


def tiny_model(
    name: str = "fli2moe",
    widths: Mapping[str, int] = WIDTHS,
    *,
    seed: int = 0,
    classes: int = CLASSES,
    **options: object,
) -> FusionTransformer:
    """A small model in evaluation mode; biases and norms are moved away from 0 and 1."""
    sizes = {"hidden": 8, "heads": 2, "layers": 2, "dropout": 0.0, "positions": "learned"}
    router = {"hidden": 6, "dropout": 0.0, "temperature": 1.0}
    config = ModelConfig.model_validate(
        {"name": name, "router": router, "attention_dropout": 0.0, **sizes, **options}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config, widths, classes).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def tiny_batch(
    lengths: Sequence[Mapping[str, int]] | None = None,
    *,
    widths: Mapping[str, int] = WIDTHS,
    seed: int = 0,
    structural: bool = False,
) -> TokenBatch:
    """Random tokens; `lengths` are each sample's numbers of real tokens.

    Padding holds random features too, so that a leak shows. With `structural` the first token of
    each modality has no place in the raw input.
    """
    generator = torch.Generator().manual_seed(seed)
    if lengths is None:
        lengths = [dict.fromkeys(widths, 4), {m: 2 + i for i, m in enumerate(widths)}]
    tokens = {}
    for m, width in widths.items():
        longest = max(sample[m] for sample in lengths)
        shape = (len(lengths), longest)
        features = torch.randn(*shape, width, generator=generator, dtype=torch.float64)
        place = torch.arange(longest)
        mask = place < torch.tensor([sample[m] for sample in lengths])[:, None]
        corners = [place, place + 1] if m == "text" else [place, place, place + 1, place + 1]
        spans = torch.stack(corners, -1).expand(*shape, -1)
        spans = torch.where(mask[..., None], spans, -1)
        if structural:
            spans[:, 0] = -1
        tokens[m] = Tokens(features, mask, spans)
    return TokenBatch(tokens)


def gappy(widths: Mapping[str, int], size: int = 7) -> list[dict[str, int]]:
    """Lengths of samples of which the second, fifth and sixth lack one modality or more.

    The second lacks the last, the fifth the first, the sixth has the second alone.
    """
    names = list(widths)
    lengths = [{m: 1 + (2 * i + 3 * j) % 5 for j, m in enumerate(names)} for i in range(size)]
    for row, missing in ((1, names[-1:]), (4, names[:1]), (5, [names[0], *names[2:]])):
        lengths[row].update(dict.fromkeys(missing, 0))
    return lengths


def replace(batch: TokenBatch, **tokens: Tokens) -> TokenBatch:
    """The batch with some modalities exchanged."""
    return TokenBatch({**batch, **tokens})


def alone(batch: TokenBatch, row: int) -> TokenBatch:
    """One sample of the batch without padding."""
    return TokenBatch(
        {
            m: Tokens(*(x[row : row + 1, t.mask[row]] for x in (t.features, t.mask, t.spans)))
            for m, t in batch.items()
        }
    )
