import math
import re
import sys

import pytest

from common.reporting.plots import MOST_POINTS, Line, curves, share_bars, share_ranks, thin_out, tick_label

LINE = Line("valid <b>", [1, 2, 3, 4], [0.1, 0.4, math.nan, 0.3])


def test_svg_names_nothing_outside_and_follows_the_colours_of_the_page() -> None:
    svg = curves("loss & more", [LINE, Line("own", [1, 2], [0.2, 0.3], color="#123456")], best_step=2)
    assert svg.startswith('<svg role="img" aria-label="loss &amp; more: valid &lt;b&gt;, own" viewBox="')
    assert "http" not in svg
    assert "<style" not in svg
    assert "stroke: var(--c0)" in svg
    assert "stroke: #123456" in svg
    assert "#0072b2" not in svg


def test_figures_on_one_page_share_no_id() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', curves(t, [LINE]))) for t in ("iou", "f1"))
    assert first
    assert not first & second


def test_references_inside_a_figure_resolve() -> None:
    svg = curves("iou", [LINE], best_step=2)
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg)) <= ids


def test_the_best_step_is_marked_only_where_a_value_is_known() -> None:
    without = curves("a", [LINE]).count("<use")
    assert curves("a", [LINE], best_step=2).count("<use") == without + 1
    assert curves("a", [LINE], best_step=3).count("<use") == without


def test_class_names_are_text_never_formulas_or_markup() -> None:
    svg = share_bars(["$x_1$", "</svg><script>", "\u6f22\u5b57"], {"natural": [0.9, 0.1, math.nan]})
    assert ">$x_1$</text>" in svg
    assert "<script" not in svg
    assert ">10.0 %</text>" in svg
    assert ">n/a</text>" in svg


def test_logarithmic_axes_are_labelled_in_plain_text() -> None:
    assert "mathdefault" not in share_ranks({"natural": [0.9, 0.09, 0.009, 0.0]})
    steep = curves("loss", [Line("train", list(range(9)), [1e4, *[1.0] * 8])])
    assert ">10k</text>" in steep
    assert "mathdefault" not in steep


def test_long_curves_are_means_of_neighbours() -> None:
    count = 3 * MOST_POINTS
    steps, values = thin_out(Line("x", list(range(count)), [float(i % 3) for i in range(count)]))
    assert len(steps) == MOST_POINTS
    assert values == [1.0] * MOST_POINTS
    assert steps[:2] == [2.0, 5.0]


def test_a_gap_does_not_spread_over_its_neighbours() -> None:
    values = [math.nan if i % 2 else 4.0 for i in range(2 * MOST_POINTS)]
    assert thin_out(Line("x", list(range(len(values))), values))[1] == [4.0] * MOST_POINTS


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "0"),
        (0.25, "0.25"),
        (1500.0, "1.5k"),
        (2e6, "2M"),
        (2e-4, "2e-4"),
        (1.5e-4, "1.5e-4"),
        (-40.0, "-40"),
    ],
)
def test_tick_label(value: float, label: str) -> None:
    assert tick_label(value) == label


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"imbalance-common\[report\]"):
        curves("loss", [LINE])


def test_the_axis_is_named() -> None:
    assert ">step</text>" in curves("loss", [LINE])
    assert ">epoch</text>" in curves("loss", [LINE], x_label="epoch")
