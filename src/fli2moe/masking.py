"""Random baseline masking in training, so that hidden tokens are nothing new to the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fli2moe.tokens import TokenBatch


def mask_at_random(
    tokens: TokenBatch, means: Mapping[str, Tensor], share: float, generator: torch.Generator
) -> TokenBatch:
    """Hides a random part of the content tokens of a random share of the samples.

    Each chosen sample draws its own keep probability q uniformly from [0, 1]: the law of the
    contexts that the Shapley probes use (ours; design 3.9).

    Args:
        tokens: a training batch.
        means: {modality: (D,)} what hidden tokens become.
        share: of the samples, in [0, 1].
        generator: on the CPU.
    """
    size = tokens.batch_size
    chosen = torch.rand(size, generator=generator) < share
    keep = torch.where(chosen, torch.rand(size, generator=generator), 1.0)  # (B,)
    masked = {}
    for m, t in tokens.items():
        draw = torch.rand(t.mask.shape, generator=generator)
        hidden = (draw > keep[:, None]).to(t.mask.device) & t.content
        mean = means[m].to(t.features)
        masked[m] = t.with_features(torch.where(hidden[..., None], mean, t.features))
    return TokenBatch(masked)
