"""Masks of a grammar made before a document needs them, a piece at a time, along documents that are likely.

They are kept like all others. Knows matchers and texts; not rows, and not when there is time for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Protocol

from engine.grammar.endings.completion_table import CompletionTable
from engine.grammar.masks import bitmask
from engine.grammar.matching.likely import Likely
from engine.grammar.matching.mask_work import Unfinished
from engine.grammar.matching.matcher import Matcher
from engine.grammar.pieces import Pieces, Work
from engine.grammar.vocabulary.vocabulary import Vocabulary

_TEXTS = 3
_MOST_TOKENS = 300
"""Of one text: the masks of a grammar are 40 megabytes at most, and mostly 5."""
_MOST_S, _MOST_ELSEWHERE_S = 0.5, 2.0
"""Of processor time for one grammar, here and in the threads of `begin`."""
_MERGING = 2
"""Tokens at the end of a text that may be others when it goes on."""
Encode = Callable[[str], Sequence[int]]
Making = Callable[[Matcher], "Future[float] | None"]


class Source(Protocol):
    """What is needed of a compiled grammar."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def completions(self) -> CompletionTable | None: ...

    def matcher(self, request_id: str = "") -> Matcher: ...


class Foresight:
    """Per grammar. One thread at a time."""

    def __init__(self, grammar: Source, encode: Encode) -> None:
        self._grammar, self._encode = grammar, encode
        self._work = Work(self._all())
        self._begin: Making = lambda _: None
        self._waiting = False
        self._left_s, self._left_elsewhere_s = _MOST_S, _MOST_ELSEWHERE_S
        self.done = False

    def go_on(self, begin: Making) -> bool:
        """A piece more, of about a millisecond; False where there is nothing to do at present. `begin` has a mask that
        takes long made elsewhere; None: not now."""
        if self.done:
            return False
        self._begin, self._waiting, started = begin, False, time.thread_time()
        try:
            self.done = self._work.run(1)
        except Exception:  # noqa: BLE001 - whoever comes to this place meets it again, as his own error
            self.done = True
        self._left_s -= time.thread_time() - started
        self.done |= min(self._left_s, self._left_elsewhere_s) <= 0
        return not (self.done or self._waiting)

    def _all(self) -> Pieces[None]:
        completions = self._grammar.completions
        if completions is None or not completions.start.place.in_document:
            return
        if completions.pushdown.distinct:  # masks depend on the values
            return
        likely = Likely(completions.pushdown)
        for _ in range(_TEXTS):
            yield from self._along(islice(self._tokens(likely.text(completions.start)), _MOST_TOKENS))

    def _tokens(self, text: Iterator[bytes]) -> Iterator[int | None]:
        """The text in tokens, each piece as soon as it is there: the last tokens of one may merge with the next. None
        behind each, for somebody else's turn."""
        written = b""
        for piece in text:
            written += piece
            tokens = self._encode(written.decode("utf-8", "ignore"))[:-_MERGING]
            written = written[sum(len(self._grammar.vocabulary.texts[token] or b"") for token in tokens) :]
            yield None
            yield from tokens
        yield from self._encode(written.decode("utf-8", "ignore"))

    def _along(self, tokens: Iterable[int | None]) -> Pieces[None]:
        """The masks before each of these tokens. What others make is finished when it is there."""
        matcher, elsewhere = self._grammar.matcher(), deque[tuple[Matcher, Future[float]]]()
        for token in tokens:
            if token is None:
                yield
                continue
            if matcher.unmade is None:
                yield from self._fill(matcher)
            else:
                fork = matcher.fork()
                while (making := self._begin(fork)) is None:
                    self._waiting = True
                    yield
                elsewhere.append((fork, making))
            if elsewhere and elsewhere[0][1].done():
                yield from self._finish(*elsewhere.popleft())
            if not matcher.accept(token, legal=True):
                break
            yield
        for fork, making in elsewhere:
            while not making.done():
                self._waiting = True
                yield
            yield from self._finish(fork, making)

    def _finish(self, matcher: Matcher, made: Future[float]) -> Pieces[None]:
        """What guards leave of a mask that was made elsewhere."""
        self._left_elsewhere_s -= made.result()
        yield from self._fill(matcher)

    def _fill(self, matcher: Matcher) -> Pieces[None]:
        row = bitmask.cleared(1, self._grammar.vocabulary.size)
        while True:
            try:
                matcher.fill(row, 0, count=False, pieces=1)
            except Unfinished:
                yield
            else:
                return
