"""Checks of single fields: each refuses a value by name, with what would do. Types only, no engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine.errors import RequestError


def one_of(param: str, value: Any, allowed: Sequence[str]) -> None:
    """One of a few words."""
    if value not in allowed:
        raise RequestError(f"{param} must be one of {', '.join(allowed)}, got {value!r}", param=param)


def integer(param: str, value: Any, low: int | None, high: int | None) -> None:
    """An integer (no bool) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{param} must be an integer, got {value!r}", param=param)
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise RequestError(f"{param} must be {bounds}, got {value}", param=param)


def number(param: str, value: Any, low: float, high: float, *, open_low: bool = False) -> None:
    """A finite number (no bool) in [low, high], or (low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"{param} must be a finite number, got {value!r}", param=param)
    if value < low or value > high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise RequestError(f"{param} must be in {bracket}{low:g}, {high:g}], got {value:g}", param=param)
