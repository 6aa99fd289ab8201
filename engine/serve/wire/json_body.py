"""A request's body from bytes to plain values: strict JSON, bounded before it is parsed, and not on the event loop.

A parser written in C keeps the interpreter's lock for as long as it works: 0.3 s for a million lists. So it
gets what is small, and the rest a parser in Python, which calls C for each string and each number.
"""

from __future__ import annotations

import json
import json.scanner
import math
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request as HTTPRequest
from fastapi import Response
from fastapi.routing import APIRoute

from engine.plain_json import DEEPEST, check_json
from engine.serve.wire.caller import caller
from engine.serve.wire.failure import BodyTooLarge, Malformed

MOST_VALUES = 100_000
"""Twice what a schema may have."""
LONG_DIGITS = 65_536
"""Of integers that no float holds: to write one of thousands of digits again is one call that takes long."""
AT_ONCE_VALUES, AT_ONCE_BYTES = 10_000, 256 << 10
"""What one call of C parses: 10 ms at most, whatever it is."""
ON_THE_LOOP = 16 << 10
"""Bytes that are parsed sooner than handed to a thread."""
_BLOCK, _SHORT = 64 << 10, 64
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HIGH = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_ESCAPE = 6
"""Characters of an escape with digits."""
_scan: Callable[[str, int, bool], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]  # the stubs lack it


class JsonRoute(APIRoute):
    """A route whose body comes through `read_json`."""

    def get_route_handler(self) -> Callable[[HTTPRequest], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read(http: HTTPRequest) -> Response:
            _refuse_other_forms(http.headers)
            return await handle(_JsonRequest(http.scope, http.receive))

        return read


def _refuse_other_forms(headers: Mapping[str, str]) -> None:
    """What a body is said to be; without a word about it `curl --data` says a form. GET has none."""
    if headers.get("content-encoding", "identity") != "identity":
        raise Malformed("the body is compressed (content-encoding), which is not read here: send it as it is")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if headers.get("content-length", "0") != "0" and not re.fullmatch(r"application/(.+\+)?json", kind):
        raise Malformed(f"the header content-type must be application/json, got {kind[:100]!r}")


class _JsonRequest(HTTPRequest):
    async def body(self) -> bytes:
        """As the gate hands it out, whole: not copied once more."""
        if not hasattr(self, "_body"):
            self._body = bytes((await self.receive()).get("body", b""))
        return self._body

    async def json(self) -> Any:
        body = await self.body()
        if len(body) <= ON_THE_LOOP:
            return read_json(body)
        return await self.app.state.service.for_key(caller(self), read_json, body)


def read_json(body: bytes) -> Any:
    """Plain values. Malformed says what is wrong and where; BodyTooLarge when there are too many values."""
    marks, brackets, escaped = _looked_over(body)
    values = marks if marks <= AT_ONCE_VALUES else _values(body)
    if values > MOST_VALUES:
        raise BodyTooLarge(f"the body has over {MOST_VALUES} values")
    kind = json.JSONDecoder if values <= AT_ONCE_VALUES and len(body) <= AT_ONCE_BYTES else _InPieces
    try:
        value = kind(parse_constant=_no_constant, parse_float=_finite, parse_int=_Integers()).decode(
            body.decode("utf-8-sig")
        )
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Malformed("the body is nested too deeply to read") from None
    except ValueError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    if escaped or brackets > DEEPEST:
        check_json(None, value)
    return value


def _looked_over(body: bytes) -> tuple[int, int, bool]:
    """Commas and brackets, brackets alone, those in strings too, and whether a surrogate is escaped."""
    commas = brackets = 0
    escaped = False
    for start in range(0, len(body), _BLOCK):
        end = start + _BLOCK
        commas += body.count(b",", start, end)
        brackets += body.count(b"[", start, end) + body.count(b"{", start, end)
        escaped = escaped or _ESCAPED_SURROGATE.search(body, start, end + _ESCAPE) is not None
    return commas + brackets, brackets, escaped


def _values(body: bytes) -> int:
    """Commas and brackets outside strings, if there are not too many; each value needs one, but the first.

    Block by block, since each call that counts keeps the interpreter.
    """
    marks = start = inside = 0
    while start < len(body) and marks <= MOST_VALUES:
        block = body[start : start + _BLOCK]
        if (len(block) - len(block.rstrip(b"\\"))) % 2:  # an escape would be cut in two
            block = body[start : start + _BLOCK + 1]
        start += len(block)
        parts = block.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        marks += sum(part.count(b",") + part.count(b"[") + part.count(b"{") for part in parts[inside::2])
        inside ^= (len(parts) - 1) % 2
    return marks


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is larger than any number here")
    return value


class _Integers:
    """Reads the integers of one body, of which few are larger than any float."""

    def __init__(self) -> None:
        self._digits = 0

    def __call__(self, text: str) -> int:
        if len(text) > sys.float_info.max_10_exp:
            self._digits += len(text)
            if self._digits > LONG_DIGITS:
                raise BodyTooLarge(f"the body's integers that are larger than any float have over {LONG_DIGITS} digits")
        return int(text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _string(text: str, begin: int, strict: bool = True) -> tuple[str, int]:
    """`json.decoder.scanstring`, block by block where the string is long."""
    end = text.find('"', begin, begin + _BLOCK)
    if end >= 0 and text[end - 1] != "\\":
        return _scan(text, begin, strict)
    parts, start, size = list[str](), begin, _SHORT
    while start + size < len(text):
        block = _whole(text[start : start + size])
        try:
            part, length = _scan(block + '"', 0, strict)
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(error.msg, text, start + error.pos) from None
        parts.append(part)
        if length <= len(block):
            return "".join(parts), start + length
        start, size = start + len(block), min(2 * size, _BLOCK)
    try:
        part, end = _scan(text, start, strict)
    except json.JSONDecodeError as error:
        place = begin - 1 if error.pos == start - 1 else error.pos  # where the string began that has no end
        raise json.JSONDecodeError(error.msg, text, place) from None
    return "".join((*parts, part)), end


def _whole(block: str) -> str:
    """Without an escape at its end that the next block goes on with, nor the first half of a pair of them."""
    for _ in range(2):
        place = block.rfind("\\", len(block) - _ESCAPE)
        if place < 0 or (place - len(block[:place].rstrip("\\"))) % 2:  # a backslash that is escaped is text
            break
        if len(block) - place >= (_ESCAPE if block.startswith("u", place + 1) else 2) and not _HIGH.match(block, place):
            break
        block = block[:place]
    return block


class _InPieces(json.JSONDecoder):
    """The standard library's parser as it is written in Python: between two values others may have the interpreter."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(**hooks)
        self.parse_string = _string
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]  # the stubs lack it
