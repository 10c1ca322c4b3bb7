"""A classifier over one sequence of words and patches (ViLT)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fli2moe.errors import InputError
from fli2moe.explain.hf_hiding import Hiding, OpenModel, Present
from fli2moe.explain.hf_inputs import boxes_of


@dataclass(frozen=True)
class _Picture:
    """One picture's sequence, row by row, without padding.

    Attributes:
        first: (1, D) its class token, with position.
        patches: (G, D) without positions.
        placed: (G, D) with positions.
        boxes: (G, 4) in raw pixels.
    """

    first: Tensor
    patches: Tensor
    placed: Tensor
    boxes: Tensor


def is_vilt_like(model: Any) -> bool:
    """Whether the model embeds a picture's patches as ViLT does."""
    base = getattr(model, "base_model", None)
    return hasattr(getattr(base, "embeddings", None), "visual_embed")


def open_classifier(
    model: Any,
    sample: Mapping[str, Tensor],
    neutral_id: int | None,
    picture_size: tuple[int, int] | None,
    image_processor: Any,
) -> OpenModel:
    """Opens a ViLT-like classifier on one sample with one picture or several.

    Words and patches are embedded once and handed to the model as `inputs_embeds` and
    `image_embeds`, so nothing is hooked into it. ViLT draws the order of its patches, and which of
    them it keeps where `max_image_length` is set; here all are kept, row by row.

    Raises:
        InputError: when it takes another number of pictures, or returns no logits (1, C).
    """
    several = model.config.num_images >= 1
    pixels = sample["pixel_values"]
    stack = pixels[0] if pixels.ndim == 5 else pixels  # (I, 3, H, W)
    wanted = model.config.num_images if several else 1
    if len(stack) != wanted:
        raise InputError("inputs['pixel_values']", f"{len(stack)} pictures", f"{wanted}")
    masks = sample.get("pixel_mask")
    if masks is None:
        masks = torch.ones_like(stack[:, 0], dtype=torch.long)
    masks = masks.reshape(len(stack), *masks.shape[-2:])
    pictures = {
        "image" if wanted == 1 else f"image {i + 1}": _open_picture(
            model, stack[i : i + 1], masks[i : i + 1], picture_size, image_processor
        )
        for i in range(wanted)
    }
    embed = model.get_input_embeddings()
    words = embed(sample["input_ids"])[0]  # (T, D)
    types = sample.get("token_type_ids")

    def run(hiding: Hiding) -> Callable[[Present], Tensor]:
        def logits(present: Present) -> Tensor:  # (N, C)
            n = len(present["text"])
            attention = sample["attention_mask"].expand(n, -1)
            if hiding.masked:
                attention = attention * present["text"]
            text = _filled(words, words, present["text"], hiding.baseline.get("text"))
            image, mask = _sequences(pictures, present, hiding)
            if not several:
                image, mask = image[:, 0], mask[:, 0, 0]
            output = model(
                inputs_embeds=text,
                attention_mask=attention,
                image_embeds=image,
                pixel_mask=mask,
                token_type_ids=None if types is None else types.expand(n, -1),
            )
            return _checked(model, getattr(output, "logits", None), n)

        return logits

    neutral = {name: _blank(model, picture) for name, picture in pictures.items()}
    if neutral_id is not None:
        neutral["text"] = embed(sample["input_ids"].new_full((1, 1), neutral_id))[0, 0]
    embeddings = {"text": words} | {name: picture.patches for name, picture in pictures.items()}
    boxes = {name: picture.boxes for name, picture in pictures.items()}
    labels = tuple(str(model.config.id2label[c]) for c in range(model.config.num_labels))
    return OpenModel(embeddings, neutral, boxes, labels, run)


def _open_picture(
    model: Any,
    pixels: Tensor,
    mask: Tensor,
    picture_size: tuple[int, int] | None,
    image_processor: Any,
) -> _Picture:
    embeddings = model.base_model.embeddings
    with torch.random.fork_rng(devices=[]):  # `visual_embed` draws an order: undone below
        placed, kept, (index, grid) = embeddings.visual_embed(pixels, mask, max_image_length=-1)
    place = index[0, :, 0] * grid[1] + index[0, :, 1]  # (G,) row by row
    order = torch.argsort(place)
    order = order[kept[0, 1:][order].bool()]
    patches = embeddings.patch_embeddings(pixels).flatten(2)[0].T  # (rows * columns, D)
    height, width = pixels.shape[2:]
    shown = int(mask[0].any(0).sum()), int(mask[0].any(1).sum())
    patch = height // grid[0], width // grid[1]
    boxes = boxes_of((width, height), patch, picture_size, image_processor, shown)
    where = place[order]
    return _Picture(placed[0, :1], patches[where], placed[0, 1:][order], boxes[where.cpu()])


def _sequences(
    pictures: Mapping[str, _Picture], present: Present, hiding: Hiding
) -> tuple[Tensor, Tensor]:
    """(N, I, 1 + G, D) the pictures' embeddings, padded to the longest, and their masks."""
    longest = max(len(picture.placed) for picture in pictures.values())
    parts, masks = [], []
    for name, picture in pictures.items():
        here = present[name]
        body = _filled(picture.placed, picture.patches, here, hiding.baseline.get(name))
        part = torch.cat([picture.first.expand(len(here), 1, -1), body], dim=1)
        seen = here if hiding.masked else torch.ones_like(here)
        seen = torch.cat([seen.new_ones(len(here), 1), seen], dim=1)
        spare = longest - len(picture.placed)
        parts.append(pad(part, (0, 0, 0, spare)))
        masks.append(pad(seen.long(), (0, spare)))
    return torch.stack(parts, 1), torch.stack(masks, 1)[:, :, None]


def _filled(placed: Tensor, own: Tensor, present: Tensor, baseline: Tensor | None) -> Tensor:
    """(N, T, D): hidden tokens' `own` part of `placed` replaced by the baseline."""
    if baseline is None:
        return placed.expand(len(present), -1, -1)
    return torch.where(present[..., None], placed, placed - own + baseline.to(own))


def _blank(model: Any, picture: _Picture) -> Tensor:
    convolution = model.base_model.embeddings.patch_embeddings.projection
    bias = convolution.bias
    return picture.patches.new_zeros(picture.patches.shape[1]) if bias is None else bias.detach()


def _checked(model: Any, logits: Tensor | None, rows: int) -> Tensor:
    if logits is None or logits.shape[:1] != (rows,) or logits.ndim != 2:
        shape = "nothing" if logits is None else f"shape {tuple(logits.shape)}"
        found = f"{type(model).__name__} returns logits of {shape}"
        raise InputError("from_model", found, f"({rows}, classes)", "use a model that classifies")
    return logits
