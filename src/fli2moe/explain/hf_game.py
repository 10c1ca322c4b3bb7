"""The game of one sample under a Hugging Face model that reads a text and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fli2moe.encoders.words import patch_players
from fli2moe.errors import InputError, unknown_name
from fli2moe.explain.game import TokenGame
from fli2moe.explain.hf_classifier import is_vilt_like, open_classifier
from fli2moe.explain.hf_hiding import OpenModel, Present, check_unseen, hiding_of
from fli2moe.explain.hf_inputs import content_tokens, one_sample, text_players
from fli2moe.explain.hf_towers import is_two_towers, open_towers
from fli2moe.model.modes import undisturbed
from fli2moe.tokens import Player

SCORES = ("auto", "centred", "logit")


def hf_game(
    model: Any,
    inputs: Mapping[str, Any],
    processor: Any,
    *,
    target: int | str | None = None,
    text: str | None = None,
    picture_size: tuple[int, int] | None = None,
    hide: str = "embedding",
    baseline: str | Mapping[str, Tensor] = "mean",
    score: str = "auto",
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> TokenGame:
    """Returns the game of one sample under a CLIP-like or a ViLT-like model.

    CLIP-like: a text tower, an image tower and a scaled cosine (CLIP, SigLIP and kin); the score is
    the similarity logit. ViLT-like: a classifier with logits (N, C) over words and patches. Players
    are the text's words and the picture's patches; special tokens and padding are always present.
    The model is left as it was: no hooks, no gradients, its modes and the random state untouched.

    Args:
        model: the model, on any device.
        inputs: what its processor returns for one sample, tensors (1, ...).
        processor: the processor; its `tokenizer` tells special tokens and names words, its
            `image_processor` is asked for a centre crop where `picture_size` is given.
        target: class index or label of a classifier; None for the class that it predicts.
        text: the raw text, so that players are words with their places; None makes a player of
            each content token.
        picture_size: (width, height) of the raw picture (of each, where there are several), so that
            boxes are in its pixels; None leaves them in pixels of the model's input.
        hide: `embedding` puts a baseline in the place of a hidden token's embedding, before its
            position is added; `attention` takes it out of every layer's attention. The latter
            renormalises attention over what is left, which by itself makes tokens interact.
        baseline: for `embedding`. `mean`: mean of the sample's own content tokens, by modality;
            `zero`; `neutral`: the mask token (else the padding token), and a patch of zero pixels,
            the mean colour after the usual normalisation; or embeddings {modality: (D,)}.
        score: `logit`, or `centred`: the target's logit minus the mean over classes (design 3.6);
            `auto` is centred where there are several classes. Prefer `logit` for labels that a
            model was trained to give apart, by sigmoids.
        batch_size: as in `TokenGame`.
        progress: as in `TokenGame`.

    Raises:
        InputError: another kind of model, more than one sample, a missing key, an unknown target
            or name, a text that gives other tokens, attention that does not hide.
    """
    sample = one_sample(inputs, model.device)
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:
        found = f"a {type(processor).__name__} without a tokenizer"
        raise InputError("processor", found, "the model's processor")
    if score not in SCORES:
        raise unknown_name("score", "score", score, SCORES)
    neutral_id = tokenizer.mask_token_id
    neutral_id = tokenizer.pad_token_id if neutral_id is None else neutral_id
    image_processor = getattr(processor, "image_processor", None)
    with undisturbed(model), torch.no_grad():
        opened = _opener(model)(model, sample, neutral_id, picture_size, image_processor)
        content = {"text": content_tokens(sample, tokenizer)}
        content |= {m: boxes[:, 0] >= 0 for m, boxes in opened.boxes.items()}
        players = text_players(sample, content["text"], tokenizer, text)
        players += tuple(p for m, boxes in opened.boxes.items() for p in patch_players(boxes, m))
        hiding = hiding_of(opened, content, hide, baseline)
        device = model.device
        if hiding.masked:
            check_unseen(opened, {m: mask.to(device) for m, mask in content.items()})
        run = opened.run(hiding)
        everybody = {m: torch.ones_like(mask)[None].to(device) for m, mask in content.items()}
        logits = run(everybody)[0]
        labels = _labels(opened.labels, len(logits))
        column = _column(labels, target, logits)
    columns = _columns(players, content)
    centred = _centred(score, len(labels))

    def evaluate(coalitions: Tensor) -> Tensor:  # (N, P) -> (N,)
        rows = torch.cat([coalitions, torch.ones(len(coalitions), 1, dtype=torch.bool)], dim=1)
        present: Present = {m: rows[:, where].to(device) for m, where in columns.items()}
        with undisturbed(model), torch.no_grad():
            logits: Tensor = run(present)
        chosen = logits[:, column]
        return chosen - logits.mean(1) if centred else chosen

    head = (labels[column],)
    return TokenGame(evaluate, players, head, batch_size=batch_size, progress=progress)


def _opener(model: Any) -> Callable[..., OpenModel]:
    if is_two_towers(model):
        return open_towers
    if is_vilt_like(model):
        return open_classifier
    found = f"a {type(model).__name__}"
    expected = "two towers with a similarity (CLIP, SigLIP), or a ViLT classifier"
    remedy = "write a function of coalitions and use TokenGame.from_callable"
    raise InputError("from_model", found, expected, remedy)


def _columns(players: tuple[Player, ...], content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{modality: (T,) column of the player that holds each token}; P where nobody does."""
    columns = {m: torch.full(mask.shape, len(players)) for m, mask in content.items()}
    for p, player in enumerate(players):
        columns[player.modality][list(player.tokens)] = p
    return columns


def _labels(known: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """The configuration's labels where they are as many as the logits (retrieval heads have 1)."""
    if len(known) == classes:
        return known
    return ("score",) if classes == 1 else tuple(f"class {c}" for c in range(classes))


def _column(labels: tuple[str, ...], target: int | str | None, logits: Tensor) -> int:
    if target is None:
        return int(logits.argmax())
    if isinstance(target, str):
        if target not in labels:
            raise unknown_name("target", "class", target, labels)
        return labels.index(target)
    if not 0 <= target < len(labels):
        raise InputError("target", f"class {target}", f"0 to {len(labels) - 1}")
    return target


def _centred(score: str, classes: int) -> bool:
    if score == "centred" and classes == 1:
        found = "a single logit, of which nothing is left when centred"
        raise InputError("score 'centred'", found, "several classes", "use score='logit'")
    return score != "logit" and classes > 1
