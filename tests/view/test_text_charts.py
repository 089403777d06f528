"""Charts in characters: where the dots are, what stands beside them."""

from __future__ import annotations

import math

from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.charts.text import HEIGHT, text


def chart(*series: Series, zero: bool = False) -> Chart:
    return Chart("Loss", "step", "loss (nats a token)", (Panel("", series),), zero=zero)


def lines(drawn: Chart, width: int = 60) -> list[str]:
    return text(drawn, width).plain.split("\n")


def rows(drawn: Chart, width: int = 60) -> list[str]:
    """The plot's own lines, without the axis."""
    return [line[9:] for line in lines(drawn, width)[3 : 3 + HEIGHT]]


def test_a_falling_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    plot = rows(chart(Series("s", (1, 10, 100), (9, 6, 3))))
    marked = [[at for at, cell in enumerate(row) if cell != "⠀"] for row in plot]
    assert all(marked)
    assert [min(each) for each in marked] == sorted(min(each) for each in marked)
    assert marked[0][0] <= 3
    assert plot[-1].rstrip("⠀").endswith("a")
    assert len(plot[-1].rstrip("⠀")) >= 49


def test_axes_have_values_steps_and_units() -> None:
    drawn = lines(chart(Series("s", (0, 1, 10, 100, 1000), (9, 8, 7, 6, 3))))
    assert drawn[1] == "loss (nats a token), by step"
    assert drawn[3].startswith("   9.00 ┤")
    assert drawn[2 + HEIGHT].startswith("   3.00 ┤")
    assert drawn[4 + HEIGHT].split() == ["0", "1", "10", "100", "1k"]
    assert all(len(line) <= 60 for line in drawn)


def test_each_curve_has_a_letter_its_name_and_its_last_value() -> None:
    one = Series("one", (1, 10), (5, 4), (4.5, 3.5), (5.5, 4.25))
    other = Series("other", (1, 10), (3, 2), (math.nan,) * 2, (math.nan,) * 2)
    drawn = lines(chart(one, other))
    assert drawn[-2].strip() == "a one  4.000 (3.500 to 4.250) at step 10"
    assert drawn[-1].strip() == "b other  2.000 at step 10"
    plot = "".join(rows(chart(one, other)))
    assert plot.count("a") == plot.count("b") == 1


def test_curves_that_end_alike_keep_their_letters() -> None:
    same = [Series(name, (1, 10), (5, 4)) for name in ("x", "y", "z")]
    plot = "".join(rows(chart(*same)))
    assert {"a", "b", "c"} <= set(plot)


def test_a_difference_has_a_dotted_line_at_zero() -> None:
    plot = rows(chart(Series("s", (1, 10), (1, 3)), zero=True))
    assert sum(cell != "⠀" for cell in plot[-1]) > 20


def test_gaps_single_points_and_constant_curves_are_drawn() -> None:
    gap = rows(chart(Series("s", (1, 10, 100, 1000), (1, math.nan, 3, 3))))
    assert all(cell == "⠀" for row in gap for cell in row[10:30])
    assert "a" in "".join(rows(chart(Series("s", (5,), (2,)))))
    assert "a" in "".join(rows(chart(Series("s", (1, 2), (2, 2)))))
    assert lines(chart(Series("s", (), ())))[-1].strip() == "a s"
