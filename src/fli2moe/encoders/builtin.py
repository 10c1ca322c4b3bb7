"""Encoders that need no download: seeded word embeddings and randomly projected pixel patches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fli2moe.encoders.digests import fingerprint_of, identity_of
from fli2moe.encoders.images import open_picture
from fli2moe.encoders.words import word_spans
from fli2moe.errors import InputError
from fli2moe.tokens import STRUCTURAL, Tokens


class BuiltinWords:
    """One fixed embedding per word (case-folded), drawn from the word itself and a seed.

    Args:
        width: D.
        seed: of the embeddings.
        max_tokens: words after this many are cut.
    """

    kind = "text"

    def __init__(self, width: int = 64, seed: int = 0, max_tokens: int = 512) -> None:
        self.width, self.seed, self.max_tokens = width, seed, max_tokens
        self._table: dict[str, Tensor] = {}

    @property
    def identity(self) -> str:
        """Digest of the options; the embeddings follow from them."""
        options = {"width": self.width, "seed": self.seed, "max_tokens": self.max_tokens}
        return identity_of({"class": "builtin:words/1", **options})

    @property
    def fingerprint(self) -> str:
        """Digest of the identity and of what cuts the words and draws the embeddings."""
        return fingerprint_of(self.identity, ("numpy", "regex"))

    def encode(self, inputs: Sequence[Any]) -> Tokens:
        """Encodes texts into one token per word; see `Encoder.encode`."""
        return Tokens.stack([self._encode_one(text) for text in inputs])

    def unseen(self, raw: str) -> tuple[tuple[float, ...], ...]:
        """Returns the span of the text that lies behind the last encoded word."""
        spans = word_spans(raw)
        if len(spans) <= self.max_tokens:
            return ()
        return ((spans[self.max_tokens][0], len(raw)),)

    def _encode_one(self, text: str) -> Tokens:
        if not isinstance(text, str):
            raise InputError("builtin:words", f"{type(text).__name__}", "a text (str)")
        spans = word_spans(text)[: self.max_tokens]
        if not spans:  # an empty text is one structural token without evidence
            nothing = torch.full((1, 1, 2), STRUCTURAL)
            return Tokens(
                torch.zeros(1, 1, self.width), torch.zeros(1, 1, dtype=torch.bool), nothing
            )
        features = torch.stack([self._embedding(text[a:b].casefold()) for a, b in spans])
        mask = torch.ones(1, len(spans), dtype=torch.bool)
        return Tokens(features[None], mask, torch.tensor(spans)[None])

    def _embedding(self, word: str) -> Tensor:  # (D,)
        if word not in self._table:
            key = f"{self.seed}/{word}".encode("utf-8", "surrogatepass")
            seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
            vector = np.random.default_rng(seed).standard_normal(self.width)
            self._table[word] = torch.from_numpy(vector.astype(np.float32))
        return self._table[word]


class BuiltinPatches:
    """Raw pixel patches of the picture, through a fixed random projection.

    Args:
        patch: side of a square patch in pixels; a picture whose sides are no multiple is padded
            with its edge pixels.
        width: D.
        seed: of the projection.
        max_tokens: a picture of more patches is shrunk, its shape kept, until it has no more; boxes
            are those of the raw picture.
    """

    kind = "image"

    def __init__(
        self, patch: int = 16, width: int = 64, seed: int = 0, max_tokens: int = 256
    ) -> None:
        self.patch, self.width, self.seed, self.max_tokens = patch, width, seed, max_tokens
        random = np.random.default_rng(seed)
        matrix = random.standard_normal((3 * patch * patch, width)) / np.sqrt(3 * patch * patch)
        self._projection = torch.from_numpy(matrix.astype(np.float32))

    @property
    def identity(self) -> str:
        """Digest of the options; the projection follows from them."""
        options = {"patch": self.patch, "width": self.width, "seed": self.seed}
        options["max_tokens"] = self.max_tokens
        return identity_of({"class": "builtin:patches/2", **options})

    @property
    def fingerprint(self) -> str:
        """Digest of the identity and of what decodes the pictures and projects them."""
        return fingerprint_of(self.identity, ("numpy", "pillow", "torch"))

    def encode(self, inputs: Sequence[Any]) -> Tokens:
        """Encodes pictures into one token per patch, row by row; see `Encoder.encode`."""
        cut = [self._cut(picture) for picture in inputs]
        # One product for all pictures: many small ones cost more in thread hand-overs than in work.
        features = torch.cat([patches for patches, _ in cut]) @ self._projection
        pieces = torch.split(features, [len(boxes) for _, boxes in cut])
        return Tokens.stack(
            [
                Tokens(x[None], torch.ones(1, len(x), dtype=torch.bool), boxes[None])
                for x, (_, boxes) in zip(pieces, cut, strict=True)
            ]
        )

    def unseen(self, raw: str | Path) -> tuple[tuple[float, ...], ...]:
        """Returns nothing: every pixel lies in a patch."""
        return ()

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Returns (columns, rows) of patches of a picture, at most `max_tokens` in all."""
        columns, rows = -(-width // self.patch), -(-height // self.patch)
        if columns * rows <= self.max_tokens:
            return columns, rows
        scale = (self.max_tokens / (columns * rows)) ** 0.5
        columns = max(1, min(int(columns * scale), self.max_tokens))
        return columns, max(1, min(int(rows * scale), self.max_tokens // columns))

    def _cut(self, source: Any) -> tuple[Tensor, Tensor]:
        """Returns the patches of one picture (T, 3 patch²) and their boxes (T, 4)."""
        picture = open_picture(source)
        width, height = picture.size
        p = self.patch
        columns, rows = self._grid(width, height)
        if (columns, rows) != (-(-width // p), -(-height // p)):
            picture = picture.resize((columns * p, rows * p), Image.Resampling.BOX)
        pixels = np.asarray(picture, dtype=np.float32) / 127.5 - 1.0  # (height, width, 3)
        across, down = width / pixels.shape[1], height / pixels.shape[0]  # raw pixels per pixel
        padding = ((0, -pixels.shape[0] % p), (0, -pixels.shape[1] % p), (0, 0))
        pixels = np.pad(pixels, padding, mode="edge")
        patches = pixels.reshape(rows, p, columns, p, 3).transpose(0, 2, 1, 3, 4)
        boxes = [
            (
                c * p * across,
                r * p * down,
                min((c + 1) * p * across, width),
                min((r + 1) * p * down, height),
            )
            for r in range(rows)
            for c in range(columns)
        ]
        flat = torch.from_numpy(patches.reshape(rows * columns, -1).copy())  # (T, 3 p p)
        return flat, torch.tensor(boxes, dtype=torch.float32)
