"""The trace file: JSON lines, versioned.

Line 1 is the header: `{"maskloop_trace": 1, "holds_text": ..., "notice": ..., "run": {...}}`. Every later line has a
`kind`: `request` (id, schema hash, verdicts), `step` (the fields of StepRecord and `at_us`), `result` (status, usage,
times, text). Times are microseconds; `at_us` is when the record was written, counted from the header, on one clock.
Without text a step has neither `text` nor `token_id`, a result no text, and a request only counts of verdicts. Tokens
of a forced ending have no step: they are what the result's text holds beyond the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from engine.interfaces import StepRecord

VERSION = 1
MARK = "maskloop_trace"
TEXT_FIELDS = frozenset({"text", "token_id"})
STEP_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(StepRecord))
DEMANDED = tuple(f.name for f in fields(StepRecord) if f.default is MISSING and f.name not in TEXT_FIELDS)
NO_TOKEN = -1
NOTICE = {
    True: "This file holds the generated text and parts of the schema: treat it like the documents themselves.",
    False: "This file holds figures only: no text, no token ids, no names from the schema.",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One record and when it was written. Without text, `record.token_id` is NO_TOKEN and `record.text` empty."""

    record: StepRecord
    at_us: float


@dataclass(slots=True)
class Trace:
    """A whole file. `requests` and `results` by request id; steps in the order written."""

    header: dict[str, Any]
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def holds_text(self) -> bool:
        return bool(self.header.get("holds_text"))

    def of(self, request_id: str) -> list[Step]:
        """The steps of one request."""
        return [step for step in self.steps if step.record.request_id == request_id]


def header(run: Mapping[str, Any], *, text: bool) -> dict[str, Any]:
    """The first line. `run` holds plain JSON types: model, quantization, device, engine version, configuration."""
    return {MARK: VERSION, "holds_text": text, "notice": NOTICE[text], "run": dict(run)}


def step_line(record: StepRecord, at_us: float, *, text: bool) -> dict[str, Any]:
    """One step as plain JSON types; fields that are None are left out, times have one decimal."""
    line: dict[str, Any] = {"kind": "step", "at_us": round(at_us, 1)}
    for name in STEP_FIELDS:
        value = getattr(record, name)
        if value is None or (not text and name in TEXT_FIELDS):
            continue
        line[name] = round(value, 1) if name.endswith("_us") else value
    return line


def step_of(line: Mapping[str, Any]) -> Step:
    """The step of a line. KeyError with the name of a field that is missing."""
    values = {name: line[name] for name in STEP_FIELDS if name in line or name in DEMANDED}
    record = StepRecord(**{"text": "", "token_id": NO_TOKEN, **values})
    return Step(record, float(line.get("at_us", 0.0)))
