"""One request's place in its grammar. Knows tokens, masks and endings; does not know sampling, rows or threads.

One thread at a time may use a matcher; different matchers are independent. XGrammar's matcher does the matching; this
adds the sticky error, the guard against empty masks, endings within a budget and forced text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xgrammar as xgr

from engine.errors import EngineError, GrammarDesync
from engine.grammar import bitmask
from engine.grammar.closer import Track
from engine.grammar.search import ending_bytes
from engine.grammar.segment import NEVER

NO_ENDING = NEVER
"""What `need` says where no ending exists."""

if TYPE_CHECKING:
    from engine.grammar.compiled import CompiledGrammar


class Matcher:
    """States: running, `terminated` (a stop token was accepted), failed (`error` set; refuses everything)."""

    def __init__(self, grammar: CompiledGrammar, request_id: str = "") -> None:
        self.grammar = grammar
        self.request_id = request_id
        self.error: EngineError | None = None
        self._matcher = xgr.GrammarMatcher(grammar.raw)
        self._tokens: list[int] = []
        self._track = None if grammar.closer is None else Track(grammar.closer)
        self._ending: tuple[int, ...] | None = None

    @property
    def tokens(self) -> int:
        """Accepted tokens, the stop token included."""
        return len(self._tokens)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The accepted tokens."""
        return tuple(self._tokens)

    @property
    def terminated(self) -> bool:
        """A stop token has been accepted; never fill after this."""
        return bool(self._matcher.is_terminated())

    @property
    def completed(self) -> bool:
        """The document could end here."""
        return bool(self._matcher.is_completed())

    def accept(self, token_id: int) -> bool:
        """Advance by one token; False leaves the state unchanged. About 1 microsecond."""
        if self.error is not None or self.terminated:
            return False
        if not 0 <= token_id < self.grammar.vocabulary.size or not self._matcher.accept_token(token_id):
            return False
        self._tokens.append(token_id)
        self._ending = None
        if self._track is not None:
            self._track.push(self.grammar.vocabulary.texts[token_id] or b"")
        return True

    def fail(self, error: EngineError | None = None, *, token_id: int | None = None) -> EngineError:
        """Make the matcher fail for good; the first error stays. Without one: mask and matcher disagree."""
        if self.error is None:
            self.error = error or GrammarDesync(
                f"request {self.request_id or '-'}: the matcher refused token {token_id} at position {self.tokens}"
                " although its bit was set"
            )
        return self.error

    def rollback(self, count: int) -> None:
        """Take back the last `count` tokens; a termination is undone too. ValueError beyond the start."""
        if not 0 <= count <= len(self._tokens):
            raise ValueError(f"cannot roll back {count} of {len(self._tokens)} tokens")
        if count:
            self._matcher.rollback(count)
            del self._tokens[-count:]
            self._ending = None
            if self._track is not None:
                self._track.pop(count)

    def fork(self) -> Matcher:
        """An independent copy. 10-60 microseconds."""
        copy = object.__new__(Matcher)
        copy.__dict__.update(self.__dict__)
        copy._matcher = self._matcher.fork()
        copy._tokens = list(self._tokens)
        copy._track = self._track and self._track.fork()
        return copy

    def fill(self, mask: Any, row: int) -> int:
        """Write the legal tokens into `mask[row]` (numpy int32 or torch int32 CPU, [R, W]) and return how many.

        0 is a dead end. 3-20 microseconds typically. Raises ValueError after termination or failure.
        """
        if self.error is not None or self.terminated:
            raise ValueError("a matcher that has ended has no mask")
        array: np.ndarray[Any, np.dtype[np.int32]] = mask if isinstance(mask, np.ndarray) else mask.numpy()
        if not self._matcher.fill_next_token_bitmask(array, row):
            array[row] = -1
        bitmask.clear_tail(array[row], self.grammar.vocabulary.size)
        return bitmask.popcount(array[row])

    def forced(self) -> bytes:
        """UTF-8 text about which the grammar leaves no choice; empty inside a character. Remembered per place."""
        if self.error is not None or self.terminated or self._track is None:
            return b""
        return self._track.forced()

    def fits(self, tokens: int) -> bool:
        """Whether the document can end within `tokens` more, stop token included. 1 microsecond far from the limit."""
        if self.terminated:
            return True
        if self._track is not None and self._track.alive and self._track.place.tokens < tokens:
            return True
        return self.ending(tokens) is not None

    def ending(self, limit: int) -> tuple[int, ...] | None:
        """Tokens that end the document legally, stop token last; None when there are none within `limit` tokens.

        Remembered until the next token. Below a millisecond from the rules, 0.1-75 ms where it must be searched.
        """
        if self.terminated:
            return ()
        if self._ending is None:
            self._ending = self._find_ending()
        return self._ending if 0 < len(self._ending) <= limit else None

    def need(self) -> int:
        """Tokens of that ending, stop token included; `NO_ENDING` where there is none."""
        ending = self.ending(NO_ENDING)
        return NO_ENDING if ending is None else len(ending)

    def _find_ending(self) -> tuple[int, ...]:
        if self._track is not None and self._track.alive:
            ending = self._track.ending()
            if ending is not None and self._accepts(ending):
                return ending
        text = ending_bytes(self._matcher)
        pieces = None if text is None else self.grammar.vocabulary.segmenter.cut(text)
        ending = () if pieces is None else (*pieces, self.grammar.vocabulary.stop_token_ids[0])
        return ending if self._accepts(ending) else ()

    def _accepts(self, tokens: tuple[int, ...]) -> bool:
        fork = self._matcher.fork()
        return all(fork.accept_token(token) for token in tokens)

