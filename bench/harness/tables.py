"""Tables for people, on stdout. Knows column widths; knows nothing of how the figures came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_figures(figures: Mapping[str, Any]) -> None:
    """One figure a line."""
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        print(f"{name:{width}}  {value}", flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip(), flush=True)


def interval(values: Sequence[float], digits: int = 3) -> str:
    """A value with its interval, which is left out where it has no width."""
    value, low, high = (f"{v:.{digits}f}" for v in values)
    return value if low == high else f"{value} [{low} {high}]"
