"""Feature-level interaction explanations for multimodal transformers (FL-I2MoE).

The names below are loaded when they are first used, so that `import fli2moe` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fli2moe import report
    from fli2moe.config import Config
    from fli2moe.data import Dataset, Sample, load_dataset
    from fli2moe.explain import Attribution, Explanation, TokenGame, attribute
    from fli2moe.predictor import Prediction, Predictor
    from fli2moe.training import fit

__version__ = "0.1.0"

__all__ = [
    "Attribution",
    "Config",
    "Dataset",
    "Explanation",
    "Prediction",
    "Predictor",
    "Sample",
    "TokenGame",
    "attribute",
    "fit",
    "load_dataset",
    "report",
]

_HOME = {
    "Attribution": "fli2moe.explain",
    "Config": "fli2moe.config",
    "Dataset": "fli2moe.data",
    "Explanation": "fli2moe.explain",
    "Prediction": "fli2moe.predictor",
    "Predictor": "fli2moe.predictor",
    "Sample": "fli2moe.data",
    "TokenGame": "fli2moe.explain",
    "attribute": "fli2moe.explain",
    "fit": "fli2moe.training",
    "load_dataset": "fli2moe.data",
}


def __getattr__(name: str) -> Any:
    if name == "report":
        return import_module("fli2moe.report")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fli2moe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
