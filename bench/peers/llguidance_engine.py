"""llguidance with its own JSON Schema front end and the same vocabulary.

Its JSON whitespace default (flexible) stays; slices are its recommended JSON ones. It refuses what it cannot enforce.
"""

from __future__ import annotations

import json
from typing import Any

import llguidance

from bench.datasets.vocabulary import Vocabulary
from bench.peers import Compiled, RefusedError


class _Wrapped:
    """What LLTokenizer asks of a tokenizer. Absent tokens get a special name that no text can spell."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.eos_token_id = vocabulary.stop_ids[0]
        absent = [number for number, token in enumerate(vocabulary.tokens) if token is None]
        self.special_token_ids = absent
        names = {number: b"<|special_%d|>" % number for number in absent}
        self.tokens = [names[n] if token is None else token for n, token in enumerate(vocabulary.tokens)]

    def __call__(self, text: Any) -> list[int]:
        return self._vocabulary.encode(text.decode("utf-8") if isinstance(text, bytes) else text)


class GuidanceMatcher:
    """An LLMatcher; after an illegal token it stays in error, which `accept` reports as False."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    def fill(self, mask: Any) -> None:
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)

    def accept(self, token_id: int) -> bool:
        return bool(self._matcher.consume_token(token_id))


class Guidance:
    """One LLTokenizer; there is nothing else to keep warm."""

    packages = ("llguidance",)

    def __init__(self, vocabulary: Vocabulary) -> None:
        wrapper = llguidance.TokenizerWrapper(_Wrapped(vocabulary))
        self._tokenizer = llguidance.LLTokenizer(
            wrapper,
            n_vocab=vocabulary.width,
            eos_token=list(vocabulary.stop_ids),
            slices=llguidance.LLTokenizer.json_slices(),
        )

    def compile(self, schema: Any) -> Compiled:
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema, ensure_ascii=False))
        except ValueError as error:
            raise RefusedError(str(error)) from None
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise RefusedError(matcher.get_error())
        return Compiled(matcher)

    def matcher(self, compiled: Compiled) -> GuidanceMatcher:
        return GuidanceMatcher(compiled.grammar.deep_copy())


def load(vocabulary: Vocabulary, _options: dict[str, Any]) -> Guidance:
    """llguidance has no conformance choice."""
    return Guidance(vocabulary)
