"""One sample as a Hugging Face processor returns it, and the players it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fli2moe.encoders.geometry import Placement, has_area, patch_boxes, placement, steps_of
from fli2moe.encoders.words import word_players
from fli2moe.errors import InputError
from fli2moe.tokens import STRUCTURAL, Player

TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
IMAGE_KEYS = ("pixel_values", "pixel_mask")


def one_sample(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Returns the text's and the picture's tensors of one sample, each (1, ...), on `device`.

    `attention_mask` is added where there is none. Other keys are left out.

    Raises:
        InputError: a missing key, what is no tensor, more than one sample.
    """
    for key in ("input_ids", "pixel_values"):
        if key not in inputs:
            found = f"no {key!r} among {', '.join(inputs) or 'nothing'}"
            remedy = "hand in what processor(text=..., images=..., return_tensors='pt') returns"
            raise InputError("inputs", found, "input_ids and pixel_values", remedy)
    sample = {key: inputs[key] for key in (*TEXT_KEYS, *IMAGE_KEYS) if key in inputs}
    for key, value in sample.items():
        if not isinstance(value, Tensor):
            found = f"a {type(value).__name__}"
            raise InputError(f"inputs[{key!r}]", found, "a tensor", "use return_tensors='pt'")
        if value.ndim < 2 or len(value) != 1:
            found = f"shape {tuple(value.shape)}"
            raise InputError(f"inputs[{key!r}]", found, "one sample, (1, ...)", "explain one each")
    sample.setdefault("attention_mask", torch.ones_like(sample["input_ids"]))
    return {key: value.to(device) for key, value in sample.items()}


def content_tokens(sample: Mapping[str, Tensor], tokenizer: Any) -> Tensor:
    """Returns (T,) bool: tokens of the text that are neither padding nor special.

    The token of unknown words counts as content, unless the tokenizer uses it for more.
    """
    other = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    other += [tokenizer.sep_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id]
    unknown = set() if tokenizer.unk_token_id in other else {tokenizer.unk_token_id}
    special = sorted(set(tokenizer.all_special_ids) - unknown)
    ids = sample["input_ids"][0].cpu()
    return sample["attention_mask"][0].cpu().bool() & ~torch.isin(ids, torch.tensor(special))


def text_players(
    sample: Mapping[str, Tensor], content: Tensor, tokenizer: Any, text: str | None
) -> tuple[Player, ...]:
    """Returns a text's players: its words where the raw text is given, else its content tokens.

    Args:
        sample: of `one_sample`.
        content: (T,) of `content_tokens`.
        tokenizer: a fast one where `text` is given.
        text: the raw text that the tokens were made of.

    Raises:
        InputError: a tokenizer without offsets, or a text that gives other tokens.
    """
    ids = sample["input_ids"][0].tolist()
    if text is None:
        chosen = content.nonzero()[:, 0].tolist()
        names = [tokenizer.decode([ids[t]]).strip() or f"text[{t}]" for t in chosen]
        return tuple(Player("text", (t,), name=n) for t, n in zip(chosen, names, strict=True))
    if not getattr(tokenizer, "is_fast", False):
        found = f"a {type(tokenizer).__name__}, which gives no offsets"
        raise InputError("text", found, "a fast tokenizer", "leave text out: one player per token")
    places = sample["attention_mask"][0].bool().cpu().nonzero()[:, 0].tolist()
    encoded = tokenizer(
        text, return_offsets_mapping=True, truncation=True, max_length=max(1, len(places))
    )
    again = encoded["input_ids"]
    if not again or [ids[t] for t in places[: len(again)]] != again:
        found = "its tokens are not the sample's input_ids"
        raise InputError("text", found, "the text that the processor read")
    if content[places[len(again) :]].any():
        found = f"it gives {len(again)} of the sample's {len(places)} tokens"
        raise InputError("text", found, "the text that the processor read")
    spans = torch.full((len(ids), 2), STRUCTURAL)
    for place, offsets in zip(places, encoded["offset_mapping"], strict=False):
        if content[place]:
            spans[place] = torch.tensor(offsets)
    return word_players(text, spans, "text")


def boxes_of(
    size: tuple[int, int],
    patch: tuple[int, int],
    picture_size: tuple[int, int] | None,
    image_processor: Any,
    shown: tuple[int, int] | None = None,
) -> Tensor:
    """Returns (rows * columns, 4) the patches' boxes x0 y0 x1 y1, row by row; -1 outside.

    Args:
        size: (width, height) of the model's input.
        patch: (height, width) of a patch.
        picture_size: (width, height) of the raw picture; None leaves boxes in input pixels.
        image_processor: whose centre crop is undone; without one the whole picture is shown.
        shown: (width, height) of the input that is no padding; None for all.

    Raises:
        InputError: when the processor does not make an input of that size.
    """
    whole = shown or size
    raw = picture_size or whole
    place = Placement(raw, (0, 0, *raw), size, (raw[0] / whole[0], raw[1] / whole[1]), (0.0, 0.0))
    if picture_size is not None and getattr(image_processor, "do_center_crop", False):
        place = placement(picture_size, steps_of(image_processor))
        if place.size != size:
            found = f"makes {place.size[0]} x {place.size[1]} pixels of this picture"
            raise InputError("image processor", found, f"{size[0]} x {size[1]}, as the inputs are")
    boxes = patch_boxes(place, patch)
    boxes[~has_area(boxes)] = STRUCTURAL
    return boxes
