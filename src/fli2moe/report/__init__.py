"""One self-contained HTML page from explanations: `write(explanations, samples, path)`."""

from fli2moe.report.page import render, write

__all__ = ["render", "write"]
