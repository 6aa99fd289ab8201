"""Per-step records of decoding: written, read back, summed up, shown."""

from __future__ import annotations

from engine.trace.chrome import chrome_trace
from engine.trace.format import Step, Trace
from engine.trace.reader import read_trace
from engine.trace.statistics import summary
from engine.trace.viewer import render, write_viewer
from engine.trace.writer import TraceWriter

__all__ = ["Step", "Trace", "TraceWriter", "chrome_trace", "read_trace", "render", "summary", "write_viewer"]
