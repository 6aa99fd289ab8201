"""Tables for people, on stdout. Knows column widths; knows nothing of how the figures came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.tally import Confusion

COUNTS = (
    "schemas",
    "compiled",
    "crashed",
    "valid_total",
    "valid_rejected",
    "invalid_total",
    "invalid_accepted_unnamed",
    "invalid_accepted_named",
    "steps",
)
TIMES = (
    "compile_ms",
    "compile_wall_ms",
    "first_matcher_ms",
    "ready_ms",
    "ready_again_ms",
    "first_document_ms",
    "first_fill_us",
    "fill_us",
    "accept_us",
)


def print_figures(engines: Mapping[str, Mapping[str, Any]]) -> None:
    """Engines side by side: counts, then percentiles as p50 / p90 / p99 / max."""
    rows = [[name, *(str(one[name]) for one in engines.values())] for name in COUNTS]
    rows += [[name, *(_spread(one[name]) for one in engines.values())] for name in TIMES]
    print_table(["", *engines], rows)


def print_confusion(engine: str, rows: Mapping[str, Confusion]) -> None:
    """One line per keyword: tests of schemas that hold it (valid) and tests that fail at it (invalid)."""
    print(f"\n{engine}: by keyword")
    head = ["keyword", "schemas", "refused", "valid", "rejected", "invalid", "unnamed", "named"]
    body = [[name, *(str(value) for value in astuple(row))] for name, row in sorted(rows.items())]
    print_table(head, body)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())


def _spread(one: Mapping[str, float]) -> str:
    return " / ".join(f"{one[name]:,.4g}" for name in ("p50", "p90", "p99", "max"))
