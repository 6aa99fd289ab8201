"""The languages that are followed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from engine.syntax.language import Language
from engine.syntax.notation import read_units

NAMES: tuple[str, ...] = (
    # one a line, sorted
    "go",
    "java",
    "python",
    "regex",
    "rust",
    "sql",
    "typescript",
)
"""Each has a file in `grammars`, with GRAMMAR or, where there are dialects, `grammar(dialect)`."""


def grammar_text(language: str, dialect: str | None = None) -> str:
    module = import_module(f"engine.syntax.grammars.{language}")
    if hasattr(module, "grammar"):
        return str(module.grammar(dialect))
    if dialect is not None:
        raise ValueError(f"syntax: {language} has no dialects, not {dialect!r}")
    return str(module.GRAMMAR)


LANGUAGES: Mapping[str, frozenset[str]] = MappingProxyType({name: read_units(grammar_text(name)) for name in NAMES})
"""By language, its units."""


@cache
def language_of(language: str, dialect: str | None = None) -> Language:
    if language not in LANGUAGES:
        raise KeyError(language)
    return Language(grammar_text(language, dialect))
