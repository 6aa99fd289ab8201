"""Horizontal bar charts as SVG text, for reports. Knows rectangles and scales; knows nothing of benches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

ROW, BAR, LABEL, WIDTH, VALUE = 22, 13, 290, 760, 80
SPREAD = 200.0
"""Largest over smallest positive value from which the axis is logarithmic."""


def bars(title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """One bar a label. Logarithmic where values spread over SPREAD, which the title then says. Empty for no values."""
    if not values:
        return ""
    positive = [value for value in values if value > 0]
    logarithmic = bool(positive) and max(positive) / min(positive) > SPREAD
    height = 30 + ROW * len(values)
    name = f"{title} (logarithmic)" if logarithmic else title
    rows = [
        _bar(index, label, value, _length(value, positive, logarithmic))
        for index, (label, value) in enumerate(zip(labels, values, strict=True))
    ]
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}" class="chart">'
    return f'{head}<text class="title" x="0" y="14">{escape(name)}</text>{"".join(rows)}</svg>'


def _length(value: float, positive: Sequence[float], logarithmic: bool) -> float:
    """The bar's share of the axis, in [0, 1]."""
    if value <= 0 or not positive:
        return 0.0
    if not logarithmic:
        return value / max(positive)
    low, high = math.log10(min(positive)) - 0.3, math.log10(max(positive))
    return (math.log10(value) - low) / (high - low)


def _bar(index: int, label: str, value: float, share: float) -> str:
    y = 26 + ROW * index
    room = WIDTH - LABEL - VALUE
    long = max(1.0, room * share) if value > 0 else 0.0
    shown = label if len(label) <= 46 else label[:45] + "…"
    return (
        f'<text x="{LABEL - 10}" y="{y + 11}" text-anchor="end"><title>{escape(label)}</title>{escape(shown)}</text>'
        f'<rect x="{LABEL}" y="{y}" width="{long:.1f}" height="{BAR}" rx="3"/>'
        f'<text x="{LABEL + long + 6:.1f}" y="{y + 11}">{number(value)}</text>'
    )


def number(value: float) -> str:
    """Four significant digits, thousands apart."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
