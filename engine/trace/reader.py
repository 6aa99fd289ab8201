"""Reads a trace file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import RequestError
from engine.trace.format import MARK, VERSION, Trace, step_of


def read_trace(file: Path | str) -> Trace:
    """The whole file. RequestError names the line that is not a trace. About 10 microseconds a step."""
    path = Path(file)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}", param="trace") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not a trace: {error}", param="trace") from None
    if lines == [""]:
        raise RequestError(f"{path} is empty, not a trace", param="trace")
    trace = Trace(_header(path, _line(path, 1, lines[0])))
    for number, text in enumerate(lines[1:], 2):
        if text.strip():
            line = _line(path, number, text)
            try:
                _take(trace, line)
            except KeyError as error:
                raise RequestError(f"{path}:{number}: the {line['kind']} has no {error}", param="trace") from None
    return trace


def _take(trace: Trace, line: dict[str, Any]) -> None:
    kind = line.get("kind")
    if kind == "step":
        trace.steps.append(step_of(line))
    elif kind == "request":
        trace.requests[str(line["request_id"])] = line
    elif kind == "result":
        trace.results[str(line["request_id"])] = line


def _line(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{path}:{number} is not JSON: {error}", param="trace") from None
    if not isinstance(line, dict):
        raise RequestError(f"{path}:{number} is not a JSON object", param="trace")
    return line


def _header(path: Path, line: dict[str, Any]) -> dict[str, Any]:
    if MARK not in line:
        raise RequestError(f"{path} is not a maskloop trace: its first line has no {MARK!r}", param="trace")
    if line[MARK] != VERSION:
        raise RequestError(f"{path} is a trace of version {line[MARK]}; this engine reads {VERSION}", param="trace")
    return line
