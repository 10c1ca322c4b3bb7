"""Projection, positions and masked means."""

from __future__ import annotations

import math

import pytest
import torch

from fli2moe.errors import InputError
from fli2moe.model import inputs
from fli2moe.model.inputs import Positions, check_baseline, masked_mean, sinusoidal


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_sinusoidal_positions_are_those_of_the_formula(width: int) -> None:
    table = sinusoidal(5, width)
    assert table.shape == (5, width)
    for position in range(5):
        for channel in range(width):
            angle = position / 10000 ** ((channel - channel % 2) / width)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert float(table[position, channel]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["sinusoidal", "learned", "none"])
def test_positions_are_counted_per_modality(kind: str) -> None:
    positions = Positions(("text", "image"), 4, kind, 9)
    text, image = positions("text", torch.zeros(1, 5, 4)), positions("image", torch.zeros(1, 3, 4))
    assert text.shape == (1, 5, 4)
    own = image[0] - positions.modality["image"]  # from 0 again, not from 5
    if kind == "sinusoidal":
        torch.testing.assert_close(own, sinusoidal(3, 4), rtol=0, atol=1e-6)
    elif kind == "learned":
        torch.testing.assert_close(own, positions.table["image"][:3], rtol=0, atol=1e-6)
    else:
        assert not own.any()


def test_sinusoidal_positions_are_made_once_and_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(length: int, width: int) -> torch.Tensor:
        made.append(length)
        return sinusoidal(length, width)

    monkeypatch.setattr(inputs, "sinusoidal", counted)
    positions = Positions(("text", "image"), 4, "sinusoidal", 9)
    saved = set(positions.state_dict())
    with torch.inference_mode():  # as validation runs
        positions("text", torch.zeros(1, 5, 4))
        positions("image", torch.zeros(1, 3, 4))
    x = torch.zeros(2, 4, 4, requires_grad=True)
    placed = positions("text", x)
    placed.sum().backward()
    assert made == [5]
    expected = (sinusoidal(4, 4) + positions.modality["text"]).expand(2, -1, -1)
    torch.testing.assert_close(placed, expected, rtol=0, atol=0)
    longer = positions("text", torch.zeros(1, 20, 4, dtype=torch.bfloat16))
    assert made == [5, 20]
    torch.testing.assert_close(longer[0].float(), sinusoidal(20, 4), rtol=0.02, atol=0.1)
    torch.testing.assert_close(
        positions("text", torch.zeros(1, 4, 4)), expected[:1], rtol=0, atol=0
    )
    assert set(positions.state_dict()) == saved == {"modality.text", "modality.image"}
    copy = Positions(("text", "image"), 4, "sinusoidal", 9)
    copy.load_state_dict(positions.state_dict())


def test_an_unknown_position_encoding_names_the_closest() -> None:
    with pytest.raises(InputError, match="did you mean 'learned'"):
        Positions(("text", "image"), 4, "learnt", 9)


def test_a_masked_mean_is_the_mean_of_the_real_tokens() -> None:
    x = torch.tensor([[[1.0], [3.0], [float("nan")]], [[5.0], [float("inf")], [7.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(x, mask).tolist() == [[2.0], [0.0]]


def test_a_baseline_must_be_one_vector_per_modality() -> None:
    widths = {"text": 2, "image": 3}
    check_baseline({"image": torch.zeros(3), "text": torch.zeros(2)}, widths)
    for bad in ({"text": torch.zeros(2)}, {"text": torch.zeros(2), "image": torch.zeros(1, 3)}):
        with pytest.raises(InputError, match="baseline: shapes"):
            check_baseline(bad, widths)
