"""XGrammar with its own JSON Schema converter, the form that serving engines use: one compiler, rules kept warm.

Options: any whitespace (its default) and `strict_mode=False`, which is the closest it has to the specification;
conformance 'tight' turns strict mode on. Special tokens are taken out of the vocabulary, as ours does.
"""

from __future__ import annotations

import json
from typing import Any

import xgrammar

from bench.datasets.vocabulary import Vocabulary
from bench.peers import Compiled, RefusedError


class XGrammarMatcher:
    """A GrammarMatcher; the mask row is passed as a [1, W] view."""

    def __init__(self, matcher: xgrammar.GrammarMatcher) -> None:
        self._matcher = matcher

    def fill(self, mask: Any) -> None:
        self._matcher.fill_next_token_bitmask(mask[None, :], 0)

    def accept(self, token_id: int) -> bool:
        return bool(self._matcher.accept_token(token_id))


class XGrammarConverter:
    """`compile_json_schema` of one GrammarCompiler."""

    packages = ("xgrammar",)

    def __init__(self, vocabulary: Vocabulary, *, strict: bool, dynamic: bool = False) -> None:
        """`dynamic`: masks are made where a document first comes to them."""
        info = xgrammar.TokenizerInfo(
            [token or b"" for token in vocabulary.tokens],
            xgrammar.VocabType.RAW,
            vocab_size=vocabulary.width,
            stop_token_ids=list(vocabulary.stop_ids),
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, enable_dynamic_compilation=dynamic)
        self._strict = strict

    def compile(self, schema: Any) -> Compiled:
        try:
            text = json.dumps(schema, ensure_ascii=False)
            return Compiled(self._compiler.compile_json_schema(text, strict_mode=self._strict))
        except RuntimeError as error:
            raise RefusedError(str(error).strip().rpartition("\n")[2]) from None

    def matcher(self, compiled: Compiled) -> XGrammarMatcher:
        return XGrammarMatcher(xgrammar.GrammarMatcher(compiled.grammar))


def load(vocabulary: Vocabulary, options: dict[str, Any]) -> XGrammarConverter:
    """The converter with strict mode for 'tight', without for 'spec'."""
    return XGrammarConverter(vocabulary, strict=options.get("conformance") == "tight")
