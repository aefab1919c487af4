import csv
from io import StringIO
from math import nan

from prognet.report.table import Column, Table, parts, to_csv, to_latex, to_markdown
from prognet.report.units import COUNT, PERCENT, POINTS
from prognet.statistics import Interval

TABLE = Table(
    "A & B",
    "100 %\nof it",
    (Column("name", "name"), Column("acc", "ACC ↑", PERCENT), Column("gain", "gain", POINTS), Column("n", "n", COUNT)),
    (
        ("a_b|c", Interval(0.98765, 0.98, 0.9956, 5), -0.01, 5.0),
        ('$x$, "y"', Interval(nan, nan, nan, 5), nan, 0.0),
    ),
)


def test_csv_has_full_precision_and_three_columns_for_an_interval() -> None:
    assert list(csv.reader(StringIO(to_csv(TABLE)))) == [
        ["name", "acc", "acc_low", "acc_high", "gain", "n"],
        ["a_b|c", "0.98765", "0.98", "0.9956", "-0.01", "5"],
        ['$x$, "y"', "", "", "", "", "0"],
    ]


def test_markdown() -> None:
    assert to_markdown(TABLE).split("\n") == [
        "### A & B",
        "",
        "| name | ACC ↑ (%) | gain (points) | n |",
        "|---|--:|--:|--:|",
        "| a\\_b\\|c | 98.77 ± 0.78 | \N{MINUS SIGN}1.00 | 5 |",
        '| $x$, "y" | – | – | 0 |',
        "",
        "100 % of it",
        "",
    ]


def test_latex_escapes_what_latex_reads() -> None:
    assert to_latex(TABLE).split("\n") == [
        "% A & B",
        "% 100 % of it",
        "% requires \\usepackage{booktabs}",
        "\\begin{tabular}{lrrr}",
        "\\toprule",
        "name & ACC $\\uparrow$ (\\%) & gain (points) & n \\\\",
        "\\midrule",
        "a\\_b\\textbar{}c & 98.77 $\\pm$ 0.78 & $-$1.00 & 5 \\\\",
        '\\$x\\$, "y" & -- & -- & 0 \\\\',
        "\\bottomrule",
        "\\end{tabular}",
        "",
    ]


def test_an_empty_table_keeps_its_head() -> None:
    empty = Table("none", "", TABLE.columns, ())
    assert to_csv(empty) == "name,acc,gain,n\n"
    assert len(empty) == 0
    assert "\\midrule\n\\bottomrule" in to_latex(empty)


def test_equal_values_have_an_interval_without_width_and_exact_zeros_none() -> None:
    column = Column("acc", "ACC", PERCENT)
    assert parts(column, Interval(0.9956, 0.9956, 0.9956, 2)) == ("99.56", "± 0")
    assert parts(column, Interval(0.0, 0.0, 0.0, 2)) == ("0", "")
    assert parts(column, Interval(0.9956, nan, nan, 1)) == ("99.56", "")
