"""A compiled grammar: per constraint, shared by all requests that use it. Makes matchers; holds no request state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import xgrammar as xgr

from engine.grammar.compiler import Compiled
from engine.grammar.matcher import Matcher
from engine.grammar.vocabulary import Vocabulary
from engine.request import Constraint
from engine.schema.verdict import Verdict

Source = Literal["memory", "disk", "compiled"]


@dataclass(frozen=True)
class CompiledGrammar:
    """`source` says where this caller got it from, `compile_ms` what compiling or loading took (0 from memory)."""

    constraint: Constraint
    key: str
    compiled: Compiled
    vocabulary: Vocabulary
    source: Source = "compiled"
    compile_ms: float = 0.0

    @property
    def raw(self) -> xgr.CompiledGrammar:
        return self.compiled.raw

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.compiled.verdicts

    @cached_property
    def nbytes(self) -> int:
        """Memory of the compiled form, for the cache."""
        return int(self.raw.memory_size_bytes) + len(self.constraint.source)

    def matcher(self, request_id: str = "") -> Matcher:
        """A fresh matcher at the start of the document. About 10 microseconds."""
        return Matcher(self, request_id)

    @cached_property
    def min_tokens(self) -> int:
        """Tokens of the shortest document, stop token included."""
        return self.matcher().need()

    @property
    def min_tokens_exact(self) -> bool:
        """Whether `min_tokens` is exact: a `checked` keyword may demand more."""
        return not any(verdict.verdict == "checked" for verdict in self.verdicts)

    def from_memory(self) -> CompiledGrammar:
        """The same grammar as a later caller sees it."""
        return replace(self, source="memory", compile_ms=0.0)
