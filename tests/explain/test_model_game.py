"""A sample and a model as a game: what is hidden reaches the score through the baseline only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.early import oracle_of
from tiny import THREE, WIDTHS, replace, tiny_batch, tiny_model
from torch import Tensor

from fli2moe.errors import InputError
from fli2moe.explain import TokenGame
from fli2moe.explain.model_game import model_game
from fli2moe.model import MODELS, FusionTransformer
from fli2moe.tokens import Player, TokenBatch, Tokens

NAMES = tuple(MODELS)
BASELINE = {m: torch.linspace(-0.5, 0.5, width, dtype=torch.float64) for m, width in WIDTHS.items()}
PLAYERS = (
    Player("text", (0,)),
    Player("text", (1, 3)),  # a word of two pieces
    Player("image", (0, 1)),
    Player("image", (4,)),
)  # tokens 2 of both and 3 of the image belong to nobody
COALITIONS = st.lists(st.booleans(), min_size=4, max_size=4)


def sample(seed: int = 0) -> TokenBatch:
    return tiny_batch([{"text": 4, "image": 5}], seed=seed)


def first_logit(logits: Tensor) -> Tensor:
    return logits[..., 0]


def game(
    model: FusionTransformer,
    tokens: TokenBatch,
    baseline: dict[str, Tensor] | None = BASELINE,
    **options: object,
) -> TokenGame:
    return model_game(model, tokens, PLAYERS, first_logit, baseline, **options)


def hidden_tokens(coalition: list[bool]) -> dict[str, Tensor]:
    """{modality: (T,) bool: held by an absent player}."""
    hidden = {"text": torch.zeros(4, dtype=torch.bool), "image": torch.zeros(5, dtype=torch.bool)}
    for player, present in zip(PLAYERS, coalition, strict=True):
        if not present:
            hidden[player.modality][list(player.tokens)] = True
    return hidden


def plain_value(
    model: FusionTransformer,
    tokens: TokenBatch,
    coalition: list[bool],
    baseline: dict[str, Tensor] | None,
) -> list[float]:
    """One pass of the oracle over a batch whose hidden tokens were replaced or cut out before."""
    changed = {}
    for m, hidden in hidden_tokens(coalition).items():
        t = tokens[m]
        if baseline is None:
            changed[m] = Tokens(t.features, t.mask & ~hidden, t.spans)
        else:
            features = torch.where(hidden[:, None], baseline[m], t.features)
            changed[m] = t.with_features(features)
    with torch.no_grad():
        output = oracle_of(model)(TokenBatch(changed))
    return [float(logits[0, 0]) for logits in output.head_logits]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("baseline", [BASELINE, None], ids=["mean", "drop"])
def test_values_are_those_of_a_batch_changed_by_hand(
    name: str, baseline: dict[str, Tensor] | None
) -> None:
    model, tokens = tiny_model(name), sample()
    coalitions = [[bool(i >> p & 1) for p in range(4)] for i in range(16)]
    found = game(model, tokens, baseline).heads(torch.tensor(coalitions))
    expected = [plain_value(model, tokens, c, baseline) for c in coalitions]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert len(np.unique(found[:, 0].round(9))) == 16


@pytest.mark.parametrize("baseline", [BASELINE, None], ids=["mean", "drop"])
def test_hiding_nothing_changes_nothing(baseline: dict[str, Tensor] | None) -> None:
    model, tokens = tiny_model(), sample()
    with torch.no_grad():
        expected = model(tokens).head_logits[0, :, 0].numpy()
    found = game(model, tokens, baseline).heads(np.ones(4, dtype=bool))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(coalition=COALITIONS, seed=st.integers(1, 2**16), drop=st.booleans())
def test_a_hidden_token_cannot_reach_the_score(
    coalition: list[bool], seed: int, drop: bool
) -> None:
    model, tokens, other = tiny_model(), sample(), sample(seed)
    changed = TokenBatch(
        {
            m: tokens[m].with_features(
                torch.where(hidden[:, None], 1e3 * other[m].features, tokens[m].features)
            )
            for m, hidden in hidden_tokens(coalition).items()
        }
    )
    baseline, asked = None if drop else BASELINE, np.array(coalition)
    assert (
        game(model, tokens, baseline).heads(asked) == game(model, changed, baseline).heads(asked)
    ).all()


def test_the_gradient_at_a_hidden_token_is_zero_and_at_the_baseline_it_is_not() -> None:
    """The game's own arithmetic, with gradients: projected tokens, replaced, fused."""
    model, tokens = tiny_model(), sample()
    hidden = hidden_tokens([True, False, False, True])
    leaves = {m: t.features.clone().requires_grad_() for m, t in tokens.items()}
    means = {m: b.clone().requires_grad_() for m, b in BASELINE.items()}
    present = model.project(TokenBatch({m: tokens[m].with_features(leaves[m]) for m in leaves}))
    replaced = {
        m: torch.where(hidden[m][:, None], model.projections[m](means[m]), present[m])
        for m in leaves
    }
    logits = model.fuse(replaced, {m: t.mask for m, t in tokens.items()}).logits
    np.testing.assert_allclose(
        logits[0, 0].item(),
        game(model, tokens)(np.array([True, False, False, True]))[0],
        atol=1e-12,
    )
    logits[0, 0].backward()
    for m, leaf in leaves.items():
        assert not leaf.grad[0, hidden[m]].any()
        assert leaf.grad[0, ~hidden[m]].any(-1).all()
        assert means[m].grad.any()


def test_hiding_everything_leaves_the_baseline_and_the_structure() -> None:
    everything = tuple(
        Player(m, (t,)) for m, length in {"text": 4, "image": 5}.items() for t in range(length)
    )
    nothing = np.zeros(9, dtype=bool)
    model = tiny_model()
    values = [
        model_game(model, sample(seed), everything, first_logit, BASELINE).heads(nothing)
        for seed in (1, 2)
    ]
    assert (values[0] == values[1]).all()
    shorter = tiny_batch([{"text": 3, "image": 5}])
    players = tuple(p for p in everything if p != Player("text", (3,)))
    other = model_game(model, shorter, players, first_logit, BASELINE).heads(nothing[:8])
    assert (other != values[0]).all()


def test_dropping_everything_is_finite_and_the_same_for_every_sample() -> None:
    everything = tuple(
        Player(m, tuple(range(length))) for m, length in {"text": 4, "image": 5}.items()
    )
    values = [
        model_game(tiny_model(), sample(seed), everything, first_logit, None).heads(
            np.zeros(2, dtype=bool)
        )
        for seed in (1, 2)
    ]
    assert np.isfinite(values[0]).all()
    assert (values[0] == values[1]).all()


def test_hiding_text_does_not_change_what_only_reads_the_picture() -> None:
    """Positions and pooling are per modality: no leak through the place in the sequence."""
    model, tokens = tiny_model(), sample()
    longer = tiny_batch([{"text": 4, "image": 5}, {"text": 9, "image": 5}]).rows(slice(0, 1))
    padded = replace(
        tokens,
        text=Tokens(
            torch.cat([tokens["text"].features, longer["text"].features[:, 4:]], dim=1),
            longer["text"].mask,
            longer["text"].spans,
        ),
    )
    coalitions = torch.tensor([[False, False, True, False], [True, True, False, True]])
    np.testing.assert_allclose(
        game(model, padded).heads(coalitions), game(model, tokens).heads(coalitions), atol=1e-12
    )


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_the_size_of_a_batch_changes_no_value(batch_size: int) -> None:
    coalitions = torch.tensor([[bool(i >> p & 1) for p in range(4)] for i in range(16)])
    expected = game(tiny_model(), sample()).heads(coalitions)
    made: list[int] = []
    small = game(tiny_model(), sample(), batch_size=batch_size, progress=made.append)
    np.testing.assert_allclose(small.heads(coalitions), expected, rtol=0, atol=1e-12)
    assert sum(made) == 16
    assert max(made) <= batch_size


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_the_model_s_and_the_model_is_left_as_it_was(name: str) -> None:
    model = tiny_model(name).train()
    made = game(model, sample())
    made.check()  # deterministic, although the model is in training mode
    assert made.head_names == model.heads
    assert made.heads(np.ones((1, 4), dtype=bool)).shape == (1, len(model.heads))
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_dropout_is_off_inside_a_game() -> None:
    model = tiny_model(dropout=0.5, attention_dropout=0.5).train()
    everyone = np.ones((1, 4), dtype=bool)
    with torch.no_grad():
        expected = tiny_model(dropout=0.5, attention_dropout=0.5)(sample()).logits[0, 0]
    assert game(model, sample())(everyone)[0] == pytest.approx(float(expected), abs=1e-12)


def test_a_score_sees_every_head_s_logits() -> None:
    def centred(logits: Tensor) -> Tensor:
        return logits[..., 1] - logits.mean(-1)

    model, tokens = tiny_model(), sample()
    found = model_game(model, tokens, PLAYERS, centred, BASELINE).heads(np.ones(4, dtype=bool))
    with torch.no_grad():
        expected = centred(model(tokens).head_logits)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": tiny_batch()}, "2 samples; expected one sample"),
        ({"tokens": tiny_batch(widths=THREE).rows(slice(0, 1))}, "modalities"),
        ({"baseline": {"text": BASELINE["text"]}}, "baseline: shapes"),
        (
            {"players": (*PLAYERS, Player("imago", (0,)))},
            "unknown modality 'imago'.*did you mean 'image'",
        ),
        ({"players": (*PLAYERS, Player("text", (4,)))}, "token 4 of text; expected 0 to 3"),
        ({"players": (*PLAYERS, Player("text", (-1,)))}, "token -1 of text"),
        ({"players": (*PLAYERS, Player("text", (3,)))}, "token 3 of text in two players"),
        ({"players": PLAYERS[:1]}, "at least two"),
    ],
)
def test_games_that_cannot_be(options: dict[str, object], message: str) -> None:
    request = {
        "model": tiny_model(),
        "tokens": sample(),
        "players": PLAYERS,
        "score": first_logit,
        "baseline": BASELINE,
        **options,
    }
    with pytest.raises(InputError, match=message):
        model_game(**request)
