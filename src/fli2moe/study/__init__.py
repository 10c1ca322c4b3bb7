"""The whole study of one benchmark: train every model, evaluate, compare, report; resumable."""

from fli2moe.study.plan import BENCHMARKS, USUAL, VARIANTS
from fli2moe.study.reproduce import Study, reproduce, write_comparison

__all__ = ["BENCHMARKS", "USUAL", "VARIANTS", "Study", "reproduce", "write_comparison"]
