"""Token batches: shapes, stacking, selection."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import WIDTHS, tiny_batch

from fli2moe.errors import InputError
from fli2moe.tokens import STRUCTURAL, Player, TokenBatch, TokenRef, Tokens


def tokens(batch: int = 2, length: int = 3, width: int = 4, span: int = 2) -> Tokens:
    return Tokens(
        torch.rand(batch, length, width),
        torch.ones(batch, length, dtype=torch.bool),
        torch.zeros(batch, length, span),
    )


def test_content_is_real_and_has_a_place() -> None:
    mask = torch.tensor([[True, True, False]])
    spans = torch.tensor([[[-1, -1], [0, 4], [4, 9]]])
    assert Tokens(torch.zeros(1, 3, 2), mask, spans).content.tolist() == [[False, True, False]]


def test_size_width_rows_and_device() -> None:
    whole = tokens(batch=3)
    assert len(whole) == 3
    assert whole.width == 4
    picked = whole[torch.tensor([2, 0])]
    assert torch.equal(picked.features, whole.features[[2, 0]])
    assert torch.equal(whole[1:].spans, whole.spans[1:])
    moved = whole.to("meta")
    assert {x.device.type for x in (moved.features, moved.mask, moved.spans)} == {"meta"}
    other = whole.with_features(torch.zeros(3, 3, 9))
    assert other.width == 9
    assert other.mask is whole.mask


@pytest.mark.parametrize(
    ("features", "mask", "spans", "message"),
    [
        (torch.zeros(2, 3), torch.ones(2, 3).bool(), torch.zeros(2, 3, 2), r"\(B, T, D\)"),
        (torch.zeros(2, 3, 1), torch.ones(2, 2).bool(), torch.zeros(2, 3, 2), r"bool \(2, 3\)"),
        (torch.zeros(2, 3, 1), torch.ones(2, 3), torch.zeros(2, 3, 2), "torch.float32; expected"),
        (torch.zeros(2, 3, 1), torch.ones(2, 3).bool(), torch.zeros(2, 3, 3), r"spans .*\(4,\)"),
        (torch.zeros(2, 3, 1), torch.ones(2, 3).bool(), torch.zeros(2, 2, 2), "spans of shape"),
        (torch.zeros(2, 3, 1), torch.ones(2, 3).bool(), torch.zeros(2, 3), "spans of shape"),
    ],
)
def test_shapes_that_do_not_fit(
    features: torch.Tensor, mask: torch.Tensor, spans: torch.Tensor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Tokens(features, mask, spans)


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    span=st.sampled_from([2, 4]),
)
def test_stacking_pads_on_the_right_and_loses_nothing(lengths: list[int], span: int) -> None:
    rows = [tokens(1, length, 3, span) for length in lengths]
    stacked = Tokens.stack(rows)
    assert stacked.features.shape == (len(rows), max(lengths), 3)
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        assert torch.equal(stacked.features[i, :length], row.features[0])
        assert torch.equal(stacked.spans[i, :length], row.spans[0])
        assert stacked.mask[i].tolist() == [True] * length + [False] * (max(lengths) - length)
        assert not stacked.features[i, length:].any()
        assert (stacked.spans[i, length:] == STRUCTURAL).all()
    assert torch.equal(stacked.content, stacked.mask)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing to stack"),
        ([tokens(width=4), tokens(width=5)], r"widths \[4, 5\]"),
        ([tokens(span=2), tokens(span=4)], r"spans of \[2, 4\] numbers"),
    ],
)
def test_rows_that_do_not_stack(rows: list[Tokens], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tokens.stack(rows)


def test_a_batch_is_a_mapping_of_one_size() -> None:
    batch = TokenBatch({"text": tokens(), "image": tokens(length=5, span=4)})
    assert list(batch) == ["text", "image"]
    assert len(batch) == 2
    assert batch.batch_size == 2
    assert repr(batch) == "TokenBatch({'text': (2, 3, 4), 'image': (2, 5, 4)})"
    one = batch.rows(slice(1, 2))
    assert one.batch_size == 1
    assert torch.equal(one["image"].features[0], batch["image"].features[1])
    assert batch.to("meta")["text"].features.device.type == "meta"


def test_batches_that_cannot_be() -> None:
    with pytest.raises(InputError, match="no modality"):
        TokenBatch({})
    with pytest.raises(InputError, match=r"batch sizes \{'text': 2, 'image': 1\}"):
        TokenBatch({"text": tokens(2), "image": tokens(1)})


def test_stacking_batches_is_the_inverse_of_taking_rows() -> None:
    whole = tiny_batch()
    again = TokenBatch.stack([whole.rows(slice(i, i + 1)) for i in range(2)])
    for m in WIDTHS:
        assert torch.equal(again[m].features, whole[m].features)
        assert torch.equal(again[m].mask, whole[m].mask)


def test_batches_that_do_not_stack() -> None:
    both = TokenBatch({"text": tokens(), "image": tokens()})
    with pytest.raises(InputError, match="nothing to stack"):
        TokenBatch.stack([])
    for other in (TokenBatch({"text": tokens()}), TokenBatch({**both, "audio": tokens()})):
        with pytest.raises(InputError, match=r"expected \['image', 'text'\] in every batch"):
            TokenBatch.stack([both, other])


def test_a_player_reads_as_its_name_or_its_place() -> None:
    assert str(Player("text", (1, 2), ((3, 9),), "framed")) == "framed"
    assert str(Player("image", (4, 5))) == "image[4,5]"
    assert TokenRef("text", 3) == TokenRef("text", 3)
