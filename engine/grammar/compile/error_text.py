"""XGrammar's errors, and the end of a process that compiles, in words a caller can use. Raises nothing itself."""

from __future__ import annotations

import re

from engine.config import Limits
from engine.errors import EngineError, EngineFailure, LimitExceeded, NotReady, QueueFull, SchemaInvalid
from engine.grammar.compile.screen import heaviest
from engine.request import Constraint
from engine.sandbox import Stopped

_SOURCE = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: ")
_CHECK = re.compile(r"^Check failed: \(.*?\) is (?:false|true): ")


def clean(error: BaseException) -> str:
    """One line without time stamp, C++ file and the text of the failed check."""
    text = _CHECK.sub("", _SOURCE.sub("", str(error).strip()))
    return " ".join(text.split())[:500] or type(error).__name__


def invalid(kind: str, error: BaseException) -> SchemaInvalid:
    """The typed error for a constraint that the compiler refused."""
    return SchemaInvalid(f"{kind} cannot be compiled: {clean(error)}", param=kind)


def error_of(stopped: Stopped, constraint: Constraint, limits: Limits) -> EngineError:
    """LimitExceeded names the limit and the heaviest part; a process that somebody else ended is an EngineFailure, and
    one that had too little of a busy machine is QueueFull: neither says anything of the constraint."""
    if stopped.reason == "closed":
        return NotReady("the engine has been closed")
    if stopped.reason == "lost":
        return EngineFailure(f"the constraint could not be compiled: {stopped.detail}", param=constraint.kind)
    if stopped.reason == "busy":
        return QueueFull(f"compiling got only {stopped.detail}: the machine is busy, try again later", param="queue")
    over = {
        "cpu": f"limit compile_s = {limits.compile_s:g} s of CPU time exceeded",
        "memory": f"limit compile_memory_bytes = {limits.compile_memory_bytes} exceeded",
        "depth": "the constraint nests too deeply to compile",
    }.get(stopped.reason, f"the constraint cannot be compiled: {stopped.detail}")
    part, pointer = heaviest(constraint)
    place = f"; the heaviest part is {part} at {pointer or '(root)'}" if part else ""
    return LimitExceeded(over + place, param=constraint.kind, pointer=pointer or None)
