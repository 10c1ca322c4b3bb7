"""The demo in Python: data with planted truth, two models, explanations checked against the truth.

`fli2moe demo` is the same at full size; the sizes here are for a look in a minute or two.
"""

import sys
from pathlib import Path

from fli2moe.demo import run_demo
from fli2moe.evaluation import metric_tables, to_markdown


def main(out: Path, sizes: tuple[int, int, int] = (1500, 150, 150)) -> Path:
    """Trains, evaluates, explains; prints what was found and returns the page."""
    result = run_demo(
        out,
        sizes=sizes,
        samples=6,
        progress_epoch=lambda name, row: print(name, f"{row['val_loss']:.3f}"),
    )
    tables = metric_tables(result.metrics)
    for title in (
        "Share of the output that interactions explain",
        "Task",
        "Planted pairs recovered",
    ):
        if title in tables:
            print(to_markdown({title: tables[title]}))
    return result.report


if __name__ == "__main__":
    print("open", main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example-demo")))
