"""A compiled grammar: per constraint, shared by all requests that use it. Makes matchers; holds no request state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar

import xgrammar as xgr

from engine.checks.languages import Languages
from engine.config import Limits
from engine.grammar.compile.compiler import Compiled, Least
from engine.grammar.endings.completion_table import CompletionTable, DocumentCursor
from engine.grammar.masks import marking
from engine.grammar.matching.followed_strings import FollowedStrings
from engine.grammar.matching.foresight import Encode, Foresight
from engine.grammar.matching.matcher import Matcher
from engine.grammar.matching.narrowing import Narrowing
from engine.grammar.pieces import at_once
from engine.grammar.sources.documents import as_document
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.judge import Judge, judge
from engine.request import Constraint
from engine.schema.rules.grammar import Grammar
from engine.schema.verdicts.verdict import REPEATED_KEYS, Verdict

Made = TypeVar("Made")
Source = Literal["memory", "disk", "compiled"]
_SYMBOL_BYTES = 250
"""Memory of one symbol of a rule, or of one alternative: 190 in the rule, 40-60 in the tables; measured."""


@dataclass(frozen=True)
class CompiledGrammar:
    """`source` says where this caller got it from, `compile_ms` what compiling or loading took (0 from memory)."""

    constraint: Constraint
    key: str
    compiled: Compiled
    vocabulary: Vocabulary
    source: Source = "compiled"
    compile_ms: float = 0.0
    limits: Limits = field(default_factory=Limits)
    _shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What is computed once per grammar, when first asked, whoever got it from where."""

    @property
    def raw(self) -> xgr.CompiledGrammar:
        return self.compiled.raw

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.compiled.verdicts

    @property
    def nbytes(self) -> int:
        """Memory of the compiled form, which grows with use, of its rules and of what endings make of them."""
        grammar = self.compiled.grammar
        rules = 0 if grammar is None else self._once("rules", lambda: _rule_bytes(grammar))
        return int(self.raw.memory_size_bytes) + len(self.constraint.source) + rules

    @property
    def completions(self) -> CompletionTable | None:
        """Tables of shortest endings; None for the few grammars without a rule form. Milliseconds, once."""
        return self._once("completions", self._completions)

    def _completions(self) -> CompletionTable | None:
        grammar, vocabulary = self.compiled.grammar, self.vocabulary
        if grammar is None:
            return None
        known = None
        if self.constraint.is_json:
            grammar, known = as_document(grammar), vocabulary.known
        completions = CompletionTable(
            grammar, vocabulary.segmenter, vocabulary.stop_token_ids[0], vocabulary.allowance, known
        )
        if self.compiled.least is not None:
            completions.remember(self.compiled.least.tokens)
        return completions

    @property
    def narrowing(self) -> Narrowing | None:
        """What guards do to masks; None where no rule asks anything."""
        return self._once("narrowing", self._narrowing)

    def _narrowing(self) -> Narrowing | None:
        completions = self.completions
        if completions is None or not completions.pushdown.guarded:
            return None
        return Narrowing(completions.pushdown, self.vocabulary)

    @property
    def marked(self) -> bool:
        """Whether XGrammar's form holds marks behind keys (`marking`), or may: a caller's own grammar has none."""
        if self.completions is not None:
            return self.completions.pushdown.marked
        return self.constraint.kind in ("lark", "structural_tag")

    @property
    def open_text(self) -> bool:
        """Whether some of it may be free text, in which XGrammar's matcher takes any bytes and special tokens."""
        return self.constraint.kind in ("ebnf", "lark", "structural_tag")

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        """Made by whoever asks first; who asks meanwhile waits, since two at once would take twice as long."""
        if name not in self._shared:
            with self._shared.setdefault(f"{name}, being made", threading.RLock()):
                if name not in self._shared:
                    self._shared[name] = make()
        made: Made = self._shared[name]
        return made

    def track(self) -> DocumentCursor | None:
        """The way of one new document through the tables."""
        return None if self.completions is None else DocumentCursor(self.completions, self.limits)

    def matcher(self, request_id: str = "") -> Matcher:
        """A fresh matcher at the start of the document. About 10 microseconds."""
        return Matcher(self, request_id)

    def foresight(self, encode: Encode) -> Foresight:
        """Its masks made ahead, by texts that `encode` turns into tokens as a model's prompt is."""
        return self._once("foresight", lambda: Foresight(self, encode))

    @property
    def least(self) -> Least:
        """The shortest documents. Milliseconds, or seconds for hundreds of values that must differ, where they have not
        been looked for before."""
        return self.compiled.least or self._once("least", self._least)

    def _least(self) -> Least:
        matcher = self.matcher()
        written = matcher.text(matcher.shortest_ending())  # first: the search for fewer tokens replaces it
        return Least(matcher.shortest_ending(0), len(written))

    def least_with(self, languages: Languages | None) -> Least:
        """The same with short texts in strings of these languages."""
        if languages is None or not self.least.tokens:
            return self.least
        matcher = self.matcher()
        matcher.strings = FollowedStrings(languages)
        tokens = matcher.filled(self.least.tokens)
        return Least(tokens, max(self.least.nbytes, len(matcher.text(tokens))))

    @property
    def min_tokens(self) -> int:
        """Tokens of the shortest document, stop token included, whatever strings hold."""
        return len(self.least.tokens) or NEVER

    @property
    def min_tokens_exact(self) -> bool:
        """Whether `min_tokens` is exact: a `checked` keyword may demand more."""
        return not any(verdict.verdict == "checked" and verdict.keyword != REPEATED_KEYS for verdict in self.verdicts)

    @property
    def judge(self) -> Judge | None:
        """What closing values must pass, without a bound on its time; None where the grammar enforces everything."""
        return self._once("judge", self._judge)

    def _judge(self) -> Judge | None:
        if not self.constraint.is_json or self.min_tokens_exact:
            return None
        return partial(judge, self.constraint)

    def accepts(self, data: bytes) -> bool:
        """Whether a fresh matcher accepts these bytes from start to end. 0.3 microseconds a byte, 2 with guards."""
        track = self.track()
        marks = () if track is None else at_once(track.ends(data))
        if marks is None:
            return False
        matcher = xgr.GrammarMatcher(self.raw)
        return (not data or bool(matcher.accept_string(marking.with_marks(data, marks)))) and bool(
            matcher.is_completed()
        )

    def from_memory(self) -> CompiledGrammar:
        """The same grammar as a later caller sees it."""
        return replace(self, source="memory", compile_ms=0.0)


def _rule_bytes(grammar: Grammar) -> int:
    """Rules and the symbols made of them; often more than the masks. 0.1 microseconds a symbol."""
    return _SYMBOL_BYTES * sum(1 + len(parts) for rule in grammar.rules.values() for parts in rule.alternatives)
