"""What a study trains: models and loss variants by name, and the data of each benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from fli2moe.config import Config
from fli2moe.data.shapes import write_shapes
from fli2moe.data.vec2xor import SETTINGS, SIZE, TOKENS, WIDTH, write_vec2xor
from fli2moe.errors import InputError, unknown_name
from fli2moe.sections import EvaluationParts

ON_DISK = ("mmimdb", "enrico", "mmhs150k")
"""Benchmarks whose data somebody else holds; `configs/<name>.yaml` says where they lie here."""
MADE = ("shapes", "vec2xor")
"""Benchmarks that our own generators make."""
BENCHMARKS = (*ON_DISK, *MADE)

SPECIALISED: dict[str, Any] = {
    "losses.variant": "residual",
    "losses.router": "pid",
    "training.router_rate": 1.0,
}
"""Losses under which the expert named after a mechanism carries it (docs/results.md)."""
SPECIALISED_LABELS: dict[str, Any] = {
    "losses.variant": "complete",
    "losses.router": "learned",
    "losses.interaction_schedule": "gated",
    "losses.gate_loss": 0.25,
    "losses.noise_fraction": 0.25,
    "model.isolated": True,
    "model.router.kind": "uniform",
    "training.monitor": "score",
}
"""`SPECIALISED` where each of several labels may have a mechanism of its own: no router can weigh
labels, so every expert has the same weight."""
VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"model.name": "dense"},
    "sparse_moe": {"model.name": "sparse_moe"},
    "fli2moe": {},
    "fli2moe-cos": {"losses.decorrelation": "cos"},
    "fli2moe-cka": {"losses.decorrelation": "cka"},
    "fli2moe-barlow": {"losses.decorrelation": "barlow"},
    "specialised": SPECIALISED,
    "permuted": {"training.permute_labels": True},
    # Not trained unless asked for.
    "fli2moe-cka_debiased": {"losses.decorrelation": "cka_debiased"},
    "fli2moe-barlow_full": {"losses.decorrelation": "barlow_full"},
    "no-interaction-losses": {"losses.interaction": 0.0},
    "late_fusion": {"model.name": "late_fusion"},
    "early_fusion": {"model.name": "early_fusion"},
}
"""{name: options over the benchmark's configuration}; `specialised` is `SPECIALISED_LABELS` where
samples have several labels."""
USUAL = tuple(VARIANTS)[:8]
"""The variants of a whole study: the paper's baselines, the follow-up's decorrelations, the losses
that repair the experts' roles, and a control whose training labels are permuted."""
CONTROLS = ("permuted",)
"""Variants that stand for no model: left out of the comparison of models."""

SHAPES_SIZES = (5000, 500, 500)
VEC2XOR_SIZE = SIZE
VEC2XOR_OPTIONS: dict[str, Any] = {
    "model.layers": 1,
    "training.epochs": 5,
    "training.batch_size": 128,
    "training.mask_training": 0.0,
    "losses.interaction_schedule": "constant",
}
"""Two bits are easy: one layer learns them in a few epochs, and no label has to be waited for."""


@dataclass(frozen=True)
class Setting:
    """One data set of a benchmark.

    Attributes:
        name: its folder below the study's; empty where the benchmark has one data set.
        config: of the variant `fli2moe`, seed 0.
    """

    name: str
    config: Config


def settings_of(
    benchmark: str,
    out: Path,
    *,
    config: Path | None,
    preset: str | None,
    options: Mapping[str, Any],
    seed: int,
) -> list[Setting]:
    """Returns the data sets of a benchmark, made where they are ours and not there yet.

    Args:
        benchmark: one of `BENCHMARKS`.
        out: folder of the study; made data go to `out/data`.
        config: configuration of a benchmark on disk; `configs/<benchmark>.yaml` by default.
        preset: in place of the configuration's: of its file only the `data` section then counts.
        options: {`section.key`: value} over everything.
        seed: of made data.

    Raises:
        InputError: for an unknown name or option, or a configuration that is missing or not valid.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_name("reproduce", "benchmark", benchmark, BENCHMARKS)
    if benchmark in ON_DISK:
        path = config or Path("configs") / f"{benchmark}.yaml"
        return [Setting("", _from_file(path, preset, options))]
    if config is not None:
        raise InputError("--config", f"given for {benchmark}", "made data need none")
    if benchmark == "shapes":
        data = {
            "path": _manifest(out, lambda f: write_shapes(f, sizes=SHAPES_SIZES, seed=seed)),
            "labels": "multilabel",
            "modalities": {
                "text": {"encoder": "builtin:words"},
                "image": {"encoder": "builtin:patches"},
            },
        }
        return [Setting("", _made_config(data, preset, options))]
    found = []
    for name in SETTINGS:
        manifest = _manifest(out / name, partial(_write_vec2xor, setting=name, seed=seed))
        modalities = {m: {"encoder": "vector", "width": WIDTH} for m in TOKENS}
        data = {"path": manifest, "modalities": modalities}
        found.append(Setting(name, _made_config(data, preset, {**VEC2XOR_OPTIONS, **options})))
    return found


def variant_config(setting: Setting, variant: str, seed: int) -> Config:
    """Returns the configuration of one variant and seed.

    Raises:
        InputError: for an unknown variant.
    """
    if variant not in VARIANTS:
        raise unknown_name("reproduce", "variant", variant, VARIANTS)
    options = VARIANTS[variant]
    if variant == "specialised" and setting.config.data.labels == "multilabel":
        options = SPECIALISED_LABELS
    return setting.config.with_options({**options, "seed": seed})


def _from_file(path: Path, preset: str | None, options: Mapping[str, Any]) -> Config:
    if not path.is_file():
        remedy = "run in a checkout of fli2moe, or name a configuration: --config my.yaml"
        raise InputError(str(path), "no such configuration", "a YAML file", remedy)
    return Config.from_yaml(path, overrides=options, preset=preset)


def _manifest(folder: Path, write: Callable[[Path], Path]) -> str:
    """The manifest in `folder/data`, written unless a whole one is there."""
    manifest = folder / "data" / "manifest.csv"
    return str((manifest if manifest.is_file() else write(folder / "data")).resolve())


def _write_vec2xor(folder: Path, setting: str, seed: int) -> Path:
    return write_vec2xor(folder, setting, VEC2XOR_SIZE, seed)


def _made_config(data: Mapping[str, Any], preset: str | None, options: Mapping[str, Any]) -> Config:
    config = Config.from_dict({"preset": preset or "demo", "data": data}, where="reproduce")
    whole = {"evaluation.parts": list(get_args(EvaluationParts))}
    return config.with_options({**whole, **options})
