"""The model card of a predictor: its encoders, labels, settings, and the figures of its run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fli2moe.data.load import NOTICES
from fli2moe.encoders import Encoder
from fli2moe.errors import InputError
from fli2moe.files import read_json
from fli2moe.model import parameter_count
from fli2moe.model_card import ModelCard, write_card
from fli2moe.run_folder import METRICS, TRAINING, Parts, parts_digest

REPORT = "report.html"
SETTINGS_SHOWN = {"preset", "seed", "model", "losses", "training"}  # no path stands in these
EXAMPLES = {"text": "a text", "image": "picture.png", "vector": "features.npy"}


def write_run_card(parts: Parts, folder: Path) -> bool:
    """Writes the predictor's card into `folder`, with the figures there that are its own.

    Returns:
        whether it was written; a README.md that a person wrote or edited stays.

    Raises:
        MachineError: when the folder cannot be written.
    """
    config = parts.config
    card = ModelCard(
        model=config.model.name,
        modalities=parts.model.widths,
        experts=parts.model.experts,
        parameters=parameter_count(parts.model),
        classes=len(parts.task.classes),
        usage=_usage(parts.encoders),
        encoders={m: modality.encoder for m, modality in config.data.modalities.items()},
        labels=parts.task.classes,
        task=parts.task.kind,
        settings=config.model_dump(mode="json", include=SETTINGS_SHOWN),
        figures=known_figures(folder, parts_digest(parts)),
        report=REPORT if (folder / REPORT).is_file() else "",
        notice=NOTICES.get(config.data.source, ""),
    )
    return write_card(folder, card.to_markdown())


def copy_results(run: Path, folder: Path, fingerprint: str) -> list[str]:
    """Copies a run's figures and report into `folder`; returns the names of what was there.

    Raises:
        InputError: when the figures are of another model, or there are none.
    """
    metrics = run / METRICS
    model = _object(metrics).get("model")
    found = model.get("fingerprint") if isinstance(model, dict) else None
    if found != fingerprint:
        what = "figures of another model" if metrics.is_file() else f"no {METRICS}"
        remedy = "run `fli2moe evaluate` on it, or leave `run` out"
        raise InputError(str(run), what, "figures of this model", remedy)
    names = [name for name in (METRICS, TRAINING, REPORT) if (run / name).is_file()]
    for name in names:
        shutil.copyfile(run / name, folder / name)
    return names


def known_figures(folder: Path, fingerprint: str) -> dict[str, float]:
    """Returns {what: value} of `training.json` and `metrics.json` that are of the predictor.

    Args:
        folder: the run folder.
        fingerprint: the predictor's; a file that names another one, or none, is left out.
    """
    training, metrics = _object(folder / TRAINING), _object(folder / METRICS)
    figures: dict[str, Any] = {}
    if training.get("fingerprint") == fingerprint:
        rows, best = training.get("history"), training.get("best_epoch")
        if isinstance(rows, list) and isinstance(best, int) and 0 <= best < len(rows):
            row = rows[best] if isinstance(rows[best], dict) else {}
            figures |= {"best epoch": best}
            figures |= {f"validation {k}": row.get(f"val_{k}") for k in ("loss", "score")}
    model, task = metrics.get("model"), metrics.get("task")
    of_this = isinstance(model, dict) and model.get("fingerprint") == fingerprint
    if of_this and isinstance(task, dict):
        figures |= {f"test {name}": value for name, value in task.items()}
    return {name: float(x) for name, x in figures.items() if _is_number(x)}


def _usage(encoders: Mapping[str, Encoder]) -> str:
    inputs = {m: EXAMPLES.get(e.kind, "...") for m, e in encoders.items()}
    return "\n".join(
        [
            "from fli2moe import Predictor",
            'predictor = Predictor.from_pretrained(".")  # this folder, or `owner/name` on the hub',
            f"print(predictor({inputs!r}))  # your own",  # repr: no name can leave the line
        ]
    )


def _object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file, or {}: the card does not depend on it."""
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
