"""Fixtures of the whole set: tiny `shapes`, a model trained on it in seconds, the demo's model.

It stands here so that every test also finds the helpers of this folder (`tiny`, `oracles`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import browser, visit

from fli2moe.config import Config, EvaluationConfig
from fli2moe.data.load import load_dataset
from fli2moe.data.sample import Dataset
from fli2moe.data.shapes import write_shapes
from fli2moe.demo import DEMO_SIZES, demo_config
from fli2moe.predictor import Predictor
from fli2moe.runs import train_run

TINY = (96, 24, 24)
__all__ = ["browser", "visit"]  # one for all: two of them in one process do not work


def tiny_config(manifest: Path, **sections: Any) -> Config:
    """The demo's configuration cut down to a second of training; sections are put over it."""
    data = demo_config(manifest).model_dump(mode="json")
    data["model"] |= {"hidden": 16, "layers": 1, "heads": 2}
    data["training"] |= {"epochs": 2, "batch_size": 32}
    data["explain"] |= {"budget": 300}
    data["evaluation"] |= {"samples": 4, "pair_samples": 4, "budget": 300, "random_draws": 2}
    data["evaluation"] |= {"head_samples": 1, "check_samples": 2, "pair_contexts": 2}
    data["evaluation"]["parts"] = ["interaction_share", "faithfulness", "planted"]
    whole = EvaluationConfig().model_dump(mode="json")  # the demo measures less
    data["evaluation"] |= {key: whole[key] for key in ("attributions", "baselines")}
    for name, values in sections.items():
        data[name] = {**data[name], **values} if isinstance(values, dict) else values
    return Config.from_dict(data)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of `shapes` with 96 training, 24 validation and 24 test samples."""
    return write_shapes(tmp_path_factory.mktemp("shapes"), sizes=TINY, seed=0)


@pytest.fixture(scope="session")
def make_config(manifest: Path) -> Callable[..., Config]:
    """Returns `tiny_config` over that manifest: `make_config(training={"epochs": 3})`."""
    return lambda **sections: tiny_config(manifest, **sections)


@pytest.fixture(scope="session")
def dataset(make_config: Callable[..., Config]) -> Dataset:
    """The tiny data set."""
    return load_dataset(make_config().data)


@pytest.fixture(scope="session")
def tiny_run(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder trained in a second or two; tests that change it copy it first."""
    run = tmp_path_factory.mktemp("tiny") / "run"
    train_run(make_config(), run)
    return run


@pytest.fixture(scope="session")
def predictor(tiny_run: Path) -> Predictor:
    """What `tiny_run` holds."""
    return Predictor.load(tiny_run)


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that `fli2moe demo` trains, on the same data: about a minute."""
    run = tmp_path_factory.mktemp("demo") / "demo"
    train_run(demo_config(write_shapes(run / "data", sizes=DEMO_SIZES)), run)
    return run
