from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    ViltForImageAndTextRetrieval,
    ViltForImagesAndTextClassification,
    ViltForMaskedLM,
    ViltForQuestionAnswering,
)

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame, hf_towers, shapley_interactions

from .hf_tiny import TEXT, clip, clip_inputs, siglip, vilt, vilt_inputs


def random_coalitions(n_players: int, n: int = 24) -> np.ndarray:
    return np.random.default_rng(0).random((n, n_players)) < 0.5


def only_without(game: TokenGame, *absent: int) -> np.ndarray:
    row = np.ones(game.n_players, dtype=bool)
    row[list(absent)] = False
    return row


def similarity(model, **inputs) -> float:
    with torch.no_grad():
        return float(model.eval()(**inputs).logits_per_image)


def centred(model, target, **inputs) -> float:
    with torch.no_grad():
        logits = model.eval()(**inputs).logits[0]
    return float(logits[target] - logits.mean())


def cases():
    for hide in ("embedding", "attention"):
        yield pytest.param(clip, clip_inputs, hide, id=f"clip-{hide}")
        yield pytest.param(
            lambda: vilt(ViltForQuestionAnswering), vilt_inputs, hide, id=f"vilt-{hide}"
        )


@pytest.mark.parametrize(("make", "read", "hide"), list(cases()))
def test_the_model_is_left_as_it_was(make, read, hide):
    model, (inputs, processor) = make().train(), read()
    next(model.parameters()).requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.random.get_rng_state()
    game = TokenGame.from_model(model, inputs, processor, hide=hide)
    game.check()
    game(random_coalitions(game.n_players))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    assert not any(getattr(module, name) for module in model.modules() for name in hooks)


def test_hooks_go_when_the_model_fails(monkeypatch):
    model, (inputs, processor) = clip().train(), clip_inputs()
    game = TokenGame.from_model(model, inputs, processor)

    def broken(*_args, **_options):
        raise KeyError("broken")

    monkeypatch.setattr(model.text_model.encoder, "forward", broken)
    with pytest.raises(KeyError, match="broken"):
        game(only_without(game, 0))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


@pytest.mark.parametrize(("make", "read", "hide"), list(cases()))
def test_values_do_not_depend_on_the_batch(make, read, hide):
    model, (inputs, processor) = make(), read()
    many = TokenGame.from_model(model, inputs, processor, hide=hide)
    few = TokenGame.from_model(model, inputs, processor, hide=hide, batch_size=1)
    rows = random_coalitions(many.n_players)
    assert np.abs(many(rows) - few(rows)).max() < 1e-5
    assert np.ptp(many(rows)) > 1e-3


@pytest.mark.parametrize("hide", ["embedding", "attention"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
def test_all_present_is_the_plain_similarity(hide, attention, padded):
    model = clip(attention)
    inputs, processor = clip_inputs(
        **({"padding": "max_length", "max_length": 12} if padded else {})
    )
    game = TokenGame.from_model(model, inputs, processor, hide=hide)
    assert game.head == "similarity"
    assert game(only_without(game))[0] == pytest.approx(similarity(model, **inputs), abs=1e-5)


@pytest.mark.parametrize("eos", [2, 9])  # 2: the old convention, the largest id is the end
def test_clip_text_hidden_by_attention_is_its_own_attention_mask(eos):
    model, (inputs, processor) = clip(eos=eos), clip_inputs()
    game = TokenGame.from_model(model, inputs, processor, hide="attention")
    for absent in [(0,), (2, 3), (0, 1, 2, 3, 4, 5)]:
        mask = inputs["attention_mask"].clone()
        mask[0, [game.players[p].tokens[0] for p in absent]] = 0
        plain = similarity(model, **{**inputs, "attention_mask": mask})
        assert game(only_without(game, *absent))[0] == pytest.approx(plain, abs=1e-5)


def test_a_word_that_the_model_pools_is_no_word_that_attention_hides():
    inputs, processor = clip_inputs()
    with pytest.raises(InputError, match="still sees tokens of text"):
        TokenGame.from_model(clip(eos=8), inputs, processor, hide="attention")  # pools "blue"


def test_clip_patches_hidden_by_attention_are_not_seen():
    """By hand: the vision tower without the hidden patch's row in its sequence."""
    model, (inputs, processor) = clip().eval(), clip_inputs()
    game = TokenGame.from_model(model, inputs, processor, hide="attention")
    vision = model.vision_model
    with torch.no_grad():
        states = vision.embeddings(inputs["pixel_values"])  # (1, 1 + 4, D)
        states = vision.encoder(inputs_embeds=vision.pre_layrnorm(states[:, [0, 1, 3, 4]]))
        image = model.visual_projection(vision.post_layernorm(states.last_hidden_state[:, 0]))
        text = model.get_text_features(inputs["input_ids"]).pooler_output
        cosine = torch.nn.functional.cosine_similarity(text, image)
        expected = float(cosine * model.logit_scale.exp())
    assert game(only_without(game, 6 + 1))[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("baseline", ["mean", "zero", "neutral", "own"])
def test_clip_embeddings_hidden_are_a_computation_by_hand(baseline):
    model, (inputs, processor) = clip().eval(), clip_inputs()
    own = {"text": torch.full((16,), 0.3), "image": torch.full((16,), -0.2)}
    given = own if baseline == "own" else baseline
    game = TokenGame.from_model(model, inputs, processor, baseline=given)
    words = model.text_model.embeddings.token_embedding.weight
    patches = model.vision_model.embeddings.patch_embedding
    word, patch = 2, 3  # the players hidden; word 2 is token 3 after [CLS]
    with torch.no_grad():
        grid = patches(inputs["pixel_values"])  # (1, D, 2, 2)
        fill = {
            "mean": (words[inputs["input_ids"][0, 1:7]].mean(0), grid.mean((0, 2, 3))),
            "zero": (torch.zeros(16), torch.zeros(16)),
            "neutral": (words[3], torch.zeros(16)),
            "own": (own["text"], own["image"]),
        }[baseline]
        grid[0, :, patch // 2, patch % 2] = fill[1]
        table = words.clone()
        table[inputs["input_ids"][0, 1 + word]] = fill[0]  # "square" occurs once
    changed = clip()
    changed.text_model.embeddings.token_embedding.weight.data = table
    changed.vision_model.embeddings.patch_embedding.forward = lambda _pixels: grid
    expected = similarity(changed, **inputs)
    assert game(only_without(game, word, 6 + patch))[0] == pytest.approx(expected, abs=1e-5)


def test_each_tower_runs_once_per_mask(monkeypatch):
    model, (inputs, processor) = clip(), clip_inputs()
    game = TokenGame.from_model(model, inputs, processor, batch_size=1024)
    rows = []
    plain = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda **kw: rows.append(len(kw["input_ids"])) or plain(**kw)
    )
    shapley_interactions(game, budget=1024)
    assert game.evaluations == 2**10
    assert sum(rows) <= 2**6


def test_kept_features_are_bounded(monkeypatch):
    monkeypatch.setattr(hf_towers, "CACHED", 5)
    model, (inputs, processor) = clip(), clip_inputs()
    small = TokenGame.from_model(model, inputs, processor, batch_size=8)
    monkeypatch.setattr(hf_towers, "CACHED", 4096)
    large = TokenGame.from_model(model, inputs, processor, batch_size=8)
    rows = random_coalitions(small.n_players, 60)
    assert np.abs(small(rows) - large(rows)).max() < 1e-5


def test_siglip_has_a_bias_and_a_pooling_that_attention_does_not_reach():
    model, (inputs, processor) = siglip(), clip_inputs()
    game = TokenGame.from_model(model, inputs, processor, text=TEXT)
    assert game(only_without(game))[0] == pytest.approx(similarity(model, **inputs), abs=1e-5)
    with pytest.raises(InputError, match=r"still sees tokens of image .* use hide='embedding'"):
        TokenGame.from_model(model, inputs, processor, hide="attention")


@pytest.mark.parametrize("hide", ["embedding", "attention"])
@pytest.mark.parametrize("padded", [False, True])
def test_all_present_is_the_plain_answer(hide, padded):
    model = vilt(ViltForQuestionAnswering)
    inputs, processor = vilt_inputs(
        **({"padding": "max_length", "max_length": 12} if padded else {})
    )
    game = TokenGame.from_model(model, inputs, processor, hide=hide)
    with torch.no_grad():
        logits = model.eval()(**inputs).logits[0]
    best = int(logits.argmax())
    assert game.head == model.config.id2label[best]
    expected = float(logits[best] - logits.mean())
    assert game(only_without(game))[0] == pytest.approx(expected, abs=1e-5)
    raw = TokenGame.from_model(model, inputs, processor, target="green", score="logit", hide=hide)
    assert raw(only_without(raw))[0] == pytest.approx(float(logits[2]), abs=1e-5)


def test_vilt_text_hidden_by_attention_is_its_own_attention_mask():
    model, (inputs, processor) = vilt(ViltForQuestionAnswering), vilt_inputs()
    game = TokenGame.from_model(model, inputs, processor, target=1, hide="attention")
    mask = inputs["attention_mask"].clone()
    mask[0, [2, 5]] = 0
    plain = centred(model, 1, **{**inputs, "attention_mask": mask})
    assert game(only_without(game, 1, 4))[0] == pytest.approx(plain, abs=1e-5)


def embedded(model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """ViLT's own patch embeddings (1, 1 + G, D) row by row, and the part without positions."""
    pixels, mask = inputs["pixel_values"], inputs["pixel_mask"]
    embeddings = model.eval().vilt.embeddings
    with torch.no_grad():
        image, _, (index, grid) = embeddings.visual_embed(pixels, mask, max_image_length=-1)
        order = (index[0, :, 0] * grid[1] + index[0, :, 1]).argsort()
        patches = embeddings.patch_embeddings(pixels).flatten(2).transpose(1, 2)
    return torch.cat([image[:, :1], image[:, 1:][:, order]], dim=1), patches


def test_vilt_patches_hidden_by_attention_are_masked_keys():
    model, (inputs, processor) = vilt(ViltForQuestionAnswering), vilt_inputs()
    game = TokenGame.from_model(model, inputs, processor, target=0, hide="attention")
    image, _ = embedded(model, inputs)
    keep = [0, 1, 2, 4, 5, 6]  # without the patch in row 0, column 2
    plain = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    short = {"image_embeds": image[:, keep], "pixel_mask": torch.ones(1, len(keep)).long()}
    expected = centred(model, 0, **plain, **short)
    hidden = [p for p in range(game.n_players) if game.players[p].spans[:1] == ((16, 0, 24, 8),)]
    assert game(only_without(game, *hidden))[0] == pytest.approx(expected, abs=1e-5)


def test_vilt_embeddings_hidden_are_a_computation_by_hand():
    model, (inputs, processor) = vilt(ViltForQuestionAnswering), vilt_inputs()
    game = TokenGame.from_model(model, inputs, processor, target=0)
    image, patches = embedded(model, inputs)
    with torch.no_grad():
        image[:, 1 + 4] += patches.mean(1) - patches[:, 4]
        text = model.get_input_embeddings()(inputs["input_ids"])
        text[0, 2] = text[0, 1:7].mean(0)
    expected = centred(
        model,
        0,
        inputs_embeds=text,
        attention_mask=inputs["attention_mask"],
        image_embeds=image,
        pixel_mask=torch.ones(1, 7).long(),
    )
    assert game(only_without(game, 1, 6 + 4))[0] == pytest.approx(expected, abs=1e-5)


def test_vilt_keeps_every_patch_whatever_max_image_length_draws():
    model, (inputs, processor) = vilt(ViltForQuestionAnswering), vilt_inputs()
    drawing = vilt(ViltForQuestionAnswering, max_image_length=2)
    values = [
        TokenGame.from_model(m, inputs, processor, target=0)(random_coalitions(12))
        for m in (model, drawing, drawing)
    ]
    assert np.array_equal(values[1], values[2])
    assert np.abs(values[0] - values[1]).max() < 1e-6


def test_vilt_leaves_padding_of_a_picture_out():
    model, (inputs, processor) = vilt(ViltForQuestionAnswering), vilt_inputs()
    alone = TokenGame.from_model(model, inputs, processor, text=TEXT, picture_size=(48, 32))
    padded = dict(inputs)
    padded["pixel_values"] = torch.nn.functional.pad(inputs["pixel_values"], (0, 16, 0, 8))
    padded["pixel_mask"] = torch.nn.functional.pad(inputs["pixel_mask"], (0, 16, 0, 8))
    game = TokenGame.from_model(model, padded, processor, text=TEXT, picture_size=(48, 32))
    assert [p.spans for p in game.players] == [p.spans for p in alone.players]
    rows = random_coalitions(12)
    assert np.abs(game(rows) - alone(rows)).max() < 1e-5


def test_two_pictures_are_two_modalities():
    model = vilt(ViltForImagesAndTextClassification, num_images=2, modality_type_vocab_size=3)
    inputs, processor = vilt_inputs()
    pixels = torch.stack([inputs["pixel_values"], inputs["pixel_values"].flip(-1)], dim=1)
    two = {
        **inputs,
        "pixel_values": pixels,
        "pixel_mask": inputs["pixel_mask"][:, None].expand(-1, 2, -1, -1),
    }
    for hide in ("embedding", "attention"):
        game = TokenGame.from_model(model, two, processor, target="red", hide=hide)
        assert [p.modality for p in game.players].count("image 2") == 6
        assert game(only_without(game))[0] == pytest.approx(centred(model, 0, **two), abs=1e-5)
    with pytest.raises(InputError, match="1 pictures; expected 2"):
        TokenGame.from_model(model, inputs, processor)


def test_a_single_logit_is_not_centred():
    model, (inputs, processor) = vilt(ViltForImageAndTextRetrieval), vilt_inputs()
    game = TokenGame.from_model(model, inputs, processor)
    with torch.no_grad():
        plain = float(model.eval()(**inputs).logits)
    assert game.head == "score"
    assert game(only_without(game))[0] == pytest.approx(plain, abs=1e-5)
    with pytest.raises(InputError, match="a single logit"):
        TokenGame.from_model(model, inputs, processor, score="centred")


def test_players_are_words_and_patches_with_their_places():
    model, (inputs, processor) = clip(), clip_inputs(padding="max_length", max_length=12)
    game = TokenGame.from_model(model, inputs, processor, text=TEXT, picture_size=(24, 16))
    words = [p for p in game.players if p.modality == "text"]
    assert [TEXT[slice(*map(int, p.spans[0]))] for p in words] == [p.name for p in words]
    assert [p.name for p in words] == ["a", "red", "square", ",", "beside", "blue"]
    assert [p.tokens for p in words] == [(t,) for t in range(1, 7)]
    boxes = [p.spans[0] for p in game.players if p.modality == "image"]
    assert boxes == [(4, 0, 12, 8), (12, 0, 20, 8), (4, 8, 12, 16), (12, 8, 20, 16)]
    tokens = TokenGame.from_model(model, inputs, processor)
    assert [str(p) for p in tokens.players[:4]] == ["a", "red", "square", "[UNK]"]
    assert tokens.players[6].spans == ((0, 0, 8, 8),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hide": "hope"}, "unknown way 'hope'"),
        ({"baseline": "median"}, "unknown baseline 'median'"),
        ({"baseline": {"text": torch.zeros(16)}}, "no image among text"),
        (
            {"baseline": {"text": torch.zeros(3)}},
            r"baseline of text: shape \(3,\); expected \(16,\)",
        ),
        ({"score": "loud"}, "unknown score 'loud'"),
        ({"target": "grene"}, r"unknown class 'grene'.*did you mean 'green'"),
        ({"target": 3}, "class 3; expected 0 to 2"),
        ({"text": "a blue square"}, "not the sample's input_ids"),
        ({"text": "a red"}, "not the sample's input_ids"),
    ],
)
def test_wrong_options_are_named(change, message):
    model, (inputs, processor) = vilt(ViltForQuestionAnswering), vilt_inputs()
    with pytest.raises(InputError, match=message):
        TokenGame.from_model(model, inputs, processor, **change)


def test_wrong_inputs_are_named():
    model, (inputs, processor) = clip(), clip_inputs()

    def refused(message, model=model, processor=processor, **change):
        changed = {k: v for k, v in {**inputs, **change}.items() if v is not None}
        with pytest.raises(InputError, match=message):
            TokenGame.from_model(model, changed, processor)

    refused("no 'pixel_values' among input_ids", pixel_values=None)
    refused(r"a list; expected a tensor", input_ids=[[1, 5, 2]])
    refused(r"shape \(2, 8\); expected one sample", input_ids=inputs["input_ids"].repeat(2, 1))
    refused("without a tokenizer", processor=SimpleNamespace())
    refused(r"a Linear; expected two towers .*TokenGame\.from_callable", model=_linear())
    refused("ViltForMaskedLM returns logits of shape", model=vilt(ViltForMaskedLM))


def _linear() -> torch.nn.Module:
    model = torch.nn.Linear(2, 2)
    model.device = torch.device("cpu")
    return model
