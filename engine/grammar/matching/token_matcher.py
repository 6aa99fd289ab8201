"""One request's place in its grammar. Knows tokens, masks and endings; does not know sampling, rows or threads.

One thread at a time may use a matcher; different matchers are independent. XGrammar's matcher does the matching; this
adds the sticky error, the guard against empty masks, endings within a budget and forced text.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol, Self

import numpy as np
import xgrammar as xgr

from engine.errors import EngineError, GrammarDesync, LimitExceeded
from engine.grammar.counting.cursor import Cursor
from engine.grammar.endings.completion_table import CompletionTable, DocumentCursor
from engine.grammar.endings.search import ending_bytes
from engine.grammar.masks import bitmask, marking
from engine.grammar.masks.mask_cache import CachedMask
from engine.grammar.matching.followed_strings import FollowedStrings
from engine.grammar.matching.mask_work import Unfinished, lost
from engine.grammar.matching.narrowing import Narrowing
from engine.grammar.matching.readings import Readings
from engine.grammar.pieces import PIECE_S, Pieces, Work, at_once
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.grammar.vocabulary.utf8 import unfinished
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.judge import Judge, Judgement

_FEW_STACKS = 16
"""Ways to go on that one mask looks at in about a millisecond, between strings; 300 take 60."""
NO_ENDING = NEVER
"""What `need` says where no ending exists."""
_PIECE, _TAKEN = 4_000, 250
"""Bytes that XGrammar's matcher takes in a piece of work, and at one go."""
_QUICK = 5
"""Milliseconds, about, in which the ending is looked for at a step."""
_FILLED = 32
"""Times as many tokens as a shortest ending takes suffice for one with texts of languages in all its strings."""
_LONG_ENDING = 2_000
"""Tokens. A longer ending is not looked for at every step near the budget, where it would take 20 microseconds a token:
the document is closed as soon as the bound says that it may have to be."""


class Checks(Protocol):
    """What a caller asks of values beyond the constraint. Raises Undecided where it is not known yet."""

    def failing_start(self, text: bytes, *, ended: bool) -> int | None:
        """Offset of the first closed value that is wrong."""

    def leave(self) -> None:
        """The value that was wrong last stays."""

    def judgement(self, text: bytes) -> Judgement:
        """Of a whole text."""


class Tables(Protocol):
    """What a matcher needs of its grammar, shared by all its matchers."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def raw(self) -> xgr.CompiledGrammar: ...

    @property
    def completions(self) -> CompletionTable | None: ...

    @property
    def narrowing(self) -> Narrowing | None: ...

    @property
    def marked(self) -> bool: ...

    @property
    def open_text(self) -> bool: ...

    @property
    def judge(self) -> Judge | None: ...

    def track(self) -> DocumentCursor | None: ...


class TokenMatcher:
    """States: running, `terminated` (a stop token was accepted; no more masks), failed (`error` set)."""

    def __init__(self, grammar: Tables, request_id: str = "") -> None:
        self.grammar = grammar
        self.request_id = request_id
        self.error: EngineError | None = None
        self.judge = grammar.judge  # whoever must not wait puts one here that raises Undecided
        self.checks: Checks | None = None
        self.strings: FollowedStrings | None = None
        self._matcher = xgr.GrammarMatcher(grammar.raw)
        self._masks = grammar.vocabulary.masks
        self.terminated = False
        self._tokens: list[int] = []
        self._track = grammar.track()
        self._narrowing = grammar.narrowing
        self._readings = Readings() if grammar.open_text else None
        self._ending: tuple[int, ...] | None = None
        self._endings: list[tuple[int, ...] | None] = []
        self._tried = NO_ENDING
        self._bans: dict[int, bitmask.Row] = {}
        self._filled: tuple[object, int] = None, 0
        self._work: tuple[bitmask.Row, Work[bool]] | None = None
        self._sought: tuple[int, Work[tuple[int, ...]]] | None = None
        self.pieces = 0
        """What the last mask has cost whoever made it: the same for the same text, whatever is remembered."""

    @property
    def tokens(self) -> int:
        """Accepted tokens, the stop token included."""
        return len(self._tokens)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The accepted tokens."""
        return tuple(self._tokens)

    @property
    def last_text(self) -> bytes:
        """What the last token has written."""
        return (self.grammar.vocabulary.texts[self._tokens[-1]] or b"") if self._tokens else b""

    @property
    def within_string(self) -> bool:
        """The last token went on with a string and did not end it, so that no value has closed."""
        if self.terminated or not self.cursor.in_string:
            return False
        if b'"' not in self.last_text:
            return True
        return self.strings is not None and self.strings.goes_on

    @property
    def completed(self) -> bool:
        """The document could end here."""
        if self._narrowing is not None and self._track is not None and self._track.alive:
            return self._track.at.place.completed
        return bool(self._matcher.is_completed())

    @property
    def inside_character(self) -> bool:
        """The last token ended within a character; the mask here takes 10-50 milliseconds where it is new."""
        return self._track is not None and self._track.at.place.inside

    def accept(self, token_id: int, *, legal: bool = False) -> bool:
        """Advance by one token; False leaves the state unchanged. About 8 microseconds.

        `legal`: its bit was set in the mask here, or it is one of an ending. For any other it looks whether items that
        must differ still can, which may take a tenth of a second.
        """
        if self.error is not None or self.terminated or not 0 <= token_id < self.grammar.vocabulary.size:
            return False
        if self.bans(token_id):
            return False
        text = self.grammar.vocabulary.texts[token_id]
        before = None if self.strings is None else self.cursor
        if not (self._follow(token_id, text, legal) and self._advance(token_id, text)):
            return False
        self._tokens.append(token_id)
        if self.strings is not None and before is not None:
            self.strings.push(before, text or b"")
        ending = self._ending or ()
        self._endings.append(self._ending)
        self._ending = ending[1:] if ending[1:] and ending[0] == token_id else None
        self._tried = NO_ENDING  # it is the shortest that begins with this token, and perhaps over the next limit
        self._work = self._sought = None
        if text is None:
            self.terminated = bool(self._matcher.is_terminated())
            if self._track is not None and not self.terminated:
                self._track.alive = False  # a special token by id: our tables know text only
        return True

    def _follow(self, token_id: int, text: bytes | None, legal: bool) -> bool:
        """Count this token; False, and nothing is counted, where a guard refuses it."""
        track = self._track
        if track is None:
            return True
        if self._narrowing is not None and token_id in self.grammar.vocabulary.stop_token_ids and not self.completed:
            return False
        track.push(text or b"", legal=legal)
        if self._narrowing is not None and text and track.alive and not track.at.place.stacks:
            track.pop(1)
            return False
        return True

    def _advance(self, token_id: int, text: bytes | None) -> bool:
        """Let XGrammar's matcher follow; False, and nothing has changed, where it does not."""
        take = partial(self._take, token_id, text)
        taken = take() if self._readings is None else self._readings.take(self._matcher, take, len(text or b""))
        if not taken and self._track is not None:
            self._track.pop(1)
        return taken

    def _take(self, token_id: int, text: bytes | None) -> bool:
        track, matcher = self._track, self._matcher
        followed = track is not None and track.alive
        marks = track.at.marks if track is not None and followed else ()
        plain = followed or not self.grammar.marked
        if not text or (self._readings is None and plain and not marks):
            return bool(matcher.accept_token(token_id))
        read = matcher.accept_string if self._readings is None else partial(self._readings.read, matcher)
        return any(map(read, (marking.with_marks(text, marks),) if plain else marking.ways(text)))

    def fail(self, error: EngineError | None = None, *, token_id: int | None = None) -> EngineError:
        """Make the matcher fail for good; the first error stays. Without one: it refused a legal token, since the text
        has too many readings, or mask and matcher disagree."""
        at = f"request {self.request_id or '-'}: the matcher refused token {token_id} at position {self.tokens}"
        if self.error is None and error is None and self._is_crowded:
            self.error = LimitExceeded(f"{at}: the constraint is too ambiguous, the text can be read in too many ways")
        self.error = self.error or error or GrammarDesync(f"{at} although its bit was set")
        return self.error

    def ban(self, tokens: bitmask.Row) -> None:
        """Never offer these at this place again; forgotten when the document goes back beyond it."""
        self._bans = {at: row for at, row in self._bans.items() if at <= self.tokens}
        self._bans[self.tokens] = self._bans.get(self.tokens, 0) | tokens

    def demand(self, tokens: Sequence[int], then: bitmask.Row) -> None:
        """Offer nothing but these next, one after another, and behind them nothing but `then`."""
        self.lift_bans(self.tokens)
        rows = (bitmask.from_ids([token], self.grammar.vocabulary.size) for token in tokens)
        self._bans |= {at: ~row for at, row in enumerate((*rows, then), self.tokens)}

    def bans(self, token_id: int) -> bool:
        """Whether it is not offered at this place."""
        banned = self._bans.get(len(self._tokens))
        return banned is not None and bitmask.legal(banned, token_id)

    def lift_bans(self, start: int) -> None:
        """Offer everything again, from behind so many tokens on."""
        self._bans = {at: row for at, row in self._bans.items() if at < start}

    @property
    def restricted(self) -> bool:
        """Whether some tokens are not offered at this place."""
        return len(self._tokens) in self._bans

    @property
    def cursor(self) -> Cursor:
        """What has been counted of the document; a fresh one outside of JSON."""
        return self._track.at.cursor if self._track is not None else Cursor()

    def rollback(self, count: int, *, forget: bool = True) -> None:
        """Take back the last `count` tokens, a termination too; `forget` their bans. ValueError beyond the start."""
        if not 0 <= count <= len(self._tokens):
            raise ValueError(f"cannot roll back {count} of {len(self._tokens)} tokens")
        if count:
            self._matcher.rollback(count if self._readings is None else self._readings.back(count))
            self.terminated = False
            self._ending, self._tried = self._endings[-count], NO_ENDING  # what fitted there must be found again
            del self._tokens[-count:], self._endings[-count:]
            self._work = self._sought = None
            self._bans = {at: row for at, row in self._bans.items() if at <= self.tokens or not forget}
            if self.strings is not None:
                self.strings.pop(count)
            if self._track is not None:
                self._track.pop(count)

    def fork(self) -> Self:
        """An independent copy. 10-60 microseconds."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._matcher = self._matcher.fork()
        copy._readings = self._readings and self._readings.fork()
        copy._tokens = list(self._tokens)
        copy._endings = list(self._endings)
        copy._bans = dict(self._bans)
        copy.strings = self.strings and self.strings.fork()
        copy._track = self._track and self._track.fork()
        copy._work = copy._sought = None
        return copy

    def fill(self, mask: Any, row: int, *, count: bool = True, pieces: int | None = None) -> int:
        """Write the legal tokens into `mask[row]` (numpy int32 or torch int32 CPU, [R, W]) and return how many.

        0 is a dead end; without `count` 1 stands for any other number, which saves the counting. 3 microseconds where
        a document of this grammar has been before, else 3-60. With `pieces`, Unfinished where that many, of about a
        millisecond, are not enough. Raises ValueError after termination or failure.
        """
        if self.error is not None or self.terminated:
            raise ValueError("a matcher that has ended has no mask")
        array: bitmask.Rows = mask if isinstance(mask, np.ndarray) else mask.numpy()
        kept = self._fill(array, row, pieces)
        self.pieces = 0 if kept is None else kept.pieces
        banned = self._bans.get(len(self._tokens))
        if banned is not None:
            array[row] &= ~banned
        if kept is not None and banned is None:
            return kept.count if count else int(not kept.empty)
        return bitmask.popcount(array[row]) if count else int(not bitmask.is_empty(array[row]))

    def unbanned(self) -> bitmask.Row:
        """What would be legal here if nothing were banned."""
        rows = bitmask.cleared(1, self.grammar.vocabulary.size)
        self._fill(rows, 0, None)
        row: bitmask.Row = rows[0]
        return row

    @property
    def unfinished(self) -> bool:
        """The mask here has been begun, and is not there."""
        return self._work is not None and not self._work[1].done

    def go_on(self, pieces: int) -> None:
        """Some more pieces of the mask that is unfinished."""
        if self._work is not None:
            self._work[1].run(pieces, timed=True)

    def _fill(self, array: bitmask.Rows, row: int, pieces: int | None) -> CachedMask | None:
        """The mask without bans, and what is remembered of it."""
        track = self._track
        if track is None:
            self._compute(array, row)
            return None
        if not track.alive:
            return self._wide(array, row, self._way)
        at, narrowing = track.at, self._narrowing
        view = None if narrowing is None else narrowing.view(at)
        if view is None or narrowing is None:
            return self._wide(array, row, at.wide.number)
        kept = self._masks.get(view)
        if kept is not None:
            array[row] = kept.bits
            return kept
        if self._work is None:
            self._wide(array, row, at.wide.number)
            bits = array[row].copy()
            self._work = bits, Work(lost(narrowing.narrow(bits, at)))
        bits, work = self._work
        if not work.run(pieces, timed=True):
            raise Unfinished
        array[row] = bits
        if work.result:
            return None
        if not at.place.completed:
            for token in self.grammar.vocabulary.stop_token_ids:
                bitmask.clear(array[row], token)
        return self._masks.put(view, array[row], work.pieces)

    @property
    def _way(self) -> Hashable:
        """A place where our tables are lost, by the tokens that led there."""
        start = self.grammar.completions.start.place.number if self.grammar.completions is not None else 0
        return start, blake2b(np.array(self._tokens).tobytes(), digest_size=16).digest()

    def _wide(self, array: bitmask.Rows, row: int, place: Hashable) -> CachedMask:
        """XGrammar's mask of a place, computed where no document has been."""
        kept = self._masks.get(place)
        if kept is None:
            self._compute(array, row)
            return self._masks.put(place, array[row])
        array[row] = kept.bits
        return kept

    def _compute(self, array: bitmask.Rows, row: int) -> None:
        """XGrammar's mask without the tokens that lead into a character which cannot be finished."""
        track = self._track if self._track is not None and self._track.alive else None
        fill = marking.fill_anyhow if track is None and self.grammar.marked else marking.fill
        fill(self._matcher, array, row)
        bitmask.clear_tail(array[row], self.grammar.vocabulary.size)
        if self.grammar.marked and (track is None or track.at.place.in_document):
            array[row] &= self.grammar.vocabulary.string_tokens.keys.writable
        if self.grammar.open_text:
            array[row] &= self.grammar.vocabulary.whole_characters(unfinished(self.text(self._tokens[-3:])))
            if self._track is not None:  # else tokens may be named by id
                array[row] &= self.grammar.vocabulary.free_row
        if track is not None and track.at.wide.inside:
            for token in track.refused(lambda: self.grammar.vocabulary.legal(array[row])):
                bitmask.clear(array[row], token)

    @property
    def kept(self) -> bool:
        """Whether the mask here is there, so that `fill` takes some microseconds."""
        track = self._track
        if track is None or not track.alive:
            return track is not None and self._masks.get(self._way) is not None
        view = None if self._narrowing is None else self._narrowing.view(track.at)
        return self._masks.get(track.at.wide.number if view is None else view) is not None

    @property
    def unmade(self) -> Hashable | None:
        """The place whose mask is still to be made and can take long, None elsewhere. A microsecond.

        Between the strings of a JSON document few tokens come into question, which takes below a millisecond.
        """
        track = self._track
        if track is None or self.error is not None or self.terminated:
            return None
        if not track.alive:
            return self._way if self._masks.get(self._way) is None else None
        few = len(track.at.wide.stacks) <= _FEW_STACKS
        if few and track.at.place.in_document and not track.at.cursor.in_string:
            return None
        view = None if self._narrowing is None else self._narrowing.view(track.at)
        if view is not None and self._masks.get(view) is not None:
            return None
        number = track.at.wide.number
        return number if self._masks.get(number) is None else None

    def make(self) -> None:
        """Make XGrammar's mask of this place and keep it, so that `fill` finds it. Up to tens of milliseconds."""
        if (place := self.unmade) is not None:
            self._wide(bitmask.cleared(1, self.grammar.vocabulary.size), 0, place)

    def forced(self) -> bytes:
        """UTF-8 text about which the grammar leaves no choice; empty inside a character. Remembered per place."""
        if self.error is not None or self.terminated or self._track is None:
            return b""
        return self._track.forced()

    def fits(self, tokens: int) -> bool:
        """Whether the document can go on and still end within `tokens` more, stop token included. 1 microsecond.

        False too where a string, number or array has outgrown its guard (`Limits`), where the text has too many
        readings, and near the limit where that takes longer to tell than a few milliseconds.
        """
        if self.terminated or self._is_over:
            return self.terminated
        more = self._to_fill(tokens)
        return self._has_room(tokens - more) or (more != 0 and self.need() <= tokens)

    @property
    def _is_over(self) -> bool:
        """Whether the document should be closed whatever the budget is."""
        return self._is_crowded or (self._track is not None and self._track.over)

    @property
    def _is_crowded(self) -> bool:
        """Whether the text has too many readings."""
        return self._readings is not None and self._readings.too_many

    def _has_room(self, tokens: int) -> bool:
        """The same of an ending whatever its strings hold."""
        track = self._track
        if track is not None and track.bound < tokens:
            return True
        if track is not None and track.alive:
            bound = track.counted_bound()
            if bound < tokens or _LONG_ENDING < bound < NO_ENDING:
                return bound < tokens
        return 0 < len(self.quick_ending(tokens) or ()) <= tokens

    def _to_fill(self, tokens: int) -> int:
        """Tokens that followed strings take in the shortest ending beyond its own (fewer, where they are padded to a
        length with what takes fewer); 0 where it is far below so many.

        Not those of the open one: it is cut to where it was valid last, or not begun, and there this was asked too.
        """
        track = self._track
        if self.strings is None or (track is not None and track.bound * _FILLED < tokens):
            return 0
        here = None if track is None or not track.alive else (track.at.place, track.at.cursor.frame)
        if here is None or here != self._filled[0]:
            ending = self.quick_ending(tokens)
            if ending is None:
                return tokens
            self._filled = here, len(self.filled(ending)) - len(ending)
        return self._filled[1]

    def filled(self, ending: tuple[int, ...]) -> tuple[int, ...]:
        """This ending, or where it leaves followed strings invalid, one with others in them. Perhaps not legal: what
        else the grammar asks of them is not looked at."""
        text = self.text(ending)
        filled = text if self.strings is None else self.strings.filled(self.cursor, text)
        tokens = None if filled == text else self.grammar.vocabulary.segmenter.cut(filled)
        return ending if tokens is None else (*tokens, ending[-1])

    def need(self) -> int:
        """Tokens of the shortest ending, stop token included, with texts in followed strings; `NO_ENDING` where there
        is none."""
        return len(self.filled(self.shortest_ending(0))) or (0 if self.terminated else NO_ENDING)

    def shortest_ending(self, limit: int = NO_ENDING) -> tuple[int, ...]:
        """A short ending, stop token last; empty where there is none, or nothing is left to end.

        Only when it is longer than `limit` a search makes sure that there is no shorter one.
        """
        if self._ending is None or not self._is_sought_for(limit):
            self._found(at_once(self._find_ending(limit)), limit)
        return self._ending or ()

    def seek(self, limit: int, pieces: int, *, timed: bool = False) -> bool:
        """Look for the shortest ending for so many pieces of about a millisecond; True when it is known.

        `timed` for whoever goes on later: pieces that take longer are fewer.
        """
        if not self._is_sought_for(limit):
            if self._sought is None or self._sought[0] != limit:
                self._sought = limit, Work(self._find_ending(limit))
            if not self._sought[1].run(pieces, timed=timed):
                return False
            self._found(self._sought[1].result, limit)
            self._sought = None
        return True

    def _found(self, ending: tuple[int, ...], limit: int) -> None:
        """It may be longer than one that is known, of which a search that tries a few ways knows nothing."""
        known = self._ending
        self._ending, self._tried = known if known and not 0 < len(ending) < len(known) else ending, limit

    def quick_ending(self, limit: int = NO_ENDING, pieces: int = _QUICK) -> tuple[int, ...] | None:
        """The same as `shortest_ending`; None where so many pieces are not enough."""
        return self.shortest_ending(limit) if self.seek(limit, pieces) else None

    def _is_sought_for(self, limit: int) -> bool:
        """Whether the ending is known, and is known to be the shortest where it is over this limit."""
        known = self._ending
        return known is not None and (len(known) <= limit or limit >= self._tried or self._track is None)

    def text(self, tokens: Sequence[int]) -> bytes:
        """The bytes that these tokens write."""
        texts = self.grammar.vocabulary.texts
        return b"".join(texts[token] or b"" for token in tokens)

    def _find_ending(self, limit: int) -> Pieces[tuple[int, ...]]:
        if self.terminated:
            return ()
        if self._track is not None and self._track.alive:
            found = (yield from self._track.ending(limit)) if self._track.at.place.stacks else None
            return found if found is not None and (yield from self._accepts(found)) else ()
        text = yield from ending_bytes(self._matcher)
        pieces = None if text is None else (yield from self.grammar.vocabulary.segmenter.cutting(text))
        ending = () if pieces is None else (*pieces, self.grammar.vocabulary.stop_token_ids[0])
        return ending if (yield from self._accepts(ending)) else ()

    def _accepts(self, tokens: tuple[int, ...]) -> Pieces[bool]:
        """Whether XGrammar's own matcher agrees that this ends the document. 0.3 microseconds a byte."""
        fork, text = self._matcher.fork(), self.text(tokens)
        marks = () if self._track is None else (yield from self._track.ends(text))
        if marks is None:
            return False
        marked = marking.with_marks(text, marks)
        for start in range(0, len(marked), _TAKEN):
            began = time.thread_time()
            if not fork.accept_string(marked[start : start + _TAKEN]):
                return False
            if start % _PIECE == 0 or time.thread_time() - began > PIECE_S:
                yield
        return bool(fork.is_completed())
