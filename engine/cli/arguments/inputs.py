"""Files and arguments turned into values; every failure is a RequestError that names the file and the place in it."""

from __future__ import annotations

import json
import lzma
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.bundled import bundled_schema
from engine.errors import RequestError, SchemaInvalid

READ_AT_MOST = 1 << 30
"""Bytes of one file; some have no end (`/dev/zero`, an .xz file made to unpack for ever)."""


def read_text(name: str, *, param: str) -> str:
    """A UTF-8 file, `-` for stdin, `.xz` unpacked on the way."""
    if not name:
        raise RequestError(f"{param} names no file: its name is empty", param=param)
    try:
        data = _read(name)
        if len(data) > READ_AT_MOST:
            raise RequestError(f"{name}: holds more than {READ_AT_MOST >> 20} MiB; divide it", param=param)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}: byte {error.start} is not UTF-8", param=param) from None
    except (lzma.LZMAError, EOFError) as error:
        raise RequestError(f"{name}: not an .xz file: {error}", param=param) from None
    except OSError as error:
        raise RequestError(f"{name}: {error.strerror or error}", param=param) from None


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(READ_AT_MOST + 1)
    with lzma.open(name) if name.endswith(".xz") else Path(name).open("rb") as file:
        return file.read(READ_AT_MOST + 1)


def read_schema(name: str) -> Any:
    """A schema from a file, or a bundled one by its name (a file of that name comes first)."""
    if name.isidentifier() and not Path(name).exists():
        return bundled_schema(name)
    value = parse_json(read_text(name, param="schema"), where=name, param="schema")
    if not isinstance(value, dict | bool):
        raise SchemaInvalid(f"{name}: a schema is a JSON object or a boolean, not {_kind(value)}", param="schema")
    return value


def parse_json(text: str, *, where: str, param: str) -> Any:
    """Strict JSON: NaN and Infinity are refused. The error says line and column."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise SchemaInvalid(
            f"{where}: not JSON: {error.msg} (line {error.lineno}, column {error.colno})", param=param
        ) from None
    except ValueError as error:
        raise SchemaInvalid(f"{where}: not JSON: {error}", param=param) from None
    except RecursionError:
        raise SchemaInvalid(f"{where}: nested too deeply to read", param=param) from None


def read_lines(name: str, *, param: str) -> Iterator[tuple[int, Any]]:
    """(line number, value) of a file with one JSON value a line; blank lines are skipped."""
    for number, line in enumerate(read_text(name, param=param).splitlines(), 1):
        if line.strip():
            yield number, parse_json(line, where=f"{name}, line {number}", param=param)


def compact(value: Any) -> str:
    """The serialisation that a compact grammar writes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _kind(value: Any) -> str:
    return {str: "a string", list: "an array", type(None): "null"}.get(type(value), "a number")
