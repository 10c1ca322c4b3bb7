"""Evaluation: everything that is measured on a trained model, and several models compared."""

from fli2moe.evaluation.compare import Comparison, compare_runs, comparison_tables
from fli2moe.evaluation.evaluate import evaluate
from fli2moe.evaluation.rendering import to_latex, to_markdown
from fli2moe.evaluation.sections import EvaluateJob
from fli2moe.evaluation.tables import metric_tables

__all__ = [
    "Comparison",
    "EvaluateJob",
    "compare_runs",
    "comparison_tables",
    "evaluate",
    "metric_tables",
    "to_latex",
    "to_markdown",
]
