"""Named sets of defaults that a configuration starts from; its own values stand above them.

`paper`: the hyperparameters published for MM-IMDb (ECML PKDD 2026 supplement; design 3.2), for a
    GPU. For ENRICO the supplement has `training.epochs: 50` and `model.router.layers: 3`, for
    MIMIC-IV `losses.interaction: .01`, `model.hidden: 128`, `model.router.temperature: 1`.
    Stopping after `patience` epochs and the best epoch by validation loss are ours.
`small`: ENRICO-sized data on two cores in minutes (design 3.9); where a config starts from.
`demo`: the recipe that learns all four labels of `shapes` (design 3.9).
`specialised`: losses and a router under which the expert named after the mechanism of a data set
    carries it, by weight and by contribution (docs/results.md; `paper` and `small` keep the
    published losses, under which it does not). For two modalities and a single mechanism.
`specialised_labels`: the same where each of several labels has a mechanism of its own: by the
    share of a label's logit, as one router per sample cannot weigh labels.
"""

from __future__ import annotations

from typing import Any

_WITHOUT_DROPOUT: dict[str, Any] = {
    "hidden": 64,
    "heads": 4,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "final_norm": True,
    "positions": "learned",
    "router": {"hidden": 64, "dropout": 0.0},
}
"""A small model for made data, which there is enough of."""

_LABELS_LEARNT: dict[str, Any] = {
    "interaction_schedule": "gated",
    "synergy_floor": 0.0,
    "noise_fraction": 0.125,
    "label_smoothing": 0.05,
}
"""Losses that let every label of `shapes` be learnt before they act."""

_DEMO_TRAINING: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "router_rate": 0.1,
    "clip": 1.0,
    "mask_training": 0.3,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"modality": {"max_tokens": 320}},
    "small": {
        "modality": {"max_tokens": 64, "pool": 2},
        "model": {
            "hidden": 96,
            "layers": 1,
            "heads": 4,
            "feed_forward": 2,
            "dropout": 0.3,
            "attention_dropout": 0.0,
            "input_dropout": 0.3,
            "final_norm": True,
            "router": {"dropout": 0.3},
        },
        "training": {
            "epochs": 15,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup_epochs": 2,
            "clip": 1.0,
            "patience": 5,
        },
    },
    "demo": {
        "model": {**_WITHOUT_DROPOUT, "layers": 2},
        "losses": _LABELS_LEARNT,
        "training": _DEMO_TRAINING,
        "evaluation": {  # what a first look takes; `reproduce shapes` measures every part
            "parts": ("interaction_share", "faithfulness", "planted"),
            "attributions": ("attention_gradient", "gradient_x_input"),
            "baselines": ("mean",),
            "samples": 60,
            "head_samples": 10,
            "pair_samples": 40,
            "budget": 1000,
        },
    },
    "specialised": {
        "model": {**_WITHOUT_DROPOUT, "layers": 1},
        "losses": {
            "variant": "residual",
            "router": "pid",
            "noise_fraction": 0.125,
            "label_smoothing": 0.05,
        },
        "training": {
            "epochs": 20,
            "batch_size": 128,
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "schedule": "cosine",
            "clip": 1.0,
        },
    },
    "specialised_labels": {
        "model": {
            **_WITHOUT_DROPOUT,
            "layers": 2,
            "isolated": True,
            "router": {"kind": "uniform", "hidden": 64, "dropout": 0.0},
        },
        "losses": {
            **_LABELS_LEARNT,
            "variant": "complete",
            "gate_loss": 0.25,
            "noise_fraction": 0.25,
        },
        "training": {**_DEMO_TRAINING, "epochs": 24, "monitor": "score"},
    },
}
