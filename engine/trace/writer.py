"""Writes a trace.

A call from the decode thread appends to a list (about half a microsecond); lines are formatted when a result is
written, when the buffer is full and at close. A process that dies before then loses the buffered steps.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.interfaces import StepRecord
from engine.trace.format import header, step_line

BUFFERED_STEPS = 65_536
RESULT_FIELDS = ("status", "finish_reason", "valid", "usage", "timings_ms", "schema_hash", "grammar_source", "seed")


class TraceWriter:
    """Pass it as `trace` of a request; several requests may share one writer. Close it, or use it in `with`."""

    def __init__(self, file: Path | str, *, text: bool = True, run: Mapping[str, Any] | None = None) -> None:
        """Overwrites `file`. `text=False` keeps figures only. `run` describes model, device and settings."""
        self.text = text
        self._start = time.perf_counter()
        self._buffer: list[tuple[StepRecord, float]] = []
        self._lock = threading.Lock()
        self._file = Path(file).open("w", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._write(header(run or {}, text=text))

    def __call__(self, record: StepRecord) -> None:
        """Keep one record, stamped with the time of the call."""
        self._buffer.append((record, time.perf_counter()))
        if len(self._buffer) >= BUFFERED_STEPS:
            self.flush()

    def request(
        self,
        request_id: str,
        *,
        verdicts: Iterable[Mapping[str, Any]] = (),
        schema_hash: str | None = None,
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        """Describe a request: its schema's verdicts (only their counts without text) and hash, and what was asked."""
        listed = [dict(verdict) for verdict in verdicts]
        line: dict[str, Any] = {"kind": "request", "request_id": request_id, "schema_hash": schema_hash}
        line["verdict_counts"] = dict(Counter(verdict["verdict"] for verdict in listed))
        if self.text:
            line["verdicts"] = listed
            line["asked"] = asked
        self._write(line)

    def result(self, result: Mapping[str, Any]) -> None:
        """Note how a request ended (`Result.to_dict()`) and write the buffer. Its text only where text is kept."""
        self.flush()
        kept = (*RESULT_FIELDS, "text") if self.text else RESULT_FIELDS
        line = {name: result[name] for name in kept if name in result}
        self._write({"kind": "result", "request_id": result.get("id"), **line})

    def flush(self) -> None:
        """Format and write the buffered steps; about 10 microseconds each."""
        with self._lock:
            taken, self._buffer = self._buffer, []
            for record, at in taken:
                self._put(step_line(record, (at - self._start) * 1e6, text=self.text))
            self._file.flush()

    def close(self) -> None:
        """Write what is buffered and close the file. Idempotent."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lock:
            self._put(line)

    def _put(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
