import math

import pytest

from common.reporting.html import (
    Html,
    compact,
    duration,
    interval,
    meter,
    meter_scale,
    node,
    number,
    page,
    percent,
    table,
)


def test_text_and_attributes_are_escaped_once() -> None:
    inner = node("b", "a < b & 'c'", attributes={"title": '">'})
    assert inner == '<b title="&quot;&gt;">a &lt; b &amp; &#x27;c&#x27;</b>'
    assert node("p", inner) == f"<p>{inner}</p>"


def test_markup_joined_with_text_becomes_text_again() -> None:
    assert node("p", node("b", "x") + "<") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;</p>"


def test_void_elements_have_no_end() -> None:
    assert node("img", attributes={"alt": "x"}) == '<img alt="x">'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (math.nan, "n/a"),
        (math.inf, "inf"),
        (0, "0"),
        (0.0, "0.000"),
        (1_234_567, "1,234,567"),
        (0.6126, "0.613"),
        (12.345, "12.35"),
        (2495.5, "2,495.5"),
        (-0.25, "-0.250"),
        (2e-4, "2.0e-04"),
        (3.2e8, "3.2e+08"),
        ("fp32", "fp32"),
        (True, "True"),
    ],
)
def test_number(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (8635, "8.63k"),
        (999_600, "1000k"),
        (2_495_000, "2.5M"),
        (7 * 10**14, "700T"),
    ],
)
def test_compact(count: int, text: str) -> None:
    assert compact(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0 %"),
        (0.66, "66.0 %"),
        (0.0613, "6.13 %"),
        (0.0996e-2, "0.10 %"),
        (3.4e-4, "0.034 %"),
        (math.nan, "n/a"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_duration_carries_into_the_next_unit() -> None:
    assert [duration(s) for s in (0, 59.7, 3599.6, 7500)] == ["0 s", "1 min 00 s", "1 h 00 min", "2 h 05 min"]


def test_interval_needs_both_ends() -> None:
    assert interval(0.1, 0.2) == "0.100 to 0.200"
    assert interval(None, 0.2) == interval(0.1, math.nan) == ""


def test_meter_places_value_and_interval_and_stays_inside_its_scale() -> None:
    bar = meter(0.5, 0.25, 1.5, (0.0, 1.0))
    assert "width:50.00%" in bar
    assert "left:25.00%;width:75.00%" in bar
    assert "whisker" not in meter(0.5, None, 0.6, (0.0, 1.0))
    assert meter(None, 0.1, 0.2, (0.0, 1.0)) == ""


def test_meter_scale_by_range_of_the_values() -> None:
    assert meter_scale([0.2, None, 0.9]) == (0.0, 1.0)
    assert meter_scale([20.0, 61.0]) == (0.0, 100.0)
    assert meter_scale([3.0, 7.0]) == (0.0, 7.0)
    assert meter_scale([-0.1, 0.5]) is None
    assert meter_scale([None, math.nan]) is None


def test_table_sets_numbers_right_and_notes_left() -> None:
    text = table(["Name", "Value", "Note"], [["a", "1", "<why>"]])
    assert '<td>a</td><td class="number">1</td><td>&lt;why&gt;</td>' in text


def test_page_holds_its_style_and_escapes_its_title() -> None:
    text = page("<run>", Html("<p>x</p>"), style=".own > p {}")
    assert "<title>&lt;run&gt;</title>" in text
    assert text.index("--paper") < text.index(".own > p {}") < text.index("</style>")
    assert "prefers-color-scheme" in text
    assert text.isascii()
