"""A schema as people hold it, turned into JSON Schema. Knows pydantic only where a Python type is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.bundled import bundled_schema
from engine.errors import RequestError, SchemaInvalid, missing_extra

SchemaSource = Mapping[str, Any] | bool | str | Path | type[Any]
"""JSON Schema as a dict or a bool; its text; a file's path; the name of a bundled one; a type that pydantic can
describe: a model of its own, a dataclass, a TypedDict."""
_JSON_WORDS = ("true", "false", "null", "NaN", "Infinity")


def json_schema_of(source: Any) -> Any:
    """The schema that `source` stands for, as plain values or JSON text; whether it is one is not asked here.

    Raises SchemaInvalid for a name, a type or a text that stands for none, RequestError for a file that cannot be read,
    MissingExtra where a Python type needs pydantic and it is not installed.
    """
    if isinstance(source, Path):
        return _read(source)
    if isinstance(source, type):
        return _of_type(source)
    if isinstance(source, str) and source.isidentifier() and source not in _JSON_WORDS:
        return bundled_schema(source)
    if isinstance(source, str) and source.endswith(".json"):  # no JSON text ends like this
        raise SchemaInvalid(
            f"schema is text that is not JSON; a file is named by pathlib.Path({source!r})", param="schema"
        )
    return source


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: byte {error.start} is not UTF-8", param="schema") from None
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror or error}", param="schema") from None


def _of_type(kind: type[Any]) -> Any:
    try:
        from pydantic import PydanticUserError, TypeAdapter
    except ModuleNotFoundError:
        raise missing_extra("pydantic", "serve") from None
    try:
        return TypeAdapter(kind).json_schema()
    except PydanticUserError as error:
        reason = str(error).partition("\n")[0]
        raise SchemaInvalid(f"the type {kind.__name__} has no JSON Schema: {reason}", param="schema") from None
