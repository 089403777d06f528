"""Charts: the step axis against positions worked out by hand, and both renderers against the chart they were given."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from trajstore.errors import BadTarget, PlotError
from trajstore.view.charts import matplotlib, plotly
from trajstore.view.charts.chart import (
    MOST_MARKERS,
    Chart,
    Mark,
    Panel,
    Series,
    bars_range,
    is_even,
    mark_rows,
    step_axis,
    step_label,
)
from trajstore.view.charts.colors import MOST_DISTINCT, palette, rgba
from trajstore.view.charts.save import save_chart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PYTHIA = [0, *(2**i for i in range(10)), *range(1000, 144_000, 1000)]


def chart(steps: tuple[float, ...] = (0, 1, 10, 100, 1000), marks: tuple[Mark, ...] = ()) -> Chart:
    y = tuple(9.0 - i for i in range(len(steps)))
    low, high = tuple(v - 0.5 for v in y), tuple(v + 0.5 for v in y)
    series = (
        Series("model-a", steps, y, low, high, note="12 tokens in 3 contexts"),
        Series("model-b", steps, tuple(v + 1 for v in y)),
    )
    return Chart(
        "A title", "step", "loss (nats a token)", (Panel("d", series), Panel("e", series)), marks=marks
    )


# the step axis


def test_log_axis_keeps_step_0_one_gap_left_of_the_first_positive_step():
    axis = step_axis([0, 1, 10, 100, 1000, 10_000])
    assert axis.log
    # The first positive steps are 1 apart; a fifth of the axis (4) is the most that step 0 gets.
    assert [axis.position(step) for step in (0, 1, 10, 100, 1000, 10_000)] == pytest.approx(
        [-0.8, 0, 1, 2, 3, 4]
    )
    assert axis.tick_labels == ["0", "1", "10", "100", "1k", "10k"]
    assert axis.tick_positions == pytest.approx([-0.8, 0, 1, 2, 3, 4])
    assert axis.low < -0.8
    assert axis.high > 4


def test_the_gap_is_that_of_the_first_two_positive_steps():
    axis = step_axis(PYTHIA)
    span = math.log10(143_000)
    assert axis.position(0) == pytest.approx(-0.07 * span)  # log10(2) is less than 7 % of the axis
    axis = step_axis([0, 8, 64, 512, 4096, 32768, 262144, 2097152])
    assert axis.position(0) == pytest.approx(0)  # log10(8) left of log10(8)


def test_positions_rise_with_the_step_everywhere():
    axis = step_axis([0, 100, 1000, 143_000])
    steps = [0, 1, 50, 100, 101, 512, 143_000]
    positions = [axis.position(step) for step in steps]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize(
    ("steps", "linear"),
    [
        (range(0, 1100, 100), True),
        ([0, 100, 200, 300, 350], True),
        ([5], True),
        ([0, 1, 2, 4, 8], False),
        (range(0, 40_000, 1000), False),
        (PYTHIA, False),
    ],
)
def test_few_even_steps_lie_on_a_linear_axis(steps, linear):
    assert is_even(list(steps)) == linear
    assert step_axis(steps).log != linear


def test_linear_axis_places_steps_at_themselves():
    axis = step_axis(range(0, 1100, 100))
    assert axis.position(300) == 300
    assert axis.tick_labels == ["0", "200", "400", "600", "800", "1k"]


def test_ticks_where_few_powers_of_ten_are_in_sight():
    assert step_axis([0, 16, 23, 32, 64, 512, 1448]).tick_labels == [
        "0",
        "20",
        "50",
        "100",
        "200",
        "500",
        "1k",
    ]
    ticks = step_axis([600, 601, 700, 724, 850, 1448]).tick_labels
    assert ticks[0] == "600"
    assert set(ticks) <= {"600", "601", "700", "724", "850", "1448"}


def test_a_mark_is_in_sight_but_does_not_decide_the_kind_of_axis():
    axis = step_axis([0, 100, 200, 300], [450])
    assert not axis.log
    assert axis.high > 450


@pytest.mark.parametrize(
    ("step", "label"),
    [
        (0, "0"),
        (512, "512"),
        (1000, "1k"),
        (1448, "1448"),
        (2500, "2.5k"),
        (143_000, "143k"),
        (1_000_000, "1M"),
    ],
)
def test_step_labels_are_exact(step, label):
    assert step_label(step) == label


def test_labels_of_marks_that_stand_close_are_in_rows_of_their_own():
    axis = step_axis([0, 1, 10, 100, 1000, 10_000, 40_000])
    marks = [
        Mark(20_000, "a spike"),
        Mark(31_000, "a spike"),
        Mark(30_000, ""),
        Mark(1, "x"),
        Mark(40_000, "b"),
    ]
    assert mark_rows(marks, axis, 100) == [0, 1, 0, 0, 0]
    assert mark_rows(marks, axis, 1000) == [0] * 5, "where there is room"


def test_steps_that_are_not_whole_have_short_labels():
    assert step_label(100.830942279926) == "100.8"


# words that are long


LONG = "olmo-2-1124-7b.stage2-ingredient1-lr-1e-4-batch-512-of-somebody-run3"


def test_long_titles_labels_and_legends_stay_on_the_picture():
    """Every piece of text lies within the figure, and the legend within its width."""
    series = tuple(Series(f"{LONG}-{n}" if n % 4 == 0 else f"m{n}", (0, 1, 10), (n, 1, 2)) for n in range(12))
    panels = tuple(Panel(f"at 3:4 of {LONG}", series) for _ in range(3))
    drawn = Chart(f"Loss of {LONG} on {LONG} and {LONG}", f"x of {LONG}, {LONG}", f"y {LONG} {LONG}", panels)
    made = matplotlib.figure([drawn])
    made.canvas.draw()
    part, renderer = made.subfigs[0], made.canvas.get_renderer()
    texts = [part._suptitle, part.legends[0]]
    for axes in part.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.x1 <= made.bbox.x1, text
        assert box.y0 >= 0, text
        assert box.y1 <= made.bbox.y1 + 1, text
    shown = plotly.figure(drawn)
    assert shown.layout.title.text.count("<br>") >= 2
    assert "<br>" in shown.layout.xaxis.title.text
    assert shown.layout.margin.t > plotly.figure(chart()).layout.margin.t


def test_kinds_have_names_in_place_of_numbers():
    one = Series("a", (1.0, 2.0, 3.0), (5, 6, 7), mode="markers")
    kinds = Chart("t", "kind", "%", (Panel("", (one,)),), step_axis=False, names=("flat", "<rise>", "fall"))
    axes = matplotlib.figure([kinds]).subfigs[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["flat", "<rise>", "fall"]
    made = plotly.figure(kinds)
    assert list(made.layout.xaxis.ticktext) == ["flat", "&lt;rise&gt;", "fall"]
    assert list(made.layout.xaxis.tickvals) == [1, 2, 3]


def test_the_interval_of_a_single_point_is_a_line():
    one = Series("a", (1000,), (2.0,), (1.5,), (2.25,))
    lonely = Chart("t", "step", "y", (Panel("", (one,)),))
    (line,) = matplotlib.figure([lonely]).subfigs[0].axes[0].collections
    assert [list(end) for end in line.get_segments()[0]] == [[1000, 1.5], [1000, 2.25]]
    (trace,) = plotly.figure(lonely).data
    assert (list(trace.error_y.array), list(trace.error_y.arrayminus)) == ([0.25], [0.5])


def test_many_bands_are_paler():
    one = Series("a", (0, 1), (2, 2), (1, 1), (3, 3))
    assert Panel("", (one,) * 2).band_alpha > Panel("", (one,) * 9).band_alpha > 0.02


# colours


def test_palettes_are_distinct_and_keep_their_order():
    for n in (1, 3, MOST_DISTINCT, MOST_DISTINCT + 1, 30):
        colors = palette(n)
        assert len(set(colors)) == n
        assert all(re.fullmatch(r"#[0-9a-fA-F]{6}", color) for color in colors)
    assert rgba("#0072B2", 0.2) == "rgba(0,114,178,0.2)"


def test_keys_fix_the_colours_of_charts_that_stand_together():
    one = Series("b", (0, 1), (1, 2))
    alone = Chart("t", "x", "y", (Panel("", (one,)),), keys=("a", "b"))
    assert alone.colors()["b"] == palette(2)[1]


def test_grid_of_panels():
    panel = Panel("", ())
    grids = {n: Chart("t", "x", "y", (panel,) * n).grid for n in (1, 2, 3, 4, 5, 7)}
    assert grids == {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 5: (2, 3), 7: (3, 3)}
    assert Chart("t", "x", "y", (panel,) * 8, columns=4).grid == (2, 4)


# plotly


def test_plotly_draws_positions_and_shows_steps():
    drawn = chart(marks=(Mark(100, "mix changes"),))
    made = plotly.figure(drawn)
    axis = drawn.axis()
    curves = [trace for trace in made.data if trace.name == "model-a"]
    assert len(curves) == 2
    assert [trace.showlegend for trace in curves] == [True, False]
    assert list(curves[0].x) == pytest.approx([axis.position(step) for step in (0, 1, 10, 100, 1000)])
    assert curves[0].customdata[:, 0].tolist() == [0, 1, 10, 100, 1000]
    assert "step %{customdata[0]" in curves[0].hovertemplate
    assert "12 tokens in 3 contexts" in curves[0].hovertemplate
    assert list(made.layout.xaxis.ticktext) == ["0", "1", "10", "100", "1k"]
    assert made.layout.xaxis.title.text == "step"
    assert made.layout.yaxis.title.text == "loss (nats a token)"
    lines = [shape for shape in made.layout.shapes if shape.x0 == axis.position(100)]
    assert len(lines) == 2  # one a panel
    assert any(note.text == "mix changes" for note in made.layout.annotations)


def test_plotly_band_goes_along_the_lower_ends_and_back_along_the_upper():
    band = plotly.figure(chart()).data[0]
    assert band.fill == "toself"
    assert list(band.y) == [8.5, 7.5, 6.5, 5.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5]


def test_unknown_intervals_leave_no_band():
    nan = (math.nan, math.nan)
    one = Series("a", (0, 1), (2.0, 1.0), nan, nan)
    made = plotly.figure(Chart("t", "step", "y", (Panel("", (one,)),)))
    assert [trace.fill for trace in made.data] == [None]


def test_plotly_text_cannot_be_markup_or_a_template():
    one = Series("<b>x</b> %{y}", (0, 1), (2.0, 1.0))
    made = plotly.figure(Chart("<i>t</i>", "step", "y", (Panel("", (one,)),)))
    assert made.data[0].name == "&lt;b&gt;x&lt;/b&gt; %&#123;y}"
    assert "<i>" not in made.layout.title.text


def test_long_lines_have_no_markers():
    n = MOST_MARKERS + 1
    one = Series("a", tuple(range(n)), (1.0,) * n)
    assert plotly.figure(Chart("t", "step", "y", (Panel("", (one,)),))).data[0].mode == "lines"


# matplotlib


def test_matplotlib_draws_the_same():
    drawn = chart(marks=(Mark(100, "mix changes"),))
    part = matplotlib.figure([drawn]).subfigs[0]
    axes = part.axes[0]
    axis = drawn.axis()
    assert len(part.axes) == 2
    np.testing.assert_allclose(
        axes.lines[0].get_xdata(), [axis.position(step) for step in (0, 1, 10, 100, 1000)]
    )
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10", "100", "1k"]
    assert axes.lines[-1].get_xdata()[0] == axis.position(100)
    assert [text.get_text() for text in axes.texts] == ["mix changes"]
    assert [text.get_text() for text in part.legends[0].texts] == ["model-a", "model-b"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats a token)")


# files


def test_png_needs_neither_plotly_nor_pyplot(tmp_path: Path):
    code = (
        "import sys; from trajstore.view import Chart, Panel, Series, save_chart;"
        "assert not {'plotly', 'matplotlib', 'polars', 'numpy'} & set(sys.modules);"
        "save_chart(Chart('t', 'x', 'y', (Panel('', (Series('a', (0, 1), (1, 2)),)),)), sys.argv[1]);"
        "assert not {'plotly', 'matplotlib.pyplot', 'selenium', 'kaleido'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_html_is_whole_and_asks_for_nothing_from_outside(tmp_path: Path):
    path = save_chart([chart(), chart()], tmp_path / "two.HTML")
    text = path.read_text()
    assert text.count('class="plotly-graph-div"') == 2
    assert text.count("* plotly.js v") == 1
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", text)
    assert "default-src 'none'" in text
    configs = re.findall(r"\{[^{}]*\"displaylogo\"[^{}]*\}", text)
    assert len(configs) == 2
    assert all(json.loads(config)["showSendToCloud"] is False for config in configs)
    assert [entry.name for entry in tmp_path.iterdir()] == ["two.HTML"]


def test_another_suffix_is_refused_with_those_that_exist(tmp_path: Path):
    with pytest.raises(BadTarget, match=r"'a.jpg': it must end in \.html or \.png or \.pdf or \.svg"):
        save_chart(chart(), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path):
    with pytest.raises(BadTarget, match=r"no folder .*missing to write a\.png in\. Make it with: mkdir -p"):
        save_chart(chart(), tmp_path / "missing" / "a.png")


def test_a_folder_is_not_a_file(tmp_path: Path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(BadTarget, match="is a folder"):
        save_chart(chart(), tmp_path / "a.png")


def test_nothing_to_draw_is_an_error(tmp_path: Path):
    with pytest.raises(PlotError, match="nothing to draw"):
        save_chart([], tmp_path / "a.png")
    with pytest.raises(PlotError, match="nothing to draw"):
        save_chart(Chart("t", "x", "y", ()), tmp_path / "a.html")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(BadTarget, match=r"Cannot write .*a\.png: No space left on device"):
        save_chart(chart(), path)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_formulas_and_signs_in_names_are_drawn_as_they_stand(tmp_path: Path):
    one = Series("a_$b$_<c>", (0, 1), (1.0, 2.0))
    strange = Chart("$x$ & <y>", "step", "loss", (Panel("$", (one,)),), marks=(Mark(1, "$5"),))
    save_chart(strange, tmp_path / "a.png")
    save_chart(strange, tmp_path / "a.html")


@pytest.mark.parametrize(
    ("numbers", "ends"), [([1], (-1.1, 3.1)), ([1, 2], (-0.6, 3.6)), (range(1, 7), (0.4, 6.6))]
)
def test_an_axis_of_bars_names_those_that_are_there(
    numbers: Sequence[int], ends: tuple[float, float]
) -> None:
    one = Series("share", tuple(map(float, numbers)), tuple(0.1 for _ in numbers), mode="bars")
    drawn = Chart("t", "component", "share", (Panel("", (one,)),), step_axis=False)
    assert bars_range([float(number) for number in numbers]) == pytest.approx(ends)
    axis = plotly.figure(drawn).layout.xaxis
    assert list(axis.tickvals) == list(numbers)
    assert axis.range == pytest.approx(ends)
