"""lm-format-enforcer: a character-level parser walked over a tree of the vocabulary at every step.

It keeps the mask of every prefix it has seen; `fill` forgets that one first, so that a repeated step is a step. Tokens
that are not whole UTF-8 text are outside its model and never legal.
"""

from __future__ import annotations

from typing import Any

from lmformatenforcer import JsonSchemaParser, TokenEnforcer, TokenEnforcerTokenizerData

from bench.datasets.vocabulary import Vocabulary
from bench.peers import Compiled, RefusedError


class EnforcerMatcher:
    """A token sequence; all sequences of a schema share one enforcer, as its integrations do."""

    def __init__(self, enforcer: TokenEnforcer) -> None:
        self._enforcer = enforcer
        self._tokens: tuple[int, ...] = ()
        self._words: Any = None

    def fill(self, mask: Any) -> None:
        self._enforcer.prefix_states.pop(self._tokens, None)
        self._words = self._enforcer.get_allowed_tokens(list(self._tokens)).allowed_tokens.numpy()
        mask[:] = self._words

    def accept(self, token_id: int) -> bool:
        if self._words is None or not (int(self._words[token_id >> 5]) >> (token_id & 31)) & 1:
            return False
        self._tokens = (*self._tokens, token_id)
        return True


class FormatEnforcer:
    """The vocabulary's tree, built once."""

    packages = ("lm-format-enforcer",)

    def __init__(self, vocabulary: Vocabulary) -> None:
        regular = [
            (number, text, False)
            for number, token in enumerate(vocabulary.tokens)
            if token and (text := _whole_text(token)) is not None
        ]
        texts = {number: text for number, text, _ in regular}
        self._data = TokenEnforcerTokenizerData(
            regular,
            lambda ids: "".join(texts.get(number, "") for number in ids),
            list(vocabulary.stop_ids),
            True,
            vocabulary.width,
        )

    def compile(self, schema: Any) -> Compiled:
        try:
            return Compiled(TokenEnforcer(self._data, JsonSchemaParser(schema)))
        except (ValueError, NotImplementedError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from None

    def matcher(self, compiled: Compiled) -> EnforcerMatcher:
        return EnforcerMatcher(compiled.grammar)


def _whole_text(token: bytes) -> str | None:
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return None


def load(vocabulary: Vocabulary, _options: dict[str, Any]) -> FormatEnforcer:
    """lm-format-enforcer has no conformance choice."""
    return FormatEnforcer(vocabulary)
