"""Tables as Markdown and LaTeX: the cells, and characters that would be markup."""

from __future__ import annotations

from fli2moe.evaluation.rendering import to_latex, to_markdown


def table(rows: list[list[object]], note: str = "") -> dict[str, object]:
    return {"columns": ["name", "value"], "rows": rows, "note": note}


def test_markdown_of_a_table_is_this_text():
    found = to_markdown(
        {"Task": table([["dense", 0.5], ["probe", None]], "3 samples."), "B": table([])}
    )
    assert found == (
        "## Task\n"
        "\n"
        "| name | value |\n"
        "| :-- | --: |\n"
        "| dense | 0.500 |\n"
        "| probe | n/a |\n"
        "\n"
        "3 samples.\n"
        "\n"
        "## B\n"
        "\n"
        "| name | value |\n"
        "| :-- | --: |\n"
    )


def test_latex_of_a_table_is_this_text():
    found = to_latex({"Task": table([["dense", 0.5], ["probe", None]], "3 samples.")})
    assert found == (
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{Task. 3 samples.}\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "name & value \\\\\n"
        "\\midrule\n"
        "dense & 0.500 \\\\\n"
        "probe & n/a \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )
    assert "\\caption{Task.}" in to_latex({"Task": table([])})


def test_numbers_have_three_decimals_and_counts_none():
    found = to_markdown({"T": table([["a", -0.12345], ["b", 7], ["c", 0.0], ["d", True]])})
    assert [line.split(" | ")[1] for line in found.splitlines()[4:]] == [
        "-0.123 |",
        "7 |",
        "0.000 |",
        "True |",
    ]


def test_no_cell_of_markdown_ends_early_or_becomes_markup():
    found = to_markdown({"T": table([["a|b", "x_y*z`<b>[l](u) &amp; ~s~ $m$ \\"]])})
    row = found.splitlines()[4]
    assert row == r"| a\|b | x\_y\*z\`\<b>\[l](u) \&amp; \~s\~ \$m\$ \\ |"


def test_a_cell_with_line_breaks_stays_one_line():
    tables = {"T": table([["a\nb", "c\r\nd"]])}
    assert len(to_markdown(tables).splitlines()) == 5
    assert len(to_latex(tables).splitlines()) == len(
        to_latex({"T": table([["a", "b"]])}).splitlines()
    )


def test_every_special_character_of_latex_is_escaped():
    row = to_latex({"T": table([["[a]*", "&%$#_{}~^\\<>|±"]])}).splitlines()[7]
    assert row == (
        r"{[}a]{*} & \&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
        r"\textless{}\textgreater{}\textbar{}$\pm$ \\"
    )
    found = to_latex({"50%": {"columns": ["a_b"], "rows": [["x"]], "note": "K & L"}})
    assert r"\caption{50\%. K \& L}" in found
    assert "\na\\_b \\\\\n" in found
    assert "{tabular}{l}" in found
