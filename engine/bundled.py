"""The schemas that ship: `schemas/` of a checkout, `engine/data/schemas` of a wheel. Knows names, not contents."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import SchemaInvalid

_PACKAGE = Path(__file__).resolve().parent


@cache
def bundled_folder() -> Path:
    """Where the schemas lie. A wheel carries them inside the package; an editable install reads the checkout."""
    inside = _PACKAGE / "data" / "schemas"
    return inside if inside.is_dir() else _PACKAGE.parent / "schemas"


def bundled_names() -> tuple[str, ...]:
    """Names that `bundled_schema` knows, sorted."""
    return tuple(sorted(path.stem for path in bundled_folder().glob("*.json")))


def bundled_schema(name: str) -> dict[str, Any]:
    """A fresh copy of the schema called `name` (`lift_ir`, `python_generation`, ...), key order kept.

    Raises `SchemaInvalid` that lists the names when there is no such schema.
    """
    if name not in bundled_names():
        raise SchemaInvalid(
            f"no file and no bundled schema {name!r}; bundled are: {', '.join(bundled_names())}", param="schema"
        )
    schema: dict[str, Any] = json.loads((bundled_folder() / f"{name}.json").read_text(encoding="utf-8"))
    return schema
