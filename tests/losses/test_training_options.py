"""Every option of the losses trains: finite, repeatable, and written into the history."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.errors import InputError
from fli2moe.training import fit

MakeConfig = Callable[..., Config]
EXPERTS = ("unique_text", "unique_image", "synergy", "redundancy")
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"space": "logit"},
    {"replacement": "zero"},
    {"replacement": "mean"},
    {"variant": "swap"},
    {"variant": "swap", "space": "logit"},
    {"variant": "predictive"},
    {"variant": "residual"},
    {"decorrelation": "cos"},
    {"decorrelation": "cka"},
    {"decorrelation": "cka_debiased"},
    {"decorrelation": "barlow", "barlow_warmup_epochs": 1},
    {"decorrelation": "barlow_full", "barlow_warmup_epochs": 1},
    {"router": "pid"},
    {"variant": "residual", "router": "pid", "decorrelation": "cka_debiased"},
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def trained(
    make_config: MakeConfig, dataset: Dataset, cache: Path, epochs: int = 1, **losses: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    always = {"interaction_schedule": "constant", "noise_fraction": 0.25}
    config = make_config(losses={**always, **losses}, training={"epochs": epochs})
    rows: list[dict[str, float]] = []
    predictor = fit(config, dataset, cache=cache, progress_epoch=lambda r: rows.append(dict(r)))
    return predictor.model.state_dict(), rows


@pytest.mark.parametrize("losses", OPTIONS, ids=lambda o: "-".join(map(str, o.values())) or "paper")
def test_each_option_trains_one_epoch(
    make_config: MakeConfig, dataset: Dataset, cache: Path, losses: dict[str, Any]
) -> None:
    weights, rows = trained(make_config, dataset, cache, **losses)
    assert all(bool(torch.isfinite(x).all()) for x in weights.values())
    assert all(math.isfinite(value) for value in rows[0].values())
    again, rows_again = trained(make_config, dataset, cache, **losses)
    assert rows == rows_again
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    terms = {"loss_task", *(f"loss_{e}" for e in EXPERTS)}
    if losses.get("decorrelation"):
        terms.add("loss_decorrelation")
    if losses.get("router"):
        terms |= {"loss_router", "loss_router_heads"}
    assert {name for name in rows[0] if name.startswith("loss_")} == terms
    ranks = {name: value for name, value in rows[0].items() if name.startswith("rank_")}
    assert set(ranks) == {f"rank_{e}" for e in EXPERTS}
    assert all(1 < rank < 32 for rank in ranks.values())  # 32 samples, centred


def test_each_option_changes_what_is_learned(
    make_config: MakeConfig, dataset: Dataset, cache: Path
) -> None:
    heads = []
    for losses in OPTIONS:
        if "barlow" in losses.get("decorrelation", ""):
            losses = {**losses, "barlow_warmup_epochs": 0}  # 0 in the first epoch else
        weights, _ = trained(make_config, dataset, cache, **losses)
        heads.append(torch.cat([weights["classifier.weight"].flatten(), _router(weights)]))
    for i, one in enumerate(heads):
        assert not any(torch.equal(one, other) for other in heads[:i])


def _router(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([x.flatten() for name, x in weights.items() if name.startswith("router.")])


def test_all_of_them_train_in_mixed_precision(
    make_config: MakeConfig, dataset: Dataset, cache: Path
) -> None:
    losses = {"interaction_schedule": "constant", **OPTIONS[-1]}
    training = {"epochs": 1, "precision": "bf16-mixed"}
    predictor = fit(make_config(losses=losses, training=training), dataset, cache=cache)
    assert all(bool(torch.isfinite(x).all()) for x in predictor.model.state_dict().values())


def test_the_heads_of_pid_stay_out_of_the_model(
    make_config: MakeConfig, dataset: Dataset, cache: Path
) -> None:
    plain, _ = trained(make_config, dataset, cache)
    pid, _ = trained(make_config, dataset, cache, router="pid")
    assert pid.keys() == plain.keys()


def test_a_batch_too_small_is_refused_before_anything_is_encoded(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
) -> None:
    config = make_config(losses={"decorrelation": "cka_debiased"}, training={"batch_size": 2})
    with pytest.raises(InputError, match=r"training.batch_size: 2; expected at least 4"):
        fit(config, dataset, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
