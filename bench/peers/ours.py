"""Our own engine behind the interface of `bench.peers`: lowering, compiler and the matcher that decoding uses.

Compiles in this thread, without the service's caches, so that CPU time is the compile's and warm rules are the only
thing carried from one schema to the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from bench.datasets.vocabulary import Vocabulary
from bench.peers import Compiled, RefusedError
from engine.config import Limits
from engine.errors import ConstraintError
from engine.grammar import Matcher
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.vocabulary.vocabulary import Vocabulary as EngineVocabulary
from engine.request import Constraint


class BenchTokenizer:
    """The bench's vocabulary as the engine's `Tokenizer` protocol."""

    has_chat_template = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.vocab_size = vocabulary.width
        self.stop_token_ids = vocabulary.stop_ids
        self.fingerprint = hashlib.sha256(repr((vocabulary.tokens, vocabulary.stop_ids)).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return self._vocabulary.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self._vocabulary.tokens[token] or b"" for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes | None:
        return self._vocabulary.tokens[token_id]

    def chat(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] | None = None) -> list[int]:
        raise NotImplementedError("a bench vocabulary has no chat template")


class OurMatcher:
    """The engine's matcher as the loop uses it without a trace; `fill` writes into a [1, W] view of the row."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def fill(self, mask: Any) -> None:
        self._matcher.fill(mask[None, :], 0, count=False)

    def accept(self, token_id: int) -> bool:
        return self._matcher.accept(token_id)


class Ours:
    """One compiler for all schemas, as in a server that runs."""

    packages: tuple[str, ...] = ()

    def __init__(self, vocabulary: Vocabulary, conformance: str) -> None:
        self._vocabulary = EngineVocabulary.of(BenchTokenizer(vocabulary), vocabulary.width)
        self._compiler = Compiler(self._vocabulary.info, Limits())
        self._conformance = conformance

    def compile(self, schema: Any) -> Compiled:
        try:
            constraint = Constraint.json_schema(schema, conformance=self._conformance)  # type: ignore[arg-type]  # a str
            compiled = self._compiler.compile(constraint)
        except ConstraintError as error:
            raise RefusedError(f"{error.type}: {error.message}") from None
        grammar = CompiledGrammar(constraint, "", compiled, self._vocabulary)
        return Compiled(grammar, [verdict.to_dict() for verdict in compiled.verdicts])

    def matcher(self, compiled: Compiled) -> OurMatcher:
        self._vocabulary.masks.clear()
        return OurMatcher(compiled.grammar.matcher())


def load(vocabulary: Vocabulary, options: dict[str, Any]) -> Ours:
    """`options['conformance']` is 'spec' or 'tight'."""
    return Ours(vocabulary, options["conformance"])
