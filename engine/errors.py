"""Every error a caller can meet. Imports nothing of the engine, so nothing imports in circles.

    EngineError
    +-- RequestError              the caller's mistake; HTTP 400 unless a subclass says otherwise
    |   +-- UnknownOption         a field nobody reads; never dropped in silence
    |   +-- PromptTooLong         the prompt does not fit the context
    |   +-- BudgetTooSmall        max_tokens is under the shortest document (422)
    |   +-- ConstraintError       the grammar cannot be used (422)
    |       +-- SchemaInvalid     not JSON, or not a JSON Schema
    |       +-- SchemaRefused     legal, but refused by name: unsatisfiable, remote $ref, require_enforced
    |       +-- LimitExceeded     over a compile limit: time, memory, size, depth, rules
    |       +-- JudgingLimit      judging a finished text took longer than `limits.judge_s`
    |       +-- CheckFailed       a check of the caller's own raised, ended its process, or answered nonsense
    |           +-- CheckTimeout  it ran longer than `limits.check_s`
    +-- ModelError                the model cannot be loaded or does not fit (exit 2 at the command line)
    +-- MissingExtra              an optional dependency is not installed
    +-- QueueFull                 admission refused: try again later (429)
    +-- NotReady                  the engine is loading or has stopped (503)
    +-- EngineFailure             our fault or the machine's; the request may be repeated (500)
        +-- GrammarDesync         the matcher refused a token that its own mask allowed

A message names the thing, the place and the way out. `param` is the request field at fault, `pointer` a JSON pointer
into the schema or document.
"""

from __future__ import annotations

from typing import Any


class EngineError(Exception):
    """Root of the tree. `status_code` is the HTTP code, `type` the machine-readable name."""

    status_code: int = 500

    def __init__(self, message: str, *, param: str | None = None, pointer: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.pointer = pointer

    @property
    def type(self) -> str:
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: `{type, message, param, pointer}`, absent parts left out."""
        parts = {"type": self.type, "message": self.message, "param": self.param, "pointer": self.pointer}
        return {key: value for key, value in parts.items() if value is not None}


class RequestError(EngineError):
    """The request is wrong; repeating it unchanged cannot help."""

    status_code = 400


class UnknownOption(RequestError):
    """A field or option that nothing reads."""


class PromptTooLong(RequestError):
    """The prompt (in tokens) leaves no room in `max_sequence`."""


class BudgetTooSmall(RequestError):
    """`max_tokens` is smaller than the shortest document of the grammar."""

    status_code = 422


class ConstraintError(RequestError):
    """The constraint cannot be used; every subclass says why."""

    status_code = 422


class SchemaInvalid(ConstraintError):
    """The text is not JSON, or the JSON is not a schema (or regex, EBNF, Lark, structural tag) at all."""


class SchemaRefused(ConstraintError):
    """A well-formed constraint that is refused by name."""


class LimitExceeded(ConstraintError):
    """Compilation went over a configured limit; the message names the limit and the place."""


class JudgingLimit(ConstraintError):
    """Whether a finished text is valid could not be decided within `limits.judge_s`, or the request's deadline."""


class CheckFailed(ConstraintError):
    """A check of the caller's own gave no answer: it raised, ended its process, or answered neither None nor a text."""


class CheckTimeout(CheckFailed):
    """A check of the caller's own ran longer than `limits.check_s`, or than the request's deadline allows."""


class ModelError(EngineError):
    """The model cannot be found, read, or fitted into memory."""


class MissingExtra(EngineError):
    """An optional dependency is missing; the message says which extra to install."""


class QueueFull(EngineError):
    """The bounded queue is full, or the machine too busy for a constraint to be compiled in time."""

    status_code = 429


class NotReady(EngineError):
    """The engine has not finished loading, or has been closed."""

    status_code = 503


class EngineFailure(EngineError):
    """Something broke on our side."""


class GrammarDesync(EngineFailure):
    """Mask and matcher disagree: the matcher refused a token whose bit was set."""


def missing_extra(package: str, extra: str) -> MissingExtra:
    """The error for an absent optional dependency, with the command that installs it."""
    return MissingExtra(f"the package {package!r} is not installed; install it with: pip install 'maskloop[{extra}]'")
