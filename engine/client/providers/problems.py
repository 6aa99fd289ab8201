"""What can go wrong for a caller, told apart.

    ValueError
    +-- ProviderError         all of them: LIFT's code catches ValueError
        +-- Refused           the engine said no: status code, type, param, pointer
        +-- ColdStart         nothing is wrong, the engine is still loading
        +-- Unreachable       no answer: connection refused, broken, or timed out
        +-- BadAnswer         an answer that is not the contract's
        +-- NobodyAnswered    the engine and the fallback both failed

A message says what to do next, and is never empty: httpx's own errors often have no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN_CHARS = 500
"""How much of a body is quoted in a message."""


class ProviderError(ValueError):
    """Root of the tree. `cause` is a short name for counting."""

    cause = "error"


class Refused(ProviderError):
    """The engine answered with an error."""

    cause = "refused"

    def __init__(
        self, message: str, *, status_code: int | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.detail = dict(detail or {})

    @property
    def is_callers_fault(self) -> bool:
        """Whether another engine would refuse it too (400, 401, 404, 413, 422 before decoding)."""
        return self.status_code in (400, 401, 403, 404, 413, 422) and self.detail.get("type") not in UNLUCKY


UNLUCKY = ("invalid", "dead_end")
"""Types of 422 that are about the answer, not the request."""


class ColdStart(ProviderError):
    """The engine is loading; the same request will work in a minute."""

    cause = "cold_start"


class Unreachable(ProviderError):
    """No answer came."""

    cause = "unreachable"


class BadAnswer(ProviderError):
    """200, and yet not a document of the contract."""

    cause = "bad_answer"


class NobodyAnswered(ProviderError):
    """Engine and fallback both failed; `__cause__` is the fallback's error, `engine_error` the engine's."""

    cause = "nobody"

    def __init__(self, message: str, engine_error: Exception) -> None:
        super().__init__(message)
        self.engine_error = engine_error


def from_response(status_code: int, text: str, body: Any) -> Refused:
    """The error of a response of 400 and above. LIFT prints the code and the first 500 characters of the body."""
    detail = body.get("error") if isinstance(body, Mapping) else None
    told = detail if isinstance(detail, Mapping) else {}
    shown = told.get("message") or text[:SHOWN_CHARS] or "no body"
    return Refused(f"Modal inference error: HTTP {status_code}: {shown}", status_code=status_code, detail=told)


def from_failure(answer: Mapping[str, Any]) -> Refused:
    """The error of a 200 body, or of a function call, that has an `error` key."""
    told = answer.get("error_detail")
    detail = dict(told) if isinstance(told, Mapping) else {}
    raw = answer.get("raw_output")
    shown = f" (raw output: {raw[:SHOWN_CHARS]})" if isinstance(raw, str) and raw else ""
    message = f"Modal inference error: {answer.get('error')}{shown}"
    return Refused(message, status_code=detail.get("status_code"), detail=detail)
