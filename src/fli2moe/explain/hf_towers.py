"""Two towers and a cosine (CLIP, SigLIP): each tower runs once per distinct mask of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fli2moe.errors import InputError
from fli2moe.explain.hf_hiding import Hiding, OpenModel, Present, replaced
from fli2moe.explain.hf_inputs import TEXT_KEYS, boxes_of

CACHED = 4096
"""Feature vectors kept for each tower; the one used longest ago goes first."""

Features = Callable[[Tensor], Tensor]
"""(N, T) bool, True where present -> features (N, D) of one tower."""


def is_two_towers(model: Any) -> bool:
    """Whether the model is a text tower and an image tower whose features are compared."""
    names = ("get_text_features", "get_image_features", "text_model", "vision_model")
    return all(hasattr(model, name) for name in (*names, "logit_scale"))


def open_towers(
    model: Any,
    sample: Mapping[str, Tensor],
    neutral_id: int | None,
    picture_size: tuple[int, int] | None,
    image_processor: Any,
) -> OpenModel:
    """Opens a CLIP-like model on one sample; its one logit is the similarity.

    similarity = exp(scale) * cos(text features, image features) (+ bias). The text's features
    depend on the text's mask alone and the image's on the image's, so N coalitions cost as many
    passes of a tower as they have distinct masks of it, not seen before. Words are hidden by the
    attention mask or at the output of the token embedding, patches at the output of the patch
    embedding or by a mask over the keys of every layer.

    Raises:
        InputError: when the model's own similarity is another function of the features.
    """
    words = model.text_model.get_input_embeddings()
    patches = model.vision_model.get_input_embeddings()
    pixels, ids = sample["pixel_values"], sample["input_ids"]
    if pixels.ndim != 4:
        raise InputError("inputs['pixel_values']", f"shape {tuple(pixels.shape)}", "(1, 3, H, W)")
    own = model(**sample).logits_per_image  # first, so that the model itself checks its inputs
    grid = patches(pixels.to(model.dtype))  # (1, D, rows, columns)
    if grid.ndim != 4:
        found = f"{type(model).__name__}, whose patches are no grid"
        raise InputError("from_model", found, "a convolution over the picture")
    neutral = {"image": patches(torch.zeros_like(pixels, dtype=model.dtype)).flatten(2)[0, :, 0]}
    if neutral_id is not None:
        neutral["text"] = words(ids.new_full((1, 1), neutral_id))[0, 0]
    height, width = pixels.shape[2:]
    patch = height // grid.shape[2], width // grid.shape[3]
    hidden_states = model.get_image_features(pixel_values=pixels).last_hidden_state
    leading = hidden_states.shape[1] - grid.shape[2] * grid.shape[3]  # class tokens, first
    boxes = boxes_of((width, height), patch, picture_size, image_processor)

    def text_features(present: Tensor, hiding: Hiding) -> Tensor:
        rows = {k: sample[k].expand(len(present), -1) for k in TEXT_KEYS if k in sample}
        if hiding.masked:
            rows["attention_mask"] = rows["attention_mask"] * present
        with replaced(words, ~present, hiding.baseline.get("text")):
            return _pooled(model.get_text_features(**rows))

    def image_features(present: Tensor, hiding: Hiding) -> Tensor:
        rows: dict[str, Tensor] = {"pixel_values": pixels.expand(len(present), -1, -1, -1)}
        if hiding.masked:
            rows["attention_mask"] = _key_mask(present, leading, model.dtype)
        with replaced(patches, ~present, hiding.baseline.get("image")):
            return _pooled(model.get_image_features(**rows))

    def run(hiding: Hiding) -> Callable[[Present], Tensor]:
        text = _cached(lambda present: text_features(present, hiding))
        image = _cached(lambda present: image_features(present, hiding))

        def logits(present: Present) -> Tensor:  # (N, 1)
            cosine = cosine_similarity(text(present["text"]), image(present["image"]), dim=-1)
            similarity = cosine * model.logit_scale.exp() + getattr(model, "logit_bias", 0.0)
            column: Tensor = similarity.reshape(-1, 1)
            return column

        return logits

    everybody = {"text": torch.ones_like(ids).bool(), "image": ids.new_ones(1, len(boxes)).bool()}
    got = run(Hiding(False, {}))(everybody)
    if not torch.allclose(got, own, rtol=1e-2, atol=1e-2):
        found = f"{type(model).__name__}, whose similarity is no scaled cosine of its features"
        raise InputError("from_model", found, "a CLIP-like model", "use TokenGame.from_callable")
    embeddings = {"text": words(ids)[0], "image": grid.flatten(2)[0].T}
    return OpenModel(embeddings, neutral, {"image": boxes}, ("similarity",), run)


def _pooled(output: Any) -> Tensor:
    features: Tensor = output.pooler_output
    return features


def _key_mask(present: Tensor, leading: int, dtype: torch.dtype) -> Tensor:
    """(N, 1, L + T, L + T) to add to scores: L leading tokens and present patches are seen."""
    hidden = torch.cat([present.new_zeros(len(present), leading), ~present], dim=1)  # (N, L + T)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=present.device)
    mask = mask.masked_fill(hidden, torch.finfo(dtype).min)
    return mask[:, None, None].expand(-1, 1, hidden.shape[1], -1)


def _cached(features: Features) -> Features:
    """Returns the same function, run on distinct rows never seen (or no longer kept) only."""
    kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def look_up(present: Tensor) -> Tensor:
        keys = [row.tobytes() for row in present.cpu().numpy()]
        fresh = {key: row for row, key in enumerate(keys) if key not in kept}
        here = {key: kept[key] for key in keys if key in kept}
        if fresh:
            made = features(present[list(fresh.values())])
            here.update(zip(fresh, made, strict=True))
        for key in dict.fromkeys(keys):
            kept[key] = here[key]
            kept.move_to_end(key)
        while len(kept) > CACHED:
            kept.popitem(last=False)
        return torch.stack([here[key] for key in keys])

    return look_up
