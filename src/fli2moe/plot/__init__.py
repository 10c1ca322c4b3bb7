"""Figures from results: of one explanation, of the metrics of a run, and of runs compared.

Matplotlib is optional (`pip install "fli2moe[plot]"`). A figure is a value: nothing is shown,
pyplot and its state stay untouched, and the reader's own style of matplotlib changes nothing. What
was not measured is marked `n/a` or left out, never drawn at 0.
"""

from fli2moe.plot.comparison import plot_comparison
from fli2moe.plot.drawing import can_plot, save_figure
from fli2moe.plot.explanation import plot_explanation
from fli2moe.plot.metrics import (
    PLOTS,
    metric_figures,
    plot_expert_weights,
    plot_faithfulness,
    plot_interaction_share,
    plot_pair_masking,
)
from fli2moe.plot.scores import plot_error, plot_pair_scores

__all__ = [
    "PLOTS",
    "can_plot",
    "metric_figures",
    "plot_comparison",
    "plot_error",
    "plot_expert_weights",
    "plot_explanation",
    "plot_faithfulness",
    "plot_interaction_share",
    "plot_pair_masking",
    "plot_pair_scores",
    "save_figure",
]
