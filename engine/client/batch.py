"""Many requests through a deployed engine by Modal's own map: in order, failures in their place.

Knows how a batch line becomes a function call and how the answer becomes a Result line. modal is imported when a batch
is run, never before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.client.deployed import deployed_engine
from engine.client.environment import modal_app
from engine.errors import NotReady

Line = dict[str, Any]
CHUNK = 2
"""Lines of one function call. A container takes a hundred calls at once, whose lines take turns in its engine: few
lines a call keep every call well inside its time limit."""
LINE_DEFAULTS = {"max_tokens": None, "temperature": 1.0, "top_p": 1.0}
"""A batch line means what it means locally; LIFT's defaults belong to LIFT's routes."""
MOVED = {"raw_text": "text", "ir_json": "value"}
DROPPED = (
    "text", "tokens_used", "prompt_tokens", "generation_time_ms", "error", "error_detail", "raw_output",
    "request_id",
)  # fmt: skip


def run_batch(lines: Sequence[Mapping[str, Any]], *, handle: Any = None, chunk: int = CHUNK) -> Iterator[Line]:
    """One Result line a request, in order, each with the line's own `id`. `handle` replaces the lookup in tests."""
    calls = [lines[start : start + chunk] for start in range(0, len(lines), chunk)]
    bodies = [[_body(line) for line in call] for call in calls]
    for call, answered in zip(calls, _deployed(bodies) if handle is None else _mapped(handle, bodies), strict=True):
        yield from _lines(call, answered)


def _lines(call: Sequence[Mapping[str, Any]], answered: Any) -> Iterator[Line]:
    if isinstance(answered, Exception):
        told = {"type": type(answered).__name__, "message": str(answered)}
        answered = [{"status": "error", "finish_reason": "error", "error_detail": told}] * len(call)
    for line, answer in zip(call, answered, strict=True):
        yield result_line(str(line.get("id")), answer)


def result_line(line_id: str, answer: Mapping[str, Any]) -> Line:
    """The answer of a function call in the form of `Result.to_dict()`."""
    result = {name: value for name, value in answer.items() if name not in DROPPED and name not in MOVED}
    for old, new in MOVED.items():
        if old in answer:
            result[new] = answer[old]
    if isinstance(result.get("value"), str):
        result["value"] = None
    if "error_detail" in answer:
        result["error"] = dict(answer["error_detail"])
        result["text"] = answer.get("raw_output", "")
    return {"id": line_id, **result}


def _body(line: Mapping[str, Any]) -> Line:
    return {**LINE_DEFAULTS, **{name: value for name, value in line.items() if name != "id"}}


def _mapped(engine: Any, bodies: list[list[Line]]) -> Iterator[Any]:
    yield from engine.generate_batch.map(bodies, order_outputs=True, return_exceptions=True)


def _deployed(bodies: list[list[Line]]) -> Iterator[Any]:
    """The deployed engine's answers. NotReady says in one line why Modal gave none."""
    engine = deployed_engine(modal_app())
    import modal

    try:
        yield from _mapped(engine, bodies)
    except modal.exception.Error as error:
        raise NotReady(f"Modal: {' '.join(str(error).split()) or type(error).__name__}") from None
