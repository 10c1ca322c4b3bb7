"""A whole study in one call, and what a second call finds done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fli2moe.errors import InputError
from fli2moe.files import read_json
from fli2moe.run_folder import run_config
from fli2moe.study import BENCHMARKS, VARIANTS, reproduce
from fli2moe.study import plan as study_plan

TINY: dict[str, Any] = {
    "model.hidden": 16,
    "model.layers": 1,
    "model.heads": 2,
    "training.epochs": 1,
    "training.batch_size": 32,
    "explain.budget": 60,
    "evaluation.parts": ["interaction_share"],
    "evaluation.pair_samples": 2,
    "evaluation.budget": 60,
    "evaluation.probe": False,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_plan, "SHAPES_SIZES", (64, 16, 8))
    monkeypatch.setattr(study_plan, "VEC2XOR_SIZE", 100)


def test_a_study_trains_compares_reports_and_goes_on_where_it_stopped(small: None, tmp_path: Path):
    said: list[str] = []

    def call(**more: Any):
        said.clear()
        options = {"variants": ("dense", "fli2moe"), "options": TINY, **more}
        return reproduce("shapes", tmp_path, seeds=1, say=said.append, **options)

    found = call()
    stages = ("train", "evaluate", "explain", "report")
    runs = ("dense-seed0", "fli2moe-seed0")
    assert set(said) == {f"{run}/{stage}" for run in runs for stage in stages}
    assert [group.name for group in found.comparisons[""].groups] == ["dense", "fli2moe"]
    assert {path.parent.name for path in found.reports} == set(runs)
    assert all(path.is_file() for path in found.reports)
    assert (tmp_path / "comparison.md").read_text(encoding="utf-8").count("fli2moe")
    assert "begin{tabular}" in (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    again = call()
    assert said == []
    assert again.comparisons == found.comparisons
    assert again.seconds == found.seconds == read_json(tmp_path / "study.json")["seconds"]
    (tmp_path / "fli2moe-seed0" / "metrics.json").unlink()
    call()
    assert said == ["fli2moe-seed0/evaluate", "fli2moe-seed0/report"]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert before == after
    with pytest.raises(InputError, match="trained with another configuration"):
        call(options={**TINY, "training.epochs": 2})


def test_vec2xor_has_a_folder_for_each_mechanism(small: None, tmp_path: Path):
    options = {**TINY, "training.batch_size": 16}
    found = reproduce("vec2xor", tmp_path, seeds=1, variants=["dense"], options=options)
    assert found.comparisons == {}
    names = {"uniqueness_first", "uniqueness_second", "synergy", "redundancy"}
    assert {path.parent.parent.name for path in found.reports} == names
    for name in names:
        assert read_json(tmp_path / name / "dense-seed0" / "metrics.json")["task"]["accuracy"] <= 1


def test_the_permuted_control_is_trained_and_left_out_of_the_comparison(
    small: None, tmp_path: Path
):
    variants = ("dense", "fli2moe", "permuted")
    found = reproduce("shapes", tmp_path, seeds=1, variants=variants, options=TINY)
    assert run_config(tmp_path / "permuted-seed0").training.permute_labels
    assert len(found.comparisons[""].groups) == 2
    assert len(found.reports) == 2


def test_checks_are_of_the_first_seed_which_is_compared_with_the_others(
    small: None, tmp_path: Path
):
    options = {**TINY, "evaluation.parts": ["interaction_share", "sanity"]}
    options |= {"evaluation.check_samples": 2, "evaluation.attributions": ["gradient_x_input"]}
    said: list[str] = []

    def call():
        said.clear()
        names = ("fli2moe", "permuted")
        reproduce("shapes", tmp_path, seeds=2, variants=names, options=options, say=said.append)

    call()
    first, second = (read_json(tmp_path / f"fli2moe-seed{s}" / "metrics.json") for s in (0, 1))
    assert list(first["explanations_against"]) == ["fli2moe-seed1", "permuted-seed0"]
    assert "sanity" in first
    assert "sanity" not in second
    assert "against" not in second
    call()
    assert said == []


def test_every_variant_is_a_valid_configuration(small: None, tmp_path: Path):
    setting = study_plan.settings_of(
        "shapes", tmp_path, config=None, preset=None, options={}, seed=0
    )[0]
    for name in VARIANTS:
        config = study_plan.variant_config(setting, name, 5)
        assert config.seed == 5
    assert {c: study_plan.variant_config(setting, c, 0) for c in VARIANTS}["fli2moe"] == (
        setting.config.with_options({"seed": 0})
    )


def test_specialised_on_shapes_is_what_its_preset_asks_for(small: None, tmp_path: Path):
    """But for the epochs, which a study takes from its benchmark."""
    setting, own = (
        study_plan.settings_of("shapes", tmp_path, config=None, preset=p, options={}, seed=0)[0]
        for p in (None, "specialised_labels")
    )
    variant = study_plan.variant_config(setting, "specialised", 0)
    assert variant.model == own.config.model
    assert variant.losses == own.config.losses
    assert own.config.training == variant.with_options({"training.epochs": 24}).training


def test_specialised_is_another_recipe_where_samples_have_several_labels(
    small: None, tmp_path: Path
):
    losses = {}
    for benchmark in ("shapes", "vec2xor"):
        setting = study_plan.settings_of(
            benchmark, tmp_path / benchmark, config=None, preset=None, options={}, seed=0
        )[0]
        losses[benchmark] = study_plan.variant_config(setting, "specialised", 0).losses
    assert (losses["shapes"].variant, losses["shapes"].router) == ("complete", "learned")
    assert (losses["vec2xor"].variant, losses["vec2xor"].router) == ("residual", "pid")


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"benchmark 'enrcio'.*'enrico'"):
        reproduce("enrcio", tmp_path / "out")
    with pytest.raises(InputError, match=r"variant 'fli2mo'.*'fli2moe'"):
        reproduce("shapes", tmp_path / "out", variants=["fli2mo"])
    with pytest.raises(InputError, match="at least 1"):
        reproduce("shapes", tmp_path / "out", seeds=0)
    with pytest.raises(InputError, match=r"no such configuration.*--config"):
        reproduce("mmimdb", tmp_path / "out")
    with pytest.raises(InputError, match="made data need none"):
        reproduce("shapes", tmp_path / "out", config=tmp_path / "c.yaml")
    assert set(BENCHMARKS) == {"mmimdb", "enrico", "mmhs150k", "shapes", "vec2xor"}
