"""Chrome's trace-event format, for its tracing page and Perfetto.

A record holds durations and the time it was written. Spans are laid out backwards from there: forward, exposed mask,
sampling, accepting; fill and copy lie under the forward, where they ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.interfaces import StepRecord
from engine.trace.format import Step, Trace
from engine.trace.statistics import step_time

DEVICE, HOST = 1, 2
TRACKS = {DEVICE: "device", HOST: "host: mask and accept"}


def chrome_trace(trace: Trace) -> dict[str, Any]:
    """`{"traceEvents": [...]}`; times in microseconds from the start of the trace."""
    names: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": name}}
        for track, name in TRACKS.items()
    ]
    return {"traceEvents": names + list(_events(trace.steps)), "displayTimeUnit": "ms"}


def _events(steps: Iterable[Step]) -> Iterator[dict[str, Any]]:
    drawn = -1
    for step in steps:
        record = step.record
        begin = step.at_us - step_time(record)
        if record.step != drawn:
            drawn = record.step
            yield from _device(record, begin)
        yield _span("fill", HOST, begin, record.fill_us, record)
        yield _span("copy", HOST, begin + record.fill_us, record.copy_us, record)
        yield _span("accept", HOST, step.at_us - record.accept_us, record.accept_us, record)
        if record.event is not None:
            yield {"ph": "i", "s": "t", "pid": 1, "tid": HOST, "ts": round(step.at_us, 1), "name": record.event}


def _device(record: StepRecord, begin: float) -> Iterator[dict[str, Any]]:
    yield _span("forward", DEVICE, begin, record.forward_us, record)
    after = begin + record.forward_us
    yield _span("mask exposed", DEVICE, after, record.exposed_us, record)
    yield _span("sample", DEVICE, after + record.exposed_us, record.sample_us, record)


def _span(name: str, track: int, start: float, length: float, record: StepRecord) -> dict[str, Any]:
    about: dict[str, Any] = {
        "step": record.step,
        "position": record.position,
        "rows": record.rows,
        "legal": record.legal_tokens,
    }
    if record.text:
        about["text"] = record.text
    return {
        "ph": "X",
        "pid": 1,
        "tid": track,
        "ts": round(start, 1),
        "dur": round(length, 1),
        "name": name,
        "args": about,
    }
