"""Markup that cannot forget to escape, and numbers written the same way everywhere."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

VOID_ELEMENTS = frozenset({"br", "hr", "img", "input", "link", "meta"})
MISSING = "n/a"


class Html(str):
    """Text that is markup already; every other string is escaped when it enters a node."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return `text` as markup: unchanged if it is markup, escaped (quotes too) otherwise."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def join(parts: Iterable[str], separator: str = "") -> Html:
    """Return the escaped `parts` as one piece of markup."""
    return Html(separator.join(escape(part) for part in parts))


def node(name: str, *children: str, css: str = "", attributes: Mapping[str, str] | None = None) -> Html:
    """Return one element; children and attribute values that are not `Html` are escaped.

    >>> node("b", "1 < 2", css="note")
    '<b class="note">1 &lt; 2</b>'
    """
    pairs = ({"class": css} if css else {}) | dict(attributes or {})
    opening = "".join(f' {key}="{html.escape(value)}"' for key, value in pairs.items())
    if name in VOID_ELEMENTS:
        return Html(f"<{name}{opening}>")
    return Html(f"<{name}{opening}>{join(children)}</{name}>")


def section(anchor: str, title: str, *children: str, lead: str = "") -> Html:
    """Return a titled section that the navigation links to; `lead` is one explaining sentence."""
    intro = node("p", lead, css="lead") if lead else Html("")
    return node("section", node("h2", title), intro, *children, attributes={"id": anchor})


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1, css: str = ""
) -> Html:
    """Return a table whose first `text_columns` columns are set left and the others right.

    A last column named "Note" is text too.
    """

    def style(position: int) -> str:
        return "" if position < text_columns or columns[position] == "Note" else "number"

    head = join(node("th", name, css=style(i), attributes={"scope": "col"}) for i, name in enumerate(columns))
    body = [node("tr", *(node("td", cell, css=style(i)) for i, cell in enumerate(row))) for row in rows]
    content = node("table", node("thead", node("tr", head)), node("tbody", *body), css=css)
    return node("div", content, css="scroll tall" if len(body) > 40 else "scroll")


def page(title: str, body: str, *, style: str = "") -> str:
    """Return a whole document with its style sheet inside, `style` behind it."""
    sheet = resources.files("common.reporting").joinpath("style.css").read_text(encoding="utf-8")
    head = join(
        [
            node("meta", attributes={"charset": "utf-8"}),
            node("meta", attributes={"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            node("meta", attributes={"name": "color-scheme", "content": "light dark"}),
            node("title", title),
            node("style", Html(sheet + style)),
        ],
        "\n",
    )
    content = join([node("head", head), node("body", node("main", body))], "\n")
    return "<!doctype html>\n" + node("html", content, attributes={"lang": "en"}) + "\n"


def is_number(value: object) -> bool:
    """Return whether `value` is a finite number (None, NaN, infinities, text and booleans are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: object) -> str:
    """Return a number for reading: three decimals, grouped integers, `n/a` for None and NaN.

    >>> number(0.61234), number(2495000), number(2e-4), number(None)
    ('0.612', '2,495,000', '2.0e-04', 'n/a')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.1e}"
    return f"{value:,.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


def compact(count: int) -> str:
    """Return a count in at most five characters: 950, 8.6k, 2.5M."""
    if abs(count) < 1000:
        return str(count)
    exponent = min((len(str(abs(count))) - 1) // 3, 4)
    value = count / 1000**exponent
    return (
        f"{value:.3g}{'kMGT'[exponent - 1]}" if abs(value) < 999.5 else f"{value:.0f}{'kMGT'[exponent - 1]}"
    )


def percent(share: object) -> str:
    """Return a share of one as per cent with as many decimals as a small value needs."""
    if not isinstance(share, int | float) or not math.isfinite(share):
        return MISSING
    value = 100 * share
    if value == 0 or value >= 9.995:
        return f"{value:.1f} %"
    return f"{value:.2f} %" if value >= 0.0995 else f"{value:.2g} %"


def duration(seconds: float) -> str:
    """Return a span of time in its two largest units.

    >>> duration(41), duration(192), duration(7500)
    ('41 s', '3 min 12 s', '2 h 05 min')
    """
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def meter(value: object, low: object, high: object, scale: tuple[float, float]) -> Html:
    """Return a bar from the start of `scale` to `value` with the interval low..high drawn over it."""

    def place(x: object) -> float:
        start, end = scale
        share = (float(x) - start) / (end - start) if isinstance(x, int | float) else 0.0
        return 100 * min(max(share, 0.0), 1.0)

    if not is_number(value):
        return Html("")
    parts = [node("i", css="fill", attributes={"style": f"width:{place(value):.2f}%"})]
    if is_number(low) and is_number(high):
        left, right = place(low), place(high)
        style = f"left:{left:.2f}%;width:{max(right - left, 0.0):.2f}%"
        parts.append(node("i", css="whisker", attributes={"style": style}))
    return node("span", *parts, css="meter")


def meter_scale(values: Iterable[object]) -> tuple[float, float] | None:
    """Return 0..1 for shares, 0..100 for scores up to 100, else 0..max; None where a bar makes no sense."""
    finite = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if not finite or min(finite) < 0 or max(finite) == 0:
        return None
    largest = max(finite)
    return (0.0, 1.0) if largest <= 1 else (0.0, 100.0) if 10 < largest <= 100 else (0.0, largest)


def interval(low: object, high: object) -> str:
    """Return `low to high`, or nothing when either end is unknown."""
    return f"{number(low)} to {number(high)}" if is_number(low) and is_number(high) else ""
