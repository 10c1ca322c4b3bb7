"""Learning rate over time, as a factor of the configured one."""

from __future__ import annotations

import math

from fli2moe.config import LossConfig, TrainingConfig

FLOOR = 0.02  # of the gated schedule's linear decay


def rate_factor(
    training: TrainingConfig, losses: LossConfig, step: int, total: int, gate_step: int | None
) -> float:
    """Returns what the learning rate is multiplied by at one step.

    Linear warm-up first; then, with `interaction_schedule: gated`, 1 until the gate opens and a
    linear decay after (design 3.9); else `training.schedule`.

    Args:
        training: `warmup_epochs`, `epochs` and `schedule`.
        losses: `interaction_schedule`.
        step: from 0.
        total: steps of the whole training.
        gate_step: first step after the gate opened; None while it is shut.
    """
    warmup = training.warmup_epochs * total / training.epochs
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if losses.interaction_schedule == "gated":
        if gate_step is None:
            return 1.0
        return max(FLOOR, (total - step) / max(1, total - gate_step))
    if training.schedule == "cosine":
        done = (step - warmup) / max(1.0, total - warmup)
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0
