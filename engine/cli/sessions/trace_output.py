"""`generate --trace FILE`: a wrong path is refused before the model is loaded; a run that raises leaves no file behind.

What stands in a line is engine.trace's business.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import RequestError
from engine.interfaces import StepRecord
from engine.request import Constraint, Request, Result, SamplingParams
from engine.trace.writer import TraceWriter

if TYPE_CHECKING:
    from engine.decode.engine import Engine


_KEPT = ("prompt", "system", "template", "schema_in_prompt")


class TraceOutput:
    """Call it with each record, from the decode thread. `begin` and `end` stand around the request."""

    def __init__(self, path: Path, *, text: bool) -> None:
        self._path = path
        self._text = text
        self._writer: TraceWriter | None = None

    def begin(self, engine: Engine) -> None:
        """Open the file with what runs."""
        self._writer = TraceWriter(self._path, text=self._text, run=engine.info())

    def __call__(self, record: StepRecord) -> None:
        if self._writer is not None:
            self._writer(record)

    def end(self, engine: Engine, request: Request, result: Result) -> None:
        """Write verdicts and result, and close."""
        if self._writer is None:
            return
        try:
            self._finish(self._writer, engine, request, result)
        except OSError as error:  # a full disk: Python does not say which file
            raise OSError(error.errno, error.strerror, f"--trace {self._path}") from None

    @staticmethod
    def _finish(writer: TraceWriter, engine: Engine, request: Request, result: Result) -> None:
        verdicts = engine.grammars.compile(request.constraint).verdicts if request.constraint is not None else ()
        writer.request(
            request.id,
            verdicts=[v.to_dict() for v in verdicts],
            schema_hash=result.schema_hash,
            asked=described(request, result.seed),
        )
        writer.result(result.to_dict())
        writer.close()


@contextmanager
def open_trace(name: str | None, *, text: bool) -> Iterator[TraceOutput | None]:
    """The output, or None when none was asked for; the file appears under its name when everything is written."""
    if name is None:
        yield None
        return
    path = Path(name)
    if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
        yield TraceOutput(path, text=text)  # a device, a pipe, a link: renaming would put a file in its place
        return
    partial = path.with_name(path.name + ".part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial.touch()
    except OSError as error:
        raise RequestError(f"--trace {name}: {error.strerror}", param="trace") from None
    try:
        yield TraceOutput(partial, text=text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def described(request: Request, seed: int | None) -> dict[str, Any]:
    """All that decides the answer, as plain JSON types; `seed` is the one that was used."""
    asked = {name: getattr(request, name) for name in _KEPT}
    sampling = asdict(replace(request.sampling, seed=seed))
    constraint = None if request.constraint is None else asdict(request.constraint)
    return {**asked, "constraint": constraint, "sampling": sampling}


def request_of(line: Mapping[str, Any]) -> Request:
    """The request that a trace's line describes."""
    asked = line.get("asked")
    if not isinstance(asked, dict):
        raise RequestError("the trace does not hold its request (--trace-text off keeps figures only)", param="trace")
    constraint = None if asked["constraint"] is None else Constraint(**asked["constraint"])
    sampling = SamplingParams.from_mapping(asked["sampling"])
    return Request(**{name: asked[name] for name in _KEPT}, constraint=constraint, sampling=sampling)
