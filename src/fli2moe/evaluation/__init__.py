"""Evaluation: task metrics, faithfulness, interaction share, planted recovery, as plain tables."""

from fli2moe.evaluation.evaluate import evaluate
from fli2moe.evaluation.tables import metric_tables

__all__ = ["evaluate", "metric_tables"]
