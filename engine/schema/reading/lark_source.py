"""Where `%json` stands in a Lark grammar. Knows the tokens of the dialect; gives the rest of the grammar no meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import SchemaInvalid

_TOKEN = re.compile(
    r"""[#][^\r\n]* | //[^\r\n]*          # a comment
    | "(?:\\.|[^"\\\r\n])*"               # a string
    | /(?:\\.|[^/\\])*/                   # a regular expression
    | <[^\s<>]*>                          # a special token
    | (?P<json>%json(?![A-Za-z_])\s*)""",
    re.DOTALL | re.VERBOSE,
)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


@dataclass(frozen=True, slots=True)
class InlineSchema:
    """`%json` with its schema: characters `start` to `end` of the grammar."""

    schema: Any
    start: int
    end: int


def inline_schemas(source: str) -> tuple[InlineSchema, ...]:
    """Every `%json` of a grammar, nested grammars included, in order. SchemaInvalid where no JSON follows. Linear."""
    return tuple(_find(source))


def replace_schemas(source: str, found: Sequence[InlineSchema], texts: Sequence[str]) -> str:
    """The grammar with one text in place of each schema."""
    pieces, last = [], 0
    for part, text in zip(found, texts, strict=True):
        pieces += [source[last : part.start], text]
        last = part.end
    return "".join([*pieces, source[last:]])


def _find(source: str) -> Iterator[InlineSchema]:
    position = 0
    while (token := _TOKEN.search(source, position)) is not None:
        position = token.end()
        if token["json"] is not None:
            schema, position = _read(source, position)
            yield InlineSchema(schema, token.start(), position)


def _read(source: str, position: int) -> tuple[Any, int]:
    line = source.count("\n", 0, position) + 1
    try:
        schema, end = _DECODER.raw_decode(source, position)
    except RecursionError:
        raise SchemaInvalid(f"the schema of %json in line {line} is nested too deeply to read", param="lark") from None
    except ValueError as error:
        raise SchemaInvalid(f"no JSON follows %json in line {line}: {error}", param="lark") from None
    if not isinstance(schema, dict | bool):
        raise SchemaInvalid(f"%json in line {line} must be followed by an object or a boolean", param="lark")
    return schema, end
