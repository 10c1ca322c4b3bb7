"""`samples.parquet`: a row per test sample with everything that was measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fli2moe import __version__
from fli2moe.errors import InputError
from fli2moe.evaluation.part import Rows
from fli2moe.evaluation.split import TestSplit
from fli2moe.files import complete_file
from fli2moe.predictor import Predictor

if TYPE_CHECKING:
    import pandas

FORMAT = "fli2moe/samples/1"
REMEDY = "run `fli2moe evaluate` again"


def write_samples(path: Path, predictor: Predictor, test: TestSplit, rows: Sequence[Rows]) -> None:
    """Writes a Parquet file with a row per test sample, in their order.

    Columns: id, labels, predicted (lists of names), correct (all labels right), probability (of the
    first target), `weight_<expert>`, and those of the parts; what was not measured is null, not 0.
    The schema's metadata hold `format`, `version` (of fli2moe), and `fingerprint` and `seed` of the
    model.

    Args:
        path: the file; complete or not there.
        predictor: whose fingerprint stands in the file's metadata.
        test: the split.
        rows: of the parts; no column stands in two of them.

    Raises:
        MachineError: when the file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    task = predictor.task
    predicted = task.predict(test.logits)
    correct = predicted == test.target
    correct = correct.all(dim=1) if correct.ndim == 2 else correct
    probabilities = task.probabilities(test.logits)
    named = [
        [name for name, there in zip(task.classes, p.tolist(), strict=True) if there]
        if p.ndim
        else [task.classes[int(p)]]
        for p in predicted
    ]
    first = [float(p[t[0]]) for p, t in zip(probabilities, test.targets, strict=True)]
    names = pyarrow.list_(pyarrow.string())  # said, as no sample may have a label
    columns: dict[str, Any] = {
        "id": pyarrow.array([s.id for s in test.samples], pyarrow.string()),
        "labels": pyarrow.array([list(s.labels) for s in test.samples], names),
        "predicted": pyarrow.array(named, names),
        "correct": pyarrow.array(correct.tolist(), pyarrow.bool_()),
        "probability": pyarrow.array(first, pyarrow.float64()),
    }
    for e, expert in enumerate(predictor.model.experts):
        weights = test.weights[:, e].double().tolist()
        columns[f"weight_{expert}"] = pyarrow.array(weights, pyarrow.float64())
    for part in rows:
        for name in dict.fromkeys(name for row in part.values() for name in row):
            measured = {i: row[name] for i, row in part.items() if name in row}
            values = [measured.get(i) for i in range(len(test.samples))]
            # from_pandas: NaN is null too
            columns[name] = pyarrow.array(values, pyarrow.float64(), from_pandas=True)
    table = pyarrow.table(columns)
    about = {"format": FORMAT, "version": __version__, "fingerprint": predictor.fingerprint}
    about["seed"] = str(predictor.config.seed)
    with complete_file(path) as temporary:
        pyarrow.parquet.write_table(table.replace_schema_metadata(about), temporary)


def read_samples(path: Path) -> pandas.DataFrame:
    """Reads what `write_samples` wrote; null is NaN, and `attrs` hold the model's `fingerprint`.

    Raises:
        InputError: when the file is missing, damaged, or something else.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise InputError(str(path), "no such file", "results of single samples", REMEDY)
    try:
        table = pyarrow.parquet.read_table(path, partitioning=None)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).split("\n")[0]
        raise InputError(str(path), f"cannot be read ({reason})", "Parquet", REMEDY) from None
    about = {
        key: (table.schema.metadata or {}).get(key.encode(), b"").decode(errors="replace")
        for key in ("format", "fingerprint")
    }
    if about["format"] != FORMAT:
        found = about["format"][:80] or "unknown"
        raise InputError(str(path), f"format {found!r}", FORMAT, REMEDY)
    frame = table.to_pandas()
    frame.attrs["fingerprint"] = about["fingerprint"]
    return frame
