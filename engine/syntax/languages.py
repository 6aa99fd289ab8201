"""What is followed now: names alone, for whoever checks what was asked for."""

from __future__ import annotations

from collections.abc import Mapping

UNITS = ("module", "statements", "statement", "expression", "type", "signature", "body")
LANGUAGES: Mapping[str, frozenset[str]] = {}
"""By language, the units that can be followed."""
