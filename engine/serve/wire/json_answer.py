"""Answers as JSON text. A large one is written in a thread, in pieces, so that nobody waits for all of it.

The encoder keeps the interpreter's lock for as long as one call of it lasts, in whichever thread that is.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response

from engine.request import Result

T = TypeVar("T")
Beside = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs work in one of the threads that keys share."""
MOST_ENTRIES = 500
"""Tokens, told log-probabilities or verdicts of an answer that is written sooner than handed to a thread."""
_SMALL = 1_000
"""Values of a part that one call of the encoder writes: a tenth of a millisecond."""
_LEVELS = 7
"""Containers around one another that are written part by part: in the seventh stand the tokens of a response."""


def json_bytes(value: Any, size: int = 0) -> bytes:
    """Compact JSON text of a value with so many entries. ValueError for what JSON cannot say."""
    text = _text(value) if size <= MOST_ENTRIES else "".join(_pieces(value, _LEVELS))
    return text.encode("utf-8", "replace")


async def answered(beside: Beside, size: int, body: Callable[[], Any]) -> Response:
    """200 with `body()`, which has so many entries."""
    return await off_loop(beside, size, lambda: Response(json_bytes(body(), size), media_type=JSONResponse.media_type))


def entries(result: Result) -> int:
    """How much there is to tell of a result: tokens, and log-probabilities where they were asked for."""
    samples = result.samples or (result,)
    tops = (len(sample.logprobs) * (2 + len(sample.logprobs[0]["top"])) for sample in samples if sample.logprobs)
    return result.usage.completion_tokens + sum(tops)


async def off_loop(beside: Beside, size: int, work: Callable[[], T]) -> T:
    """What `work` makes of so many entries: here, or in a thread where they are many."""
    if size <= MOST_ENTRIES:
        return work()
    made: T = await beside(work)
    return made


def _pieces(value: Any, levels: int) -> Iterator[str]:
    if not levels or _is_small(value):
        yield _text(value)
    elif isinstance(value, dict):
        before = "{"
        for key, part in value.items():
            yield f"{before}{_text(str(key))}:"
            yield from _pieces(part, levels - 1)
            before = ","
        yield "}"
    else:
        before = "["
        for part in value:
            yield before
            yield from _pieces(part, levels - 1)
            before = ","
        yield "]"


def _is_small(value: Any) -> bool:
    """Whether it holds few values, in each other or side by side; no more than these are looked at."""
    pending, left = [value], _SMALL
    while pending:
        part = pending.pop()
        if isinstance(part, _CONTAINERS):
            left -= len(part)
            if left < 0:
                return False
            inner = part.values() if isinstance(part, dict) else part
            pending += [each for each in inner if isinstance(each, _CONTAINERS)]
    return True


_CONTAINERS = (dict, list, tuple)
_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
