"""From encoder features to the experts' sequence: standardise, project, place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fli2moe.errors import InputError, unknown_name
from fli2moe.tokens import TokenBatch

POSITIONS = ("sinusoidal", "learned", "none")


class Projection(nn.Module):
    """Standardises one modality's features per channel and projects them, D -> H.

    The statistics are buffers: they are stored with the model. Without `set_statistics` they are
    mean 0 and deviation 1, which changes nothing.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.linear = nn.Linear(inputs, outputs)

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Sets the training set's channel mean (D,) and standard deviation (D,).

        A channel that is constant there is shifted but not scaled: a division by almost nothing
        would let the first sample that differs in it drown everything else.
        """
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (..., D) to (..., H)."""
        projected: Tensor = self.linear((features - self.mean) / self.deviation)
        return projected


class Positions(nn.Module):
    """Adds a position and a modality embedding to projected tokens, counted per modality.

    Counting per modality is what keeps a patch's position independent of how long the text of the
    batch was padded.

    Raises:
        InputError: when `kind` is unknown, or a sequence is longer than `max_positions` with
            learned positions.
    """

    waves: Tensor

    def __init__(self, modalities: tuple[str, ...], width: int, kind: str, longest: int) -> None:
        super().__init__()
        if kind not in POSITIONS:
            raise unknown_name("model.positions", "position encoding", kind, POSITIONS)
        self.kind, self.width, self.longest = kind, width, longest
        self.modality = nn.ParameterDict(
            {m: nn.Parameter(0.02 * torch.randn(width)) for m in modalities}
        )
        if kind == "sinusoidal":  # grown on demand, and not saved: it follows from the width
            self.register_buffer("waves", torch.zeros(0, width), persistent=False)
        if kind == "learned":
            self.table = nn.ParameterDict(
                {m: nn.Parameter(0.02 * torch.randn(longest, width)) for m in modalities}
            )

    def forward(self, modality: str, projected: Tensor) -> Tensor:
        """Maps one modality's projected tokens (B, T, H) to their places."""
        place: Tensor = self._positions(modality, projected) + self.modality[modality]
        return projected + place

    def _positions(self, modality: str, x: Tensor) -> Tensor:  # (T, H)
        length = x.shape[1]
        if self.kind == "none":
            return x.new_zeros(length, self.width)
        if self.kind == "sinusoidal":
            if length > len(self.waves):
                with torch.inference_mode(False):  # kept, so it must serve training too
                    self.waves = sinusoidal(length, self.width).to(x.device)
            return self.waves[:length].to(x)
        if length > self.longest:
            raise InputError(
                f"modality {modality}",
                f"{length} tokens",
                f"at most {self.longest}",
                "raise model.max_positions or use positions: sinusoidal",
            )
        table: Tensor = self.table[modality]
        return table[:length]


def sinusoidal(length: int, width: int) -> Tensor:
    """Returns (length, width) sine and cosine positions (Vaswani et al. 2017, section 3.5)."""
    # In float64: a position of 1,000 times a rounded frequency is off by 6e-5 in float32.
    position = torch.arange(length, dtype=torch.float64)[:, None]
    channels = torch.arange(0, width, 2, dtype=torch.float64)
    angle = position * torch.exp(channels * (-math.log(10000.0) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(angle)
    table[:, 1::2] = torch.cos(angle[:, : width // 2])
    return table


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (..., T, H) over the tokens where mask (..., T) is True; 0 where there is none."""
    kept = torch.where(mask[..., None], x, 0.0)  # not a product: NaN at padding must not leak
    return kept.sum(-2) / mask.sum(-1, keepdim=True).clamp_min(1)


def check_batch(batch: TokenBatch, widths: Mapping[str, int]) -> None:
    """Raises InputError when modalities or widths are not the model's, or B or all T are 0."""
    if set(batch) != set(widths):
        raise InputError("model input", f"modalities {sorted(batch)}", f"{sorted(widths)}")
    for modality, width in widths.items():
        if batch[modality].width != width:
            raise InputError(
                f"modality {modality}",
                f"features of width {batch[modality].width}",
                str(width),
                "encode with the encoder that the model was trained with",
            )
    if not batch.batch_size:
        raise InputError("model input", "no sample", "at least one", "leave empty batches out")
    if not any(tokens.mask.shape[1] for tokens in batch.values()):
        remedy = "give one that is masked out"
        raise InputError("model input", "T = 0 in every modality", "room for a token", remedy)


def check_finite(modality: str, features: Tensor) -> None:
    """Raises InputError when features (B, T, D), cleared at padding, hold NaN or infinity."""
    features = features.detach()
    if features.is_meta:  # no values to look at
        return
    if bool(torch.isfinite(features.sum())):  # one quick pass; a sum that overflows is told apart
        return
    found = (~torch.isfinite(features).all(-1)).nonzero()  # (N, 2)
    if len(found):
        row, token = found[0].tolist()
        raise InputError(
            f"modality {modality}",
            f"a NaN or infinite feature at sample {row}, token {token}",
            "finite features at real tokens",
            "run the encoder in float32 or bfloat16, or mask the token out",
        )


def check_baseline(baseline: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    """Raises InputError when the baseline is not one vector (D,) for each of the modalities."""
    found = {m: tuple(x.shape) for m, x in baseline.items()}
    expected = {m: (width,) for m, width in widths.items()}
    if found != expected:
        raise InputError("baseline", f"shapes {found}", f"{expected}")
