import numpy as np
import pytest

from ssd.evaluation.report_matrix import MOST_CLASSES, confusion_matrix
from ssd.report.svg import Axis, Line, bars, color, line_chart


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 7.3, [0, 1, 2, 3, 4, 5, 6, 7]), (1, 36, [5, 10, 15, 20, 25, 30, 35])],
)
def test_ticks_are_round(low, high, expected):
    ticks = Axis("x", low, high).ticks()
    assert 4 <= len(ticks) <= 9
    if (low, high) != (0, 7.3):
        np.testing.assert_allclose(ticks, expected)
    assert (np.signbit(ticks) == (ticks < 0)).all()  # no "-0"


def test_an_axis_around_values_ignores_what_is_no_number():
    axis = Axis.around("loss", [np.array([2, np.nan, 8.0]), np.array([])], zero=True)
    assert (axis.low, axis.high) == (0, 8)
    assert Axis.around("loss", [], zero=False).high > Axis.around("loss", [], zero=False).low
    assert Axis.around("epoch", [np.array([3.0])], zero=False).high > 3


def test_lines_names_and_gaps():
    lines = [
        Line("<one>", np.array([0, 0.5, 1]), np.array([1, np.nan, 0.2]), "#ff0000", "0.6"),
        Line("background", np.array([0.0, 1.0]), np.array([0.1, 0.1]), None),
        Line("nothing", np.array([]), np.array([]), "#00ff00"),
    ]
    svg = line_chart(lines, Axis("recall", 0, 1), Axis("precision", 0, 1))
    assert svg.count("<path") == 2
    assert svg.index('class="quiet"') < svg.index('stroke="#ff0000"')  # drawn below
    assert "&lt;one&gt;" in svg
    assert svg.count("<li>") == 2
    assert "nan" not in svg


def test_colors_differ():
    assert len({color(index) for index in range(20)}) == 20


def test_bars_are_relative_to_the_longest_and_never_negative():
    html = bars([("a", 0.2, "x"), ("b", 0.4, "y"), ("c", -0.1, "z")])
    assert [part.split("%")[0] for part in html.split("width:")[1:]] == ["50.0", "100.0", "0.0"]
    assert "width:0.0%" in bars([("a", 0.0, "")])


def test_matrix_shows_counts_and_the_confusions_in_words():
    html = confusion_matrix(np.array([[5, 2, 1], [0, 3, 0], [4, 0, 0]]), ["cat", "<dog>"])
    assert "&lt;dog&gt;" in html
    assert "cat as &lt;dog&gt; (2)" in html
    assert html.count("<tr>") == 4


def test_of_many_classes_those_with_most_confusions_are_shown():
    counts = np.eye(41, dtype=int) * 9
    counts[40, 40] = 0
    counts[3, 4] = 7
    html = confusion_matrix(counts, [f"class{index}" for index in range(40)])
    assert f"The {MOST_CLASSES} of 40 classes" in html
    assert "class3 as class4 (7)" in html
    assert html.count("<tr>") == MOST_CLASSES + 2
