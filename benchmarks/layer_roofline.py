"""How fast the library could be if nothing but its products of matrices took time.

Counted are the products that the library computes, with what it shares and leaves out (see
`docs/execution.md`): queries, keys and values of layer 1 once per distinct token, no last linear
map before a mean, no gradient of a parameter where none is asked for.
"""

from __future__ import annotations

from layer_work import COALITIONS, Setting

LAYERS, FEED_FORWARD = 2, 2
"""Of every setting: layers, and the feed-forward's width as a multiple of H."""


def products(setting: Setting, work: str) -> float:
    """Floating point operations of the products of one piece of work."""
    if work.startswith("masked"):
        return masked(setting, dropped=work.endswith("drop"))
    h, experts = setting.hidden, len(setting.tokens) + 2
    length = sum(setting.tokens.values())
    tokens = setting.batch * length
    entry, exit_, wide = 6 * h * h, 2 * h * h, 2 * FEED_FORWARD * h * h  # per token
    one = 2 * length * h  # one product of an attention, per token
    projection = 2 * setting.width * h * tokens
    linear = LAYERS * (entry + exit_ + 2 * wide)
    if work == "forward":
        return projection + experts * tokens * (linear - wide + LAYERS * 2 * one)
    if work == "attribution":  # no weights; nothing behind the map of layer 1
        back = linear - wide - entry + (LAYERS - 1) * 4 * one + one
        return projection + experts * tokens * (linear - wide + LAYERS * 2 * one + back)
    passes = 1 + len(setting.tokens)
    saved = (passes - 2) * entry + (passes * wide if work.endswith("dropout 0") else 0)
    step = 3 * (passes * linear - saved) + passes * LAYERS * 6 * one
    return 2 * projection + experts * tokens * step


def masked(setting: Setting, *, dropped: bool) -> float:
    """As `products`, of COALITIONS coalitions with half of the tokens."""
    h, experts = setting.hidden, len(setting.tokens) + 2
    length = sum(setting.tokens.values()) // (2 if dropped else 1)
    per_token = (
        LAYERS * (8 * h * h + 4 * FEED_FORWARD * h * h) - 6 * h * h - 2 * FEED_FORWARD * h * h
    )
    return COALITIONS * experts * length * (per_token + LAYERS * 4 * length * h)
