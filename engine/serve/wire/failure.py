"""What a caller is told when it did not work: one body, one table of codes.

    {"error": {"message", "type", "param", "code", "pointer"}}

Knows HTTP codes and headers. Does not know which contract (LIFT, OpenAI) the caller speaks: the body is the same.

    EngineError
    +-- HTTPFailure            only the HTTP layer raises these
        +-- Malformed          400  not JSON, a missing field, a wrong type
        +-- InvalidKey         401
        +-- NotFound           404
        +-- ModelNotFound      404  code model_not_found
        +-- MethodNotAllowed   405
        +-- SlowBody           408
        +-- BodyTooLarge       413
        +-- KeyBusy            429  too many requests of this key at once
        +-- TooManyConnections 503
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

import engine.errors as errors
from engine.errors import EngineError
from engine.request import Result

STATUS_CODES = {"invalid": 422, "dead_end": 422, "timeout": 504, "cancelled": 503, "error": 500}
RETRY_AFTER_S = {429: "1", 503: "5"}
MESSAGES = {
    "invalid": "the document fails a keyword that the grammar cannot enforce, after every allowed retry",
    "dead_end": "no token continues the document",
    "timeout": "the deadline passed before a document could be finished",
    "cancelled": "the request was cancelled before it finished",
    "error": "the engine failed",
}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text}
    for code, text in {
        400: "malformed, unknown or contradicting field",
        401: "no valid key",
        408: "the body did not arrive in time",
        413: "the body is too large",
        422: "the schema is refused, the budget is too small, or no valid document came out",
        429: "the queue is full, this key has too many requests running, or the machine is too busy",
        500: "our fault",
        503: "not ready",
        504: "the deadline passed",
    }.items()
}
"""What the OpenAPI document says of each code."""


class HTTPFailure(EngineError):
    """A failure of the HTTP layer."""


class Malformed(HTTPFailure):
    status_code = 400


class InvalidKey(HTTPFailure):
    status_code = 401


class NotFound(HTTPFailure):
    status_code = 404


class ModelNotFound(NotFound):
    """`model` is not in /v1/models."""


class MethodNotAllowed(HTTPFailure):
    status_code = 405


class SlowBody(HTTPFailure):
    status_code = 408


class BodyTooLarge(HTTPFailure):
    status_code = 413


class KeyBusy(HTTPFailure):
    status_code = 429


class TooManyConnections(HTTPFailure):
    status_code = 503


@dataclass(frozen=True, slots=True)
class Failure:
    """One answer that is not a document. `decoded`: tokens had been made, so repeating it is not free."""

    status_code: int
    type: str
    message: str
    param: str | None = None
    pointer: str | None = None
    decoded: bool = False

    @classmethod
    def from_error(cls, error: EngineError) -> Failure:
        return cls(error.status_code, error.type, error.message, error.param, error.pointer)

    @classmethod
    def from_result(cls, result: Result) -> Failure:
        """The failure of a Result whose status is none of complete, closed, length."""
        told = dict(result.error or {})
        kind = getattr(errors, str(told.get("type")), None)
        code = STATUS_CODES.get(result.status, 500)
        if result.status == "error" and isinstance(kind, type) and issubclass(kind, EngineError):
            code = kind.status_code
        return cls(
            code,
            str(told.get("type") or result.status),
            str(told.get("message") or MESSAGES.get(result.status, "the engine failed")),
            told.get("param"),
            told.get("pointer"),
            decoded=result.usage.completion_tokens > 0 or (result.status == "error" and code == 500),
        )

    @property
    def code(self) -> str:
        """The type in snake case: `BudgetTooSmall` is `budget_too_small`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.type).lower()

    def body(self) -> dict[str, Any]:
        parts = {"message": self.message, "type": self.type, "param": self.param}
        return {"error": {**parts, "code": self.code, "pointer": self.pointer}}

    def headers(self) -> dict[str, str]:
        """`Retry-After` where trying again helps; `x-should-retry: false` where a repeat would decode all again."""
        headers: dict[str, str] = {}
        if self.status_code in RETRY_AFTER_S:
            headers["Retry-After"] = RETRY_AFTER_S[self.status_code]
        if self.decoded and self.status_code in (500, 504):
            headers["x-should-retry"] = "false"
        if self.status_code == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status_code, self.headers())
