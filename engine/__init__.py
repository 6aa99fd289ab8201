"""maskloop: a language model's output that obeys a schema. Importing this package imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config import EngineConfig, Limits
from engine.errors import (
    BudgetTooSmall,
    ConstraintError,
    EngineError,
    EngineFailure,
    GrammarDesync,
    LimitExceeded,
    MissingExtra,
    ModelError,
    NotReady,
    PromptTooLong,
    QueueFull,
    RequestError,
    SchemaInvalid,
    SchemaRefused,
    UnknownOption,
)
from engine.request import Constraint, Request, Result, SamplingParams, Timings, Usage

if TYPE_CHECKING:
    from engine.decode.engine import Engine

__version__ = "0.1.0"

__all__ = [
    "BudgetTooSmall",
    "Constraint",
    "ConstraintError",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineFailure",
    "GrammarDesync",
    "LimitExceeded",
    "Limits",
    "MissingExtra",
    "ModelError",
    "NotReady",
    "PromptTooLong",
    "QueueFull",
    "Request",
    "RequestError",
    "Result",
    "SamplingParams",
    "SchemaInvalid",
    "SchemaRefused",
    "Timings",
    "UnknownOption",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> object:
    """`Engine` is imported on first use, since it needs torch."""
    if name == "Engine":
        from engine.decode.engine import Engine

        return Engine
    raise AttributeError(f"module 'engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names alone."""
    return __all__
