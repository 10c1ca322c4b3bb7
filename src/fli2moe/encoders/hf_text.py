"""A frozen Hugging Face text encoder: sub-word tokens with the characters they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fli2moe.encoders.digests import fingerprint_of, identity_of
from fli2moe.encoders.pretrained import (
    LOAD_ERRORS,
    find_folder,
    frozen,
    load_tower,
    loading,
)
from fli2moe.errors import InputError, unknown_name
from fli2moe.tokens import STRUCTURAL, Tokens

MAX_CHARS = 100_000
"""Longer texts are cut before tokenising: 5 MB would be tokenised whole only to be thrown away."""

STRUCTURAL_TOKENS = ("drop", "keep")

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates that stand alone
_POSITIONS = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
_NO_LIMIT = 512  # for models that name no maximum

Row = tuple[list[int], list[tuple[int, int]]]  # token ids and their spans


class HFTextEncoder:
    """Sub-word features of a frozen text model (BERT, RoBERTa, MiniLM, a CLIP or SigLIP tower).

    Spans are characters of the original str, without the white space around them. A sub-word of
    white space only takes the span of the token after it, at the end of the one before, and is
    structural where there is neither; pieces of one character all have that character's span.
    NUL and lone surrogates are read as U+FFFD, one character for one, so spans stay right. What
    looks like a special token in the text is text.

    Args:
        name: a folder, `package:<name>`, or a name on the Hugging Face hub.
        max_tokens: most tokens a text may take, the model's own CLS and SEP counted; never more
            than the model can.
        max_chars: characters after this many are cut before tokenising.
        structural_tokens: `drop` leaves CLS and SEP out of the sequence; `keep` keeps them, with
            span -1.
        device: where it computes; features are returned on the CPU.

    Raises:
        InputError: when the model cannot be used, has no fast tokenizer, or an option is wrong.
        MachineError: when it is not on this machine and cannot be fetched.
    """

    kind = "text"

    def __init__(
        self,
        name: str,
        *,
        max_tokens: int | None = None,
        max_chars: int = MAX_CHARS,
        structural_tokens: str = "drop",
        device: str = "cpu",
    ) -> None:
        check_options(name, structural_tokens, max_tokens=max_tokens, max_chars=max_chars)
        self.name, self.device = name, device
        self.max_chars, self.structural_tokens = max_chars, structural_tokens
        self._folder = find_folder(name)
        self._tokenizer = _fast_tokenizer(name, self._folder)
        model = load_tower(name, self._folder, "text", device)
        self.width: int = model.config.hidden_size
        self.max_tokens = self._limit(model, max_tokens)
        rows = model.get_input_embeddings().num_embeddings
        if max(self._tokenizer.get_vocab().values()) >= rows:
            found = f"the tokenizer has more entries than the model's {rows} embeddings"
            raise InputError(name, found, "a tokenizer and a model that belong together")
        # SigLIP was trained on texts padded to the full length, without an attention mask
        self._always_full = "siglip" in model.config.model_type
        self._forward = frozen(model)

    @cached_property
    def identity(self) -> str:
        """Digest of weights, tokenizer and options."""
        options = {
            "class": "HFTextEncoder/1",
            "max_tokens": self.max_tokens,
            "max_chars": self.max_chars,
            "structural_tokens": self.structural_tokens,
        }
        return identity_of(options, self._folder)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the identity and of what cuts the texts and runs the model."""
        return fingerprint_of(self.identity, ("transformers", "tokenizers", "torch"))

    def encode(self, inputs: Sequence[str]) -> Tokens:
        """Encodes texts into sub-word tokens; see `Encoder.encode`.

        Returns:
            features (B, T, D), spans (B, T, 2); T is at least 1.

        Raises:
            InputError: when an input is not a str.
        """
        rows = self._tokenize([self._clean(text) for text in inputs])
        longest = max([1, *(len(ids) for ids, _ in rows)])
        length = self.max_tokens if self._always_full else longest
        padding = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), length), padding)  # (B, T)
        attended = torch.zeros(len(rows), length, dtype=torch.long)  # (B, T)
        for row, (row_ids, _) in enumerate(rows):
            ids[row, : len(row_ids)] = torch.tensor(row_ids, dtype=torch.long)
            # a row without any token attends to one padding, so that it stays finite
            attended[row, : max(1, len(row_ids))] = 1
        mask = {} if self._always_full else {"attention_mask": attended.to(self.device)}
        hidden = self._forward(input_ids=ids.to(self.device), **mask)  # (B, T, D)
        return Tokens.stack([self._row(hidden[row], spans) for row, (_, spans) in enumerate(rows)])

    def unseen(self, raw: str) -> tuple[tuple[float, ...], ...]:
        """Returns the span of the text that was cut, from the last token's end; see `Encoder`."""
        text = self._clean(raw)
        whole = self._tokenizer(text, truncation=False, split_special_tokens=True, verbose=False)
        if len(text) == len(raw) and len(whole["input_ids"]) <= self.max_tokens:
            return ()
        _, spans = self._tokenize([text])[0]
        start = max(0, *(end for _, end in spans))
        return ((start, len(raw)),) if raw[start:].strip() else ()

    def _clean(self, text: str) -> str:
        if not isinstance(text, str):
            remedy = "give an empty text where there is none"
            raise InputError(self.name, f"{type(text).__name__} {text!r:.40}", "a str", remedy)
        return _NO_TEXT.sub("\ufffd", text[: self.max_chars])

    def _tokenize(self, texts: list[str]) -> list[Row]:
        if not texts:
            raise InputError(self.name, "no texts", "at least one")
        encoded = self._tokenizer(
            texts,
            truncation=True,
            max_length=self.max_tokens,
            padding=False,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            split_special_tokens=True,
        )
        return [
            (ids, settled_spans(text, offsets, special))
            for text, ids, offsets, special in zip(
                texts,
                encoded["input_ids"],
                encoded["offset_mapping"],
                encoded["special_tokens_mask"],
                strict=True,
            )
        ]

    def _row(self, hidden: Tensor, spans: list[tuple[int, int]]) -> Tokens:
        places = torch.tensor(spans, dtype=torch.long).reshape(-1, 2)
        features = hidden[: len(places)]
        if self.structural_tokens == "drop":
            content = places[:, 0] != STRUCTURAL
            places, features = places[content], features[content]
        if not len(places):
            return no_tokens(self.width, 2)
        mask = torch.ones(1, len(places), dtype=torch.bool)
        return Tokens(features[None], mask, places[None])

    def _limit(self, model: nn.Module, max_tokens: int | None) -> int:
        limits = [self._tokenizer.model_max_length, *_position_limits(model)]
        named = [limit for limit in limits if limit < 1_000_000]  # HF writes 1e30 for "none"
        limit = min(named, default=_NO_LIMIT)
        limit = limit if max_tokens is None else min(limit, max_tokens)
        special = self._tokenizer.num_special_tokens_to_add()
        if limit <= special:
            found = f"max_tokens {limit}"
            raise InputError(self.name, found, f"more than its {special} structural tokens")
        return limit


def settled_spans(
    text: str, offsets: Sequence[tuple[int, int]], special: Sequence[int]
) -> list[tuple[int, int]]:
    """Gives every token of one text its span: -1 for structural ones, never of zero width.

    Args:
        text: what was tokenised.
        offsets: T pairs (start, end) as the tokenizer gives them.
        special: T flags, 1 for a token that the tokenizer added.
    """
    spans: list[tuple[int, int]] = [(STRUCTURAL, STRUCTURAL)] * len(offsets)
    for order in (range(len(offsets) - 1, -1, -1), range(len(offsets))):
        neighbour = (STRUCTURAL, STRUCTURAL)
        for index in order:
            if special[index]:
                continue
            start, end = offsets[index]
            start += len(text[start:end]) - len(text[start:end].lstrip())
            end -= len(text[start:end]) - len(text[start:end].rstrip())
            if end > start:
                spans[index] = neighbour = (start, end)
            elif spans[index][0] == STRUCTURAL:
                spans[index] = neighbour
    return spans


def no_tokens(width: int, columns: int) -> Tokens:
    """Returns the row of an input without content: one token of padding, (1, 1, D)."""
    spans = torch.full((1, 1, columns), STRUCTURAL)
    return Tokens(
        torch.zeros(1, 1, width),
        torch.zeros(1, 1, dtype=torch.bool),
        spans.float() if columns == 4 else spans,
    )


def check_options(name: str, structural_tokens: str = "drop", **counts: int | None) -> None:
    """Checks the options that encoders share: one of two words, and positive whole numbers.

    Raises:
        InputError: naming the option.
    """
    if structural_tokens not in STRUCTURAL_TOKENS:
        where = f"{name}: structural_tokens"
        raise unknown_name(where, "choice", str(structural_tokens), STRUCTURAL_TOKENS)
    for option, value in counts.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name}: {option}", repr(value), "a whole number of at least 1")


def _fast_tokenizer(name: str, folder: Path) -> Any:
    import transformers

    tokenizer: Any = None
    has_file = (folder / "tokenizer.json").is_file()
    with loading(name):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except LOAD_ERRORS:
            if not has_file:
                raise
        if has_file and not getattr(tokenizer, "is_fast", False):
            # SigLIP's own class is slow and needs sentencepiece; its tokenizer.json needs neither
            tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    if not tokenizer.is_fast:
        remedy = "save one with tokenizer.json into the folder, or choose another model"
        raise InputError(name, "a slow tokenizer without offsets", "a fast tokenizer", remedy)
    tokenizer.truncation_side = "right"
    return tokenizer


def _position_limits(model: nn.Module) -> list[int]:
    """Returns how many tokens the model has positions for, by its config and by its tables."""
    config: Any = model.config
    limits = [getattr(config, "max_position_embeddings", None) or 10**9]
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding) and path.rpartition(".")[2] in _POSITIONS:
            # RoBERTa counts its positions from padding_idx + 1
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - first)
    return limits
