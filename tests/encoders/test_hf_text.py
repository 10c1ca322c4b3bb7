"""Text encoders of every family: exact spans, no influence of the batch, never trained."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fli2moe.encoders import load_encoder, word_players, word_spans
from fli2moe.encoders.base import Encoder
from fli2moe.encoders.hf_text import HFTextEncoder, settled_spans
from fli2moe.errors import InputError

FAMILIES = ("bert", "roberta", "t5", "gpt2", "clip", "siglip")
SNIPPETS = [
    "hello", " world", " ", "  ", "don't", ",", "!!!", "🙂", "👨‍👩‍👧", "🇩🇪", "é", "e\u0301", "नमस्ते",
    "สวัสดี", "你好", "한국어", " مرحبا", "\u202e", "\u200b", "\r\n", "\0", "\ud800", "\udc00",
    "[SEP]", "</s>", "İ", "ﬁ", "𝒳", "\ufffd", "<script>",
]  # fmt: skip
texts = st.lists(st.sampled_from(SNIPPETS), max_size=8).map("".join) | st.text(max_size=20)
slow_fixture = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def encoders(model_folder: Callable[[str], str]) -> dict[str, Encoder]:
    return {name: load_encoder(model_folder(name), kind="text") for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def encoder(request: pytest.FixtureRequest, encoders: dict[str, Any]) -> HFTextEncoder:
    encoder: HFTextEncoder = encoders[request.param]
    return encoder


def test_it_is_an_encoder(encoder: HFTextEncoder) -> None:
    assert isinstance(encoder, Encoder)
    tokens = encoder.encode(["hello world"])
    assert (encoder.kind, encoder.width, tokens.width) == ("text", 16, 16)
    assert tokens.features.dtype == torch.float32
    assert not tokens.features.requires_grad
    assert tokens.spans.dtype == torch.int64


@slow_fixture
@given(texts)
def test_every_explained_word_is_the_exact_substring(encoder: HFTextEncoder, text: str) -> None:
    tokens = encoder.encode([text])
    spans = tokens.spans[0]
    content = torch.nonzero(tokens.content[0]).flatten().tolist()
    assert torch.isfinite(tokens.features).all()
    for index in content:
        start, end = spans[index].tolist()
        assert 0 <= start < end <= len(text)
    players = word_players(text, spans, "text")
    assert sorted(index for player in players for index in player.tokens) == content
    words = set(word_spans(text))
    for player in players:
        ((start, end),) = player.spans
        assert player.name == text[int(start) : int(end)]
        assert not words or {start, end} <= {edge for word in words for edge in word}
    cut = encoder.unseen(text)
    for start, end in cut:
        assert all(spans[index, 1] <= start for index in content)
        assert end == len(text)


@slow_fixture
@given(st.lists(texts, min_size=2, max_size=4))
def test_the_batch_does_not_change_features(encoder: HFTextEncoder, batch: list[str]) -> None:
    together = encoder.encode(batch)
    for row, text in enumerate(batch):
        alone = encoder.encode([text])
        length = int(alone.mask.sum())
        assert torch.equal(together.mask[row, :length], alone.mask[0, :length])
        assert not together.mask[row, length:].any()
        assert torch.equal(together.spans[row, :length], alone.spans[0, :length])
        difference = together.features[row, :length] - alone.features[0, :length]
        assert not length or difference.abs().max() <= 1e-5


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_content_is_a_row_of_padding(encoder: HFTextEncoder, text: str) -> None:
    tokens = encoder.encode([text, "hello"])
    assert tokens.content[1].any()
    assert not tokens.content[0].any()
    assert encoder.encode([text]).features.shape[1] >= 1
    assert encoder.unseen(text) == ()


def test_long_text_is_cut_at_the_models_maximum(encoder: HFTextEncoder) -> None:
    text = "hello world, " * 200
    tokens = encoder.encode([text])
    assert encoder.max_tokens in (24, 40)
    assert encoder.max_tokens - 2 <= tokens.mask.sum() <= encoder.max_tokens
    ((start, end),) = encoder.unseen(text)
    assert start == tokens.spans[0, :, 1].max()
    assert end == len(text)
    # the beginning is kept, whatever side the folder's tokenizer would cut
    assert tokens.spans[0, 0, 0] == 0


def test_characters_are_cut_before_tokenising(model_folder: Callable[[str], str]) -> None:
    encoder = load_encoder(model_folder("bert"), max_chars=5)
    tokens = encoder.encode(["hello world"])
    assert tokens.spans[0].max() == 5
    assert encoder.unseen("hello world") == ((5, 11),)
    assert encoder.unseen("hello  ") == ()


def test_max_tokens_counts_structural_ones(model_folder: Callable[[str], str]) -> None:
    encoder = load_encoder(model_folder("bert"), max_tokens=4)
    assert encoder.encode(["a b c d e"]).spans[0].tolist() == [[0, 1], [2, 3]]
    assert encoder.unseen("a b c d e") == ((3, 9),)
    for wrong in (0, 2, -1, 2.5):
        with pytest.raises(InputError, match="max_tokens"):
            load_encoder(model_folder("bert"), max_tokens=wrong)


@pytest.mark.parametrize(("family", "opening"), [("bert", 1), ("roberta", 1), ("siglip", 0)])
def test_keep_keeps_structural_tokens(
    model_folder: Callable[[str], str], encoders: dict[str, Encoder], family: str, opening: int
) -> None:
    kept = load_encoder(model_folder(family), kind="text", structural_tokens="keep")
    tokens, dropped = kept.encode(["hello", ""]), encoders[family].encode(["hello", ""])
    length = int(dropped.mask[0].sum())
    assert tokens.mask[0].sum() == length + opening + 1
    assert torch.equal(tokens.spans[0, opening : opening + length], dropped.spans[0, :length])
    assert torch.allclose(
        tokens.features[0, opening : opening + length], dropped.features[0, :length], atol=1e-5
    )
    assert (tokens.spans[0, opening + length] == -1).all()
    assert tokens.mask[1].sum() == opening + 1
    assert not tokens.content[1].any()
    assert kept.fingerprint != encoders[family].fingerprint


def test_special_tokens_in_the_text_are_text(encoder: HFTextEncoder) -> None:
    text = "a [SEP] b </s> c"
    covered = {
        position
        for start, end in encoder.encode([text]).spans[0].tolist()
        for position in range(start, end)
    }
    assert covered >= {position for position, char in enumerate(text) if char != " "}


def test_surrogates_and_nul_keep_their_places(encoder: HFTextEncoder) -> None:
    text = "a\ud800b \0 hello"
    players = word_players(text, encoder.encode([text]).spans[0], "text")
    assert players[-1].name == "hello"
    assert players[-1].spans == ((6, 11),)


def test_zero_width_tokens_take_their_neighbours_span() -> None:
    offsets = [(0, 0), (1, 1), (1, 3), (3, 4), (0, 0)]
    special = [1, 0, 0, 0, 1]
    expected = [(-1, -1), (2, 3), (2, 3), (2, 3), (-1, -1)]
    assert settled_spans("  a ", offsets, special) == expected
    assert settled_spans(" ", [(0, 1)], [0]) == [(-1, -1)]


def test_features_are_the_models_own(model_folder: Callable[[str], str]) -> None:
    from transformers import AutoTokenizer, BertModel

    folder = model_folder("bert")
    model = BertModel.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)("hello world", return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[0, 1:-1]
    assert torch.allclose(load_encoder(folder).encode(["hello world"]).features[0], expected)


def test_the_clip_tower_is_the_text_tower(
    model_folder: Callable[[str], str], encoders: dict[str, Encoder]
) -> None:
    from transformers import AutoTokenizer, CLIPTextModel

    folder = model_folder("clip")
    model = CLIPTextModel.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)("hello world", return_tensors="pt")
    with torch.no_grad():
        expected = model(inputs["input_ids"]).last_hidden_state[0, 1:-1]
    assert torch.allclose(encoders["clip"].encode(["hello world"]).features[0], expected)


def test_siglip_reads_the_padding_it_was_trained_with(
    model_folder: Callable[[str], str], encoders: dict[str, Encoder]
) -> None:
    from transformers import PreTrainedTokenizerFast, SiglipTextModel

    folder = model_folder("siglip")
    model = SiglipTextModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    inputs = tokenizer("hello", padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        expected = model(inputs["input_ids"]).last_hidden_state[0]
    features = encoders["siglip"].encode(["hello"]).features[0]
    assert torch.allclose(features, expected[: len(features)], atol=1e-6)


def test_it_never_trains(encoder: HFTextEncoder) -> None:
    before = encoder.encode(["hello world"]).features

    class Parent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

    parent = Parent()
    parent.train()
    assert not list(parent.parameters())
    assert not list(parent.modules())[1:]
    assert not [value for value in vars(encoder).values() if isinstance(value, torch.nn.Module)]
    assert torch.equal(encoder.encode(["hello world"]).features, before)


def test_what_is_no_text_is_an_error(encoder: HFTextEncoder) -> None:
    for wrong in (None, 3, b"hello", float("nan")):
        with pytest.raises(InputError, match="expected a str"):
            encoder.encode(["fine", wrong])
    with pytest.raises(InputError, match="no texts"):
        encoder.encode([])


def test_the_real_mini_lm(mini_lm: str) -> None:
    encoder = load_encoder(mini_lm)
    text = "A naïve, unbelievable plot 🙂 (don't watch)"
    tokens = encoder.encode([text, ""])
    assert (encoder.width, tokens.features.shape[0]) == (384, 2)
    names = [player.name for player in word_players(text, tokens.spans[0], "plot")]
    assert names == ["A", "naïve", ",", "unbelievable", "plot", "🙂", "(", "don't", "watch", ")"]
    longer = encoder.encode([text, "and a far longer neighbour in the same batch, " * 9])
    length = int(tokens.mask[0].sum())
    difference = longer.features[0, :length] - tokens.features[0, :length]
    assert difference.abs().max() <= 1e-5
    similar, other = (encoder.encode([t]).features[0].mean(0) for t in ("a dog", "tax law"))
    puppy = encoder.encode(["a puppy"]).features[0].mean(0)
    assert torch.cosine_similarity(puppy, similar, 0) > torch.cosine_similarity(puppy, other, 0)


def test_a_large_text_is_cut_before_it_costs_anything(encoder: HFTextEncoder) -> None:
    text = "hello world " * 2_000_000  # 24 MB
    tracemalloc.start()
    started = time.perf_counter()
    tokens = encoder.encode([text])
    took = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tokens.features.shape[1] <= 512
    assert took < 20  # a tokenizer takes minutes for all of it
    assert peak < 3 * len(text)
    ((start, end),) = encoder.unseen(text)
    assert 0 < start < 10_000
    assert end == len(text)


def test_a_text_of_unknown_tokens_is_explained_as_it_stands(encoder: HFTextEncoder) -> None:
    text = "\u4e9a\u4e9b \U0001f9ff\U0001f9ff"
    tokens = encoder.encode([text])
    assert torch.isfinite(tokens.features).all()
    players = word_players(text, tokens.spans[0], "text")
    assert "".join(p.name for p in players).replace(" ", "") == text.replace(" ", "")
