"""The tables of mistakes: one a line, tab-separated; the last column holds what its message names, between `&&`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Mistake(NamedTuple):
    """`code` is an exit code, an HTTP status or the name of an exception."""

    code: str
    made: str
    names: tuple[str, ...]


def mistakes(table: str) -> list[Mistake]:
    """The rows of a table beside this file, its heading left out."""
    rows = Path(__file__).with_name(f"{table}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [Mistake(code, made, tuple(names.split(" && "))) for code, made, names in (row.split("\t") for row in rows)]
