"""Tables as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping

from fli2moe.errors import one_line
from fli2moe.evaluation.cells import cell
from fli2moe.evaluation.part import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # first in a row it would be an option of the line break before it
    "*": "{*}",  # so would this
    "±": r"$\pm$",
    "×": r"$\times$",
}


def to_markdown(tables: Mapping[str, Table]) -> str:
    """Returns the tables one below the other, each with its title and note."""
    parts = []
    for title, table in tables.items():
        head = [_plain(column) for column in table["columns"]]
        lines = [f"## {_plain(title)}", "", _row(head)]
        lines.append(_row([":--", *["--:"] * (len(head) - 1)]))
        lines += [_row([_plain(cell(value)) for value in row]) for row in table["rows"]]
        if table["note"]:
            lines += ["", _plain(table["note"])]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_latex(tables: Mapping[str, Table]) -> str:
    r"""Returns `table` environments with booktabs rules, each with its title and note as caption.

    Every character that LaTeX takes for a command is escaped: names of labels may hold anything.
    They need `\usepackage{booktabs}`.
    """
    parts = []
    for title, table in tables.items():
        head = [_escaped(str(column)) for column in table["columns"]]
        rows = [" & ".join(_escaped(cell(value)) for value in row) for row in table["rows"]]
        caption = f"{_escaped(title)}. {_escaped(table['note'])}".rstrip()
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """One line that Markdown shows as it is: no cell ends early, no markup, HTML or formula."""
    text = one_line(str(text))
    for character in ("\\", "|", "`", "*", "_", "<", "[", "&", "~", "$"):
        text = text.replace(character, "\\" + character)
    return text


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in one_line(text))
