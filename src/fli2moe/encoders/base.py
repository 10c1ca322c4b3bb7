"""The Encoder protocol: raw inputs of one modality in, `Tokens` with spans out, never trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from fli2moe.tokens import Tokens


@runtime_checkable
class Encoder(Protocol):
    """A frozen encoder of one modality.

    Attributes:
        kind: `text`, `image` or `vector`: what `encode` accepts.
        width: D, the width of the features it returns.
        identity: a hex digest of what it is: class, options, weights, tokenizer or processor. A
            model works with encoders of the identity that it was trained with, and with no other.
        fingerprint: a hex digest of the identity and the versions of the libraries that compute
            the features; it keys the cache of features.
    """

    @property
    def kind(self) -> str:
        """`text`, `image` or `vector`."""
        ...

    @property
    def width(self) -> int:
        """D, the width of the features."""
        ...

    @property
    def identity(self) -> str:
        """Hex digest of what it is: class, options, weights, tokenizer or processor."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of the identity and of the versions of the libraries in use."""
        ...

    def encode(self, inputs: Sequence[Any]) -> Tokens:
        """Encodes raw inputs (str; path or PIL picture; path or array) into tokens.

        Never computes gradients, never changes with the composition of the batch beyond padding
        on the right, and an input without content gives a row whose `content` is all False.

        Raises:
            InputError: when one input cannot be read; it names the input.
        """
        ...

    def unseen(self, raw: Any) -> tuple[tuple[float, ...], ...]:
        """Returns what of one raw input `encode` never looks at, as spans of the raw input.

        Truncated text is one (start, end) of characters; cropped borders of a picture are boxes
        (x0, y0, x1, y1) of the upright raw picture; empty when everything is seen.

        Raises:
            InputError: when the input cannot be read; it names the input.
        """
        ...
