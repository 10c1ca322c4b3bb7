"""A predictor with other options of its config, the model as it is."""

from __future__ import annotations

from typing import Any

from fli2moe.predictor import Predictor


def with_options(predictor: Predictor, explain: Any = (), evaluation: Any = ()) -> Predictor:
    config = predictor.config
    config = config.model_copy(
        update={
            "explain": config.explain.model_copy(update=dict(explain)),
            "evaluation": config.evaluation.model_copy(update=dict(evaluation)),
        }
    )
    parts = (predictor.task, predictor.model, predictor.encoders, predictor.means)
    return Predictor(config, *parts)
