"""Mixed precision: every loss trains, and what must not be rounded is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from test_accumulation import OPTIONS, named
from tiny import tiny_batch, tiny_model
from torch import Tensor

from fli2moe.accumulation import Lesson, accumulate
from fli2moe.config import Config
from fli2moe.data.sample import Dataset
from fli2moe.losses import Objective, Supervision, View
from fli2moe.model import masks_of
from fli2moe.precision import at_least_float32
from fli2moe.predictor import Predictor
from fli2moe.task import Task
from fli2moe.trainee import Trainee
from fli2moe.training import fit

MakeConfig = Callable[..., Config]
SIZES: tuple[int | None, ...] = (None, 6)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_become_single_precision_at_least(kind: torch.dtype) -> None:
    x = torch.ones(2, dtype=kind)
    found = at_least_float32(x)
    assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert (found is x) == (kind in (torch.float32, torch.float64))


@pytest.mark.parametrize("size", SIZES, ids=["whole", "parts"])
@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_each_loss_trains_in_bfloat16(
    make_config: MakeConfig,
    dataset: Dataset,
    cache: Path,
    losses: dict[str, Any],
    size: int | None,
) -> None:
    config = make_config(
        losses={"interaction_schedule": "constant", "noise_fraction": 0.5, **losses},
        training={"epochs": 1, "precision": "bf16-mixed", "micro_batch": size},
    )
    rows: list[dict[str, float]] = []
    predictor = fit(config, dataset, cache=cache, progress_epoch=lambda r: rows.append(dict(r)))
    assert all(math.isfinite(value) for value in rows[0].values())
    for parameter in predictor.model.parameters():
        assert parameter.dtype == torch.float32
        assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("losses", OPTIONS, ids=named)
def test_terms_are_in_single_precision(losses: dict[str, Any]) -> None:
    model = tiny_model().float()
    lengths = [{"text": 1 + i % 3, "image": 2} for i in range(6)]
    batch = tiny_batch(lengths)
    task, target = Task("multiclass", ("a", "b", "c")), torch.arange(6) % 3
    means = {m: torch.zeros(d) for m, d in model.widths.items()}
    config = Config.from_dict(
        {"data": {"path": "-", "modalities": {m: {"encoder": "vector"} for m in means}},
         "losses": losses}
    ).losses  # fmt: skip
    objective = Objective(config, model, task, target, means)
    tokens = type(batch)({m: t.with_features(t.features.float()) for m, t in batch.items()})
    with torch.autocast("cpu", torch.bfloat16):
        view = View(model.project(tokens), masks_of(tokens))
        assert view.projected["text"].dtype == torch.bfloat16
        others = objective.views(model, view, torch.Generator().manual_seed(0))
        supervision = Supervision(task, target, task.losses)
        lesson = Lesson(view, others, supervision, torch.arange(6), 0)
        found = accumulate(model, objective, lesson, None, Tensor.backward)
        weights = model.fuse(view.projected, view.masks).weights
    assert {x.dtype for x in (found.loss, found.each, *found.terms.values())} == {torch.float32}
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(1), torch.ones(6), rtol=0, atol=1e-6)


def test_what_it_trains_predicts_in_single_precision(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
) -> None:
    config = make_config(training={"epochs": 1, "precision": "bf16-mixed"})
    trained = fit(config, dataset, tmp_path / "run", cache=tmp_path / "cache")
    stored = Predictor.load(tmp_path / "run")
    plain = fit(
        config.model_copy(
            update={"training": config.training.model_copy(update={"precision": "32"})}
        ),
        dataset,
        cache=tmp_path / "cache",
    )
    plain.model.load_state_dict(trained.model.state_dict())
    inputs = [s.inputs for s in dataset.test]
    logits = [p.run(p.encode(inputs)).logits for p in (trained, stored, plain)]
    assert {x.dtype for x in logits} == {torch.float32}
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_validation_is_in_single_precision(
    make_config: MakeConfig, dataset: Dataset, tmp_path: Path
) -> None:
    config = make_config(training={"epochs": 1, "precision": "bf16-mixed"})
    rows: list[dict[str, float]] = []
    predictor = fit(config, dataset, cache=tmp_path, progress_epoch=lambda r: rows.append(dict(r)))
    logits = predictor.run(predictor.encode([s.inputs for s in dataset.val])).logits
    target = predictor.task.encode([s.labels for s in dataset.val])
    expected = float(predictor.task.losses(logits, target).mean())
    assert rows[0]["val_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=["whole", "parts"])
def test_a_scaled_loss_is_unscaled_before_it_is_clipped(
    make_config: MakeConfig,
    dataset: Dataset,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int | None,
) -> None:
    """`16-mixed` as on a GPU, with the scaler that is there for the CPU."""
    norms: list[float] = []
    scales: list[float] = []
    clip = Trainee.on_before_optimizer_step

    def norm_of(model: torch.nn.Module) -> float:
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        return float(torch.stack(gradients).norm())

    def watch(self: Trainee, optimizer: torch.optim.Optimizer) -> None:
        norms.append(norm_of(self))
        clip(self, optimizer)
        assert norm_of(self) <= 1e-3 * (1 + 1e-4)
        scales.append(float(self.trainer.precision_plugin.scaler.get_scale()))

    class Trainer(lightning.Trainer):
        def __init__(self, *, precision: str, **options: Any) -> None:
            if precision == "16-mixed":
                scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
                options["plugins"] = MixedPrecision("16-mixed", "cpu", scaler)
                super().__init__(**options)
            else:
                super().__init__(precision=precision, **options)

    monkeypatch.setattr(Trainee, "on_before_optimizer_step", watch)
    monkeypatch.setattr(lightning, "Trainer", Trainer)
    losses = {"interaction_schedule": "constant", "variant": "residual", "decorrelation": "cka"}
    training = {"epochs": 1, "micro_batch": size, "clip": 1e-3, "learning_rate": 1e-6}
    for precision in ("16-mixed", "32"):
        if precision == "32":
            watch_only = lambda self, _: norms.append(norm_of(self))  # noqa: E731
            monkeypatch.setattr(Trainee, "on_before_optimizer_step", watch_only)
        config = make_config(losses=losses, training={**training, "precision": precision})
        predictor = fit(config, dataset, cache=cache)
        assert all(bool(torch.isfinite(p).all()) for p in predictor.model.parameters())
    assert scales == [4096.0] * 3
    assert norms[:3] == pytest.approx(norms[3:], rel=0.02)
