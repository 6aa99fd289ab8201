"""maskloop: a language model's output that obeys a schema. Importing this package imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config import EngineConfig, Limits
    from engine.decode.engine import Engine
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


_REQUESTS = ("Constraint", "Request", "Result", "SamplingParams", "Timings", "Usage")
_HOMES = {
    "Engine": "decode.engine",
    **dict.fromkeys(("EngineConfig", "Limits"), "config"),
    **dict.fromkeys(_REQUESTS, "request"),
}
"""Modules of the public names; the others are errors."""


def __getattr__(name: str) -> object:
    """A public name, imported on first use: `Engine` needs torch, and a command starts sooner without the rest."""
    if name not in __all__:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"engine.{_HOMES.get(name, 'errors')}"), name)
    return value


def __dir__() -> list[str]:
    """The public names alone."""
    return __all__
