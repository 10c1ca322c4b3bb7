"""The encoders that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fli2moe.encoders import Encoder, load_encoder, players_of
from fli2moe.encoders.builtin import BuiltinPatches, BuiltinWords
from fli2moe.errors import InputError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", ["builtin:words", "builtin:patches"])
def test_it_is_an_encoder_with_a_stable_fingerprint(name: str):
    encoder = load_encoder(name, width=8)
    assert isinstance(encoder, Encoder)
    assert encoder.width == 8
    assert encoder.fingerprint == load_encoder(name, width=8).fingerprint
    others = [load_encoder(name, width=9), load_encoder(name, width=8, seed=1)]
    assert len({encoder.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_a_word_has_one_embedding_whatever_its_case_place_and_neighbours():
    first, second = BuiltinWords(width=16), BuiltinWords(width=16)
    a = first.encode(["a Red dog", "red"])
    b = second.encode(["dog RED"])
    torch.testing.assert_close(a.features[0, 1], b.features[0, 1], rtol=0, atol=0)
    torch.testing.assert_close(a.features[0, 1], a.features[1, 0], rtol=0, atol=0)
    assert not torch.equal(a.features[0, 1], a.features[0, 2])
    assert a.mask.tolist() == [[True, True, True], [True, False, False]]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_the_spans_of_words_cut_out_the_players_names(text: str):
    encoder = BuiltinWords(width=4)
    tokens = encoder.encode([text])
    players = players_of("text", text, tokens.spans[0], "text")
    assert sum(len(p.tokens) for p in players) == int(tokens.content.sum())
    for player in players:
        ((start, end),) = player.spans
        assert player.name == text[start:end] != ""
    assert torch.isfinite(tokens.features).all()


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_a_text_without_words_has_no_content(text: str):
    tokens = BuiltinWords(width=4).encode([text, "two words"])
    assert tokens.content.sum(1).tolist() == [0, 2]
    assert not tokens.mask[0].any()


def test_words_beyond_the_limit_are_unseen():
    encoder = BuiltinWords(width=4, max_tokens=2)
    text = "one two three four"
    assert encoder.encode([text]).mask.sum() == 2
    assert encoder.unseen(text) == ((8, len(text)),)
    assert encoder.unseen("one two") == ()


def test_something_that_is_no_text_is_named():
    with pytest.raises(InputError, match=r"int; expected a text \(str\)"):
        BuiltinWords().encode([3])


def test_a_patch_is_its_own_pixels_projected():
    picture = noise(40, 33)
    encoder = BuiltinPatches(patch=16, width=6)
    tokens = encoder.encode([picture])
    assert tokens.features.shape == (1, 9, 6)
    pixels = np.asarray(picture, dtype=np.float32) / 127.5 - 1.0
    direct = torch.from_numpy(pixels[16:32, 16:32].reshape(1, -1)) @ encoder._projection
    torch.testing.assert_close(tokens.features[0, 4:5], direct, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("width", "height"), [(40, 33), (1, 1), (1, 50), (64, 64), (5, 100)])
def test_boxes_tile_the_picture(width: int, height: int):
    tokens = BuiltinPatches(patch=16, width=4).encode([noise(width, height)])
    covered = np.zeros((height, width), dtype=int)
    for x0, y0, x1, y1 in tokens.spans[0].int().tolist():
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()


def test_the_batch_changes_nothing_but_padding():
    small, large = noise(16, 16), noise(48, 32, seed=1)
    encoder = BuiltinPatches(width=4)
    together = encoder.encode([small, large])
    alone = encoder.encode([small])
    assert together.mask.sum(1).tolist() == [1, 6]
    torch.testing.assert_close(together.features[0, :1], alone.features[0], rtol=1e-5, atol=1e-6)
    assert (together.spans[0, 1:] == -1).all()


def test_an_unreadable_picture_is_named(tmp_path: Path):
    path = tmp_path / "broken.png"
    path.write_text("no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        BuiltinPatches().encode([path])
    assert BuiltinPatches().unseen("any.png") == ()


@pytest.mark.parametrize("size", [(2000, 1500), (5000, 1), (1, 5000), (640, 480), (300, 4000)])
def test_a_large_picture_is_shrunk_to_a_bounded_number_of_patches_that_tile_it(
    size: tuple[int, int],
):
    tokens = BuiltinPatches(width=8, max_tokens=64).encode([noise(*size)])
    boxes = tokens.spans[0]
    assert 1 <= len(boxes) <= 64
    assert float(boxes[:, 0].min()) == float(boxes[:, 1].min()) == 0
    assert boxes[:, 2].max().item() == pytest.approx(size[0])
    assert boxes[:, 3].max().item() == pytest.approx(size[1])
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum().item()
    assert area == pytest.approx(size[0] * size[1], rel=1e-4)


def test_the_box_of_a_shrunk_picture_is_where_its_patch_was():
    encoder = BuiltinPatches(width=8, max_tokens=64)
    raw = Image.new("RGB", (1024, 768), "white")
    before = encoder.encode([raw])
    target = len(before.spans[0]) // 2
    x0, y0, x1, y1 = (round(v) for v in before.spans[0, target].tolist())
    raw.paste("black", (x0 + 2, y0 + 2, x1 - 2, y1 - 2))
    changed = (encoder.encode([raw]).features - before.features).abs().sum(-1)[0]
    assert changed.nonzero()[:, 0].tolist() == [target]
