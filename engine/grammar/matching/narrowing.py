"""What guards leave of a mask. Knows positions, gates and texts of tokens; XGrammar's mask comes from outside.

Exact: a token stays when the document can be followed through it. Most need not be followed: in a string those that
leave it open are told by their number of characters, elsewhere only brackets, commas and whole strings meet a guard.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from engine.grammar.counting.cursor import Cursor
from engine.grammar.counting.key_names import KeyNames, alike, as_written, opened
from engine.grammar.endings.position import Position, followed, looked, open_move
from engine.grammar.endings.room import room, roughly, spare
from engine.grammar.endings.unused import Doubt, doubts, open_string, strings
from engine.grammar.masks import bitmask
from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.byte_grammar import Character, Literal, Nonterminal, names_within
from engine.grammar.pushdown.levels import ahead_of, bounds, effect, members
from engine.grammar.pushdown.pushdown import Place, Pushdown, Stack, gated, string_length, string_pattern, string_rule
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.grammar.vocabulary.string_tokens import StringTokens
from engine.grammar.vocabulary.utf8 import byte_automaton
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.schema.automata.tables import states_of
from engine.schema.rules.guards import Length, Letter, Matching, Members, Reach, Region, bare, depth
from engine.schema.strings.string_rules import RAW

_QUOTE = 0x22
_ESCAPE = 12
"""Bytes of a pair of surrogates."""
_ANY = byte_automaton(RAW)
"""One character that a string holds as it is."""
_A_TOKEN, _PIECE = 12, 1_500
"""What following a token takes beside each stack, and what is followed at one go: about a millisecond."""
_FEW_STACKS, _NEW = 32, 8
"""On more stacks than these, tokens mostly lead where no document has been, which takes that many times as long."""
_A_NAME, _A_KEY = 3, 60
"""What it takes to list the tokens along one name, and to follow them."""
_MOST_ROWS = 64
"""Rows of tokens behind keys that one grammar keeps, of 20 kilobytes each."""


class Asked(NamedTuple):
    """What guards look at from a place: the bounds of the open string, or of those that may be open; those of
    containers, how many of them further out each lies, and how far a token goes in it; those of the open object."""

    lengths: tuple[tuple[Length | Matching, Reach], ...]
    frames: tuple[tuple[int, Region, Reach], ...]
    members: list[Members]


class Narrowing:
    """Per grammar. Threads may share it: what is found is added, never changed."""

    def __init__(self, pushdown: Pushdown, vocabulary: Vocabulary) -> None:
        self._pushdown = pushdown
        self._vocabulary = vocabulary
        self._texts = vocabulary.texts
        self._tokens = tokens = vocabulary.string_tokens
        self._costs, self._costs_within = pushdown.costs, pushdown.costs_within
        self._unrepeated, self._picky, self._distinct = pushdown.unrepeated, pushdown.picky, pushdown.distinct
        self._looks_ahead = pushdown.looks_ahead
        self._far = (tokens.reach.chars + 1) * (pushdown.longest_within + 1)
        """Characters of room that no token can use up, whatever it opens."""
        least = min((r.high - cost for r, cost in pushdown.costs.items() if r.high is not None), default=NEVER)
        least = min([least, *(region.alike_for(region.automaton.start, 0) for region in pushdown.matching)])
        long = tokens.opened_over(0 if self._picky or pushdown.holds_within else max(0, least))
        self._structural = tokens.structural | long
        self._closing = tokens.structural & tokens.closing
        for rule in pushdown.rules:  # of thousands of keys or items the first mask would take long for it
            effect(rule)
            if rule.asks:
                ahead_of(rule)
        self._names, self._names_within = KeyNames(), names_within(pushdown.rules)
        self._behind_keys: dict[Stack, bitmask.Row] = {}
        self._key_ends: dict[tuple[str, bytes], bool] = {}
        self._declaring: dict[str, list[int]] = {}
        self._begun: dict[Members, Reach] = {}
        self._asked_names, self._beginning = set[str](), set[str]()
        """Keys that have been looked at, which many shapes of an object share, and those that some token begins."""
        self._deep = tokens.deep | (long & tokens.closing)
        self._past_keys_row = self._deep | tokens.past_members

    def view(self, at: Position) -> Hashable:
        """What the mask here depends on beside the place: equal views, equal masks. None: nothing is cut off."""
        place, wide, cursor, _ = at
        if not place.asks and place is wide:
            return None
        asked: Asked = place.asked or self._look(at)
        seen = [region.view(cursor, reach) for region, reach in asked.lengths]
        if asked.frames or self._unrepeated:
            seen.append(self._frames(at, asked))
        if self._distinct:
            seen += [self._unlike(cursor, doubt) for doubt in doubts(place, cursor)]
        if wide.depth:
            seen.append(_counted_within(at, whole=self._pushdown.spells_within))
            if self._is_near(at):
                seen.append(tuple(cursor.chars for cursor in _levels(at)))
        return (place.number, wide.number, *seen)

    def _is_near(self, at: Position) -> bool:
        """Whether a token may be too long for the lengths of strings that hold documents."""
        return any(stack.holds and roughly(stack, at.cursor) < self._far for stack in at.place.stacks)

    def _unlike(self, cursor: Cursor, doubt: Doubt) -> Hashable:
        """What the mask depends on where items must differ; where the open item is like some value, on its text."""
        frame = doubt.frame
        text = cursor.text and cursor.text[frame.start :]
        if doubt.few or not cursor.in_string or doubt.holds(cursor):
            return frame.values, text
        if cursor.frame is not frame:
            return frame.values
        seen = frozenset(v for v in frame.values if v[0] != '"' or self._tokens.may_begin(json.loads(v)))
        return (seen, text) if self._tokens.goes_on(open_string(cursor)) else seen

    def _frames(self, at: Position, asked: Asked) -> Hashable:
        """What guards see of containers: the same as long as a value in them goes on."""
        cursor = at.cursor
        last = at.place.seen
        if last is not None and last[0] is cursor.frame and not cursor.is_key:
            known: Hashable = last[1]
            return known
        inner = cursor if cursor.is_key else cursor.out(0)
        near = cursor.is_key and not cursor.raw
        seen = tuple(
            region.view(cursor.out(level) if level else inner, self._tokens.reach if near else reach)
            for level, region, reach in asked.frames
        )
        if self._unrepeated and (cursor.keys or cursor.is_key):
            seen = (*seen, self._keys_ahead(at))
        at.place.seen = (cursor.frame, seen)
        return seen

    def _look(self, at: Position) -> Asked:
        found = bounds(at.place, in_string=at.cursor.in_string, deepest=self._tokens.closes)
        near = _before_key(at.cursor) or (not at.cursor.is_key and any(map(_asks_at_once, at.place.stacks)))
        lengths = [(r, self._reach(r)) for _, r in found if isinstance(r, Length | Matching)]
        frames = [(level, r, self._within(r, near)) for level, r in found if not isinstance(r, Length | Matching)]
        asked = Asked(tuple(lengths), tuple(frames), members(at.place, in_string=at.cursor.in_string))
        at.place.asked = asked
        return asked

    def _within(self, region: Region, near: bool) -> Reach:
        """How far a token goes in a container, and, unless one may come `near` here, which keys it can begin."""
        reach = self._tokens.reach
        if near or not isinstance(region, Members):
            return reach
        known = self._begun.get(region)
        if known is None:
            new = region.names - self._asked_names
            self._asked_names |= new
            self._beginning.update(filter(self._tokens.may_begin, new))
            known = self._begun[region] = Reach(reach.chars, reach.items, region.names & self._beginning)
        return known

    def _reach(self, region: Length | Matching) -> Reach:
        """How far a token goes, with what must still come behind it."""
        reach = self._tokens.reach
        if isinstance(region, Matching):
            return reach
        return Reach(reach.chars + self._costs.get(region, 0), reach.items)

    def _keys_ahead(self, at: Position) -> Hashable:
        """What decides how keys must not go on from here: those that the object has, and how a declared one begins."""
        cursor = at.cursor
        if not cursor.is_key:
            return cursor.keys & self._tokens.quoted
        begun = cursor.key
        return tuple(sorted(_rests(cursor.keys, begun))), begun if next(
            self._declared(begun), None
        ) is not None else None

    def _declared(self, begun: str) -> Iterator[str]:
        """The declared names that begin so, without their beginning."""
        return (name[len(begun) :] for name in alike(self._pushdown.names, begun))

    def narrow(self, row: bitmask.Row, at: Position) -> Iterator[None]:
        """Clear in `row`, the mask of `at.wide`, what the guards forbid, and set what only marks stand in the way of:
        done at the end of this, which stops every millisecond or so on the way. Raises LostWay."""
        if self._pushdown.marked and at.place.in_document:
            yield from self._past_keys(row, at)
        if at.cursor.in_string:
            yield from self._in_string(row, at, at.place.asked or self._look(at))
        else:
            yield from self._outside(row, at)

    def _past_keys(self, row: bitmask.Row, at: Position) -> Iterator[None]:
        """Set the tokens that go on behind an undeclared key, which the compiler's matcher takes with marks alone. Of
        those that end this key some are left to be judged by its text, or by what is counted behind it."""
        keys = self._tokens.keys
        if not at.cursor.is_key:
            yield from self._set(row, at, keys.whole if at.cursor.expects else keys.later)
        elif self._picky:
            yield from self._set(row, at, keys.past)
        else:
            cut = at.cursor.in_escape or at.place.inside
            for stack in at.place.stacks:
                if string_rule(stack) is not None:
                    row |= yield from self._beyond(stack, cut=cut)

    def _beyond(self, stack: Stack, *, cut: bool) -> Pieces[bitmask.Row]:
        """The tokens that end the key on this stack and go on behind it, if all guards hold; `cut`: it stands within a
        character or an escape."""
        known = self._behind_keys.get(stack)
        if known is not None:
            return known
        run, rule, rest = self._pushdown.run, stack.symbol, stack.rest
        marked = rest is not None and rest.symbol is not None and rest.symbol.is_mark
        simple = marked and not cut and isinstance(rule, Nonterminal)
        start = self._pushdown.place([rest if simple and rest is not None else stack])
        first, legal = start.first_bytes(), list[int]()
        whole = ((token, b"", text) for token, text in self._tokens.keys.past.items())
        for number, (token, head, tail) in enumerate(self._tokens.past_keys if simple else whole, 1):
            if number % _at_one_go(len(start.stacks)) == 0:
                yield
            if not (first >> tail[0] & 1 and run(start, tail).stacks):
                continue
            if not simple or (isinstance(rule, Nonterminal) and self._ends(rule, head)):
                legal.append(token)
        if len(self._behind_keys) >= _MOST_ROWS:
            self._behind_keys.clear()
        known = self._behind_keys[stack] = bitmask.from_ids(legal, self._vocabulary.size)
        return known

    def _ends(self, rule: Nonterminal, head: bytes) -> bool:
        """Whether the rest of a key can be this, quote included: the same for all rules with one skeleton."""
        known = self._key_ends.get((rule.shared, head))
        if known is None:
            start = self._pushdown.alone(rule)
            known = self._key_ends[rule.shared, head] = bool(self._pushdown.run(start, head).stacks)
        return known

    def _set(self, row: bitmask.Row, at: Position, tokens: Collection[int]) -> Iterator[None]:
        """Set those of these tokens through which the document can be followed."""
        dead = set((yield from self._dead(at, tokens)))
        for token in tokens:
            if token not in dead:
                bitmask.set_bit(row, token)

    def _dead(self, at: Position, tokens: Iterable[int]) -> Pieces[list[int]]:
        """Those of these tokens through which the document cannot be followed. Raises LostWay."""
        ahead, found = _Ahead(self._pushdown, self._tokens, self._texts, at), list[int]()
        for number, token in enumerate(tokens, 1):
            if number % _at_one_go(len(at.place.stacks)) == 0:
                yield
            if not ((yield from ahead.looks(token)) if self._looks_ahead else ahead.lives(token)):
                found.append(token)
        return found

    def _along(self, texts: Iterable[bytes]) -> Pieces[list[int]]:
        """The tokens along these texts."""
        found = list[int]()
        for number, text in enumerate(texts, 1):
            if number % (_PIECE // _A_KEY) == 0:
                yield
            found += self._vocabulary.beside(text)
        return found

    def _outside(self, row: bitmask.Row, at: Position) -> Iterator[None]:
        """By the first byte: whether guards let all pass, none, or some."""
        tokens = self._tokens
        doubtful = bitmask.ids(row & self._structural).tolist()
        key_may_come = _before_key(at.cursor)
        if key_may_come:
            doubtful += yield from self._before_keys(row, at)
        bytes_ahead = at.wide.first_bytes() & (gated(at.place) if at.place is at.wide else -1)
        for byte in states_of(bytes_ahead):
            open_to = open_move(self._pushdown, at.wide, byte)
            lets = (yield from looked(self._pushdown, at, bytes((byte,)))).place
            if lets is open_to:
                continue
            starting = tokens.starting(byte)
            left = [stack for stack in open_to.stacks if stack not in lets.stacks]
            spelled = [stack.symbol.text for stack in left if isinstance(stack.symbol, Literal)]
            if not lets.stacks:
                row &= ~starting
            elif key_may_come and byte == _QUOTE and not (_undeclared(lets) and any(map(string_rule, left))):
                continue  # the mask is that of declared keys by now, or of all others
            elif len(spelled) == len(left):
                doubtful += yield from self._along(bytes((byte,)) + text for text in spelled)
            else:
                doubtful += bitmask.ids(row & starting).tolist()
        if self._distinct:
            doubtful += yield from self._alike(row, at, b'"')
        yield from self._keep(row, at, bitmask.among(row, doubtful))

    def _alike(self, row: bitmask.Row, at: Position, quote: bytes) -> Pieces[list[int]]:
        """The tokens after which an open item may be like one before, of an array that holds no value twice; those that
        open a string where there is a `quote`."""
        values = [value for doubt in doubts(at.place, at.cursor) for value in doubt.values(at.cursor)]
        if not values:
            return []
        if at.place.inside:
            return [*bitmask.ids(row).tolist()]  # any may end the character that the values go on with
        tokens = self._tokens
        begun = "" if quote else open_string(at.cursor)
        rests = {text[len(begun) :] for text in strings(values) if text.startswith(begun)}
        found = yield from self._along(quote + as_written(text) for text in rests)
        found += [] if quote else [token for text in rests for token in tokens.closers.get(text, ())]
        others = row & ~tokens.starting(_QUOTE) if quote else row & tokens.reopening
        return list(dict.fromkeys([*found, *bitmask.ids(others).tolist()]))

    def _keep(self, row: bitmask.Row, at: Position, tokens: Iterable[int]) -> Iterator[None]:
        """Clear those of these tokens through which the document cannot be followed."""
        for token in (yield from self._dead(at, tokens)):
            bitmask.clear(row, token)

    def _before_keys(self, row: bitmask.Row, at: Position) -> Pieces[list[int]]:
        """Clear the tokens that begin no key which may come, as far as that is told without following them; those of
        which it is not."""
        behind = (yield from looked(self._pushdown, at, b'"')).place
        open_to = open_move(self._pushdown, at.wide, _QUOTE)
        regions = (at.place.asked or self._look(at)).members
        if not behind.stacks:
            return []
        if not _undeclared(behind):
            only = _undeclared(open_to)
            return (yield from self._only_declared(row, at, regions, b'"', only=only)) if regions else []
        barred = yield from self._barred(at, behind, b'"')
        if not regions or not self._pushdown.picky:
            return barred
        names = set(self._pushdown.names).difference(self._opened(regions, at.cursor, behind, self._pushdown.names))
        return barred + (yield from self._along(b'"' + as_written(name) for name in names))

    def _barred(self, at: Position, place: Place, quote: bytes) -> Pieces[list[int]]:
        """The tokens along declared keys that may not come at a place in a key, unless another key may go on as they
        do; behind the opening quote, or with it."""
        if any(_takes_any(rule) for rule in map(string_rule, place.stacks) if rule is not None):
            return []
        everywhere = members(at.wide, in_string=at.cursor.in_string)
        names = set[str]().union(*self._names.split(everywhere, at.cursor))
        names -= self._opened((at.place.asked or self._look(at)).members, at.cursor, place, names)
        begun = len(at.cursor.raw)
        return (yield from self._along(quote + as_written(name)[begun:] for name in names))

    def _opened(self, regions: list[Members], cursor: Cursor, place: Place, names: Collection[str]) -> set[str]:
        """Those of the names that may come at a place in a key; none where it is spelled as no declared one is."""
        reached = any(string_rule(stack) is None for stack in place.stacks)
        return opened(regions, cursor, names) if reached else set()

    def _only_declared(
        self, row: bitmask.Row, at: Position, regions: list[Members], quote: bytes, *, only: bool
    ) -> Pieces[list[int]]:
        """The same where nothing but declared keys may come: behind the opening quote, or with it. `only`: the mask
        holds other keys too."""
        legal, barred = self._names.split(regions, at.cursor)
        begun, within = len(at.cursor.raw), row & self._tokens.starting(_QUOTE) if quote else row
        if not barred and not only:
            return []
        if not only and _A_KEY * len(barred) < _A_NAME * len(legal):
            return (yield from self._along(quote + as_written(name)[begun:] for name in barred))
        if _A_TOKEN * bitmask.popcount(within) < _A_NAME * len(legal):
            return list(map(int, bitmask.ids(within)))
        along, ending, seen = list[int](), list[int](), set[bytes]()
        for number, name in enumerate(legal, 1):
            text = quote + as_written(name)[begun:]
            along += self._vocabulary.along(text, seen)
            ending += self._vocabulary.behind(text)
            if number % (_PIECE // _A_NAME) == 0:
                yield
        left = bitmask.from_ids(along + ending, self._vocabulary.size)
        row &= left | ~self._tokens.starting(_QUOTE) if quote else left
        return ending if len({(r.names, r.required) for r in regions}) == len(regions) else along + ending

    def _in_declared(self, row: bitmask.Row, at: Position, asked: Asked) -> Iterator[None]:
        """Within a key that can only be a declared one."""
        regions = asked.members
        doubtful = []
        if regions:
            doubtful = yield from self._only_declared(row, at, regions, b"", only=_undeclared(at.wide))
        if self._pushdown.distinct:
            doubtful += yield from self._alike(row, at, b"")
        cut = at.cursor.in_escape or at.place.inside
        doubtful += bitmask.ids(row & (self._tokens.marked if cut else self._past_keys_row)).tolist()
        yield from self._keep(row, at, bitmask.among(row, doubtful))

    def _in_document(self, row: bitmask.Row, at: Position) -> Iterator[None]:
        """Within a string that holds a document: where that is in a string itself, a token without quote or backslash
        only adds characters."""
        levels, stacks = list(_levels(at)), at.place.stacks
        marked, at_most = self._tokens.marked, self._tokens.at_most
        cut = at.place.inside or any(cursor.in_escape for cursor in levels)  # a character is not counted yet
        keys = [] if cut else [cursor for cursor in levels[1:] if cursor.is_key]
        towards = yield from self._towards_within(keys)
        spelled = [stack.symbol.text for stack in stacks if isinstance(stack.symbol, Literal)]
        doubtful: list[int] | None = None
        if keys and all(isinstance(stack.symbol, Literal) or _declared_key(stack) for stack in stacks):
            row &= marked | bitmask.from_ids([*towards, *(yield from self._along(spelled))], self._vocabulary.size)
        elif all(cursor.in_string for cursor in levels):
            doubtful = yield from self._dropped(at)
        asked = (rule.guards for rule in map(string_rule, stacks) if rule is not None)
        letters = any(isinstance(bare(guard), Letter) for guards in asked for guard in guards)
        if doubtful is None or letters or (cut and any(cursor.is_key for cursor in levels)):
            yield from self._keep(row, at, bitmask.ids(row).tolist())
            return
        doubtful += towards
        rooms = list[tuple[int, int]]()
        for stack in stacks:
            rooms.append((yield from self._room_within(stack, levels)))
        row &= marked | at_most(max(room for room, _ in rooms) + (_ESCAPE if cut else 0))
        sure = at_most(min(surely for _, surely in rooms) - cut)
        yield from self._keep(row, at, bitmask.among(row, [*doubtful, *bitmask.ids(row & (marked | ~sure)).tolist()]))

    def _towards_within(self, keys: Iterable[Cursor]) -> Pieces[list[int]]:
        """The tokens without quote or backslash that may make these open keys ones that are declared, or that their
        objects have."""
        rests = set[str]()
        for cursor in keys:
            begun = cursor.key
            rests.update(name[len(begun) :] for name in alike(self._names_within, begun))
            rests.update(_rests(cursor.keys, begun))
        return (yield from self._along(rest.encode("utf-8", "surrogatepass") for rest in rests if rest))

    def _room_within(self, stack: Stack, levels: Sequence[Cursor]) -> Pieces[tuple[int, int]]:
        """Characters that may come as long as all strings stay open, and up to which all guards hold."""
        rule = string_rule(stack)
        region = string_length(rule)
        most = surely = NEVER
        if rule is not None and region is not None:
            most = NEVER if region.high is None else region.high - levels[max(map(depth, rule.guards))].chars
            surely = most - self._costs_within.get(region, self._costs.get(region, 0))
        if stack.holds and roughly(stack, levels[0]) < self._far:
            left = (yield from spare(stack, levels[0])) if rule is not None and _takes_any(rule) else 0
            return min(most, room(stack, levels[0])), max(0, min(surely, left))
        return most, surely

    def _in_string(self, row: bitmask.Row, at: Position, asked: Asked) -> Iterator[None]:
        if at.cursor.is_key and not _undeclared(at.place):
            yield from self._in_declared(row, at, asked)
            return
        spelled = [stack.symbol.text for stack in at.place.stacks if isinstance(stack.symbol, Literal)]
        if len(spelled) == len(at.place.stacks) and at.place is not at.wide:
            yield from self._only(row, at, spelled)
            return
        if at.wide.depth:
            yield from self._in_document(row, at)
            return
        matching = [string_pattern(string_rule(stack)) for stack in at.place.stacks]
        if any(matching):
            yield from self._match(row, at, matching)
            return
        doubtful = yield from self._dropped(at)
        if doubtful is not None and at.cursor.is_key:
            doubtful += yield from self._barred(at, at.place, b"")
        if doubtful is not None and self._distinct:
            doubtful += yield from self._alike(row, at, b"")
        if doubtful is None:
            yield from self._keep(row, at, bitmask.ids(row).tolist())
            return
        cut = at.cursor.in_escape or at.place.inside
        alike = yield from self._fit(row, at, cut=cut)
        if cut:
            closing = row & self._tokens.marked
        elif not alike:
            closing = row & self._tokens.closing
        else:
            if asked.frames and not at.cursor.is_key:
                yield from self._behind(row, at, doubtful)
            closing = row & (self._past_keys_row if at.cursor.is_key else self._deep)
        doubtful += bitmask.ids(closing).tolist()
        if at.cursor.is_key and self._unrepeated:
            doubtful += yield from self._taken(at.cursor)
        yield from self._keep(row, at, bitmask.among(row, doubtful))

    def _taken(self, cursor: Cursor) -> Pieces[list[int]]:
        """The tokens that may make the open key one that is declared, or that the object has."""
        begun = cursor.key
        declared = self._declaring.get(begun)
        if declared is None:
            declared = yield from self._towards(list(self._declared(begun)))
            if declared:
                self._declaring[begun] = declared
        return [*declared, *(yield from self._towards(list(_rests(cursor.keys, begun))))]

    def _towards(self, rests: Sequence[str]) -> Pieces[list[int]]:
        """The tokens that end a key in one of these ways, or, where its characters are asked, may do."""
        ends = [token for rest in rests for token in self._tokens.closers.get(rest, ())]
        return [*ends, *(yield from self._along(map(as_written, rests)))] if self._picky else ends

    def _match(self, row: bitmask.Row, at: Position, regions: list[Matching | None]) -> Iterator[None]:
        """Clear the tokens that go on as no pattern does by its counts. Those that are short pass as they are, others
        that leave the string open are read by the patterns alone."""
        chars = at.cursor.chars
        reached = [(r, state) for r in regions if r and (state := at.cursor.reached(r.automaton)) is not None]
        if at.cursor.in_escape or at.place.inside or len(reached) < len(regions):
            yield from self._keep(row, at, bitmask.ids(row).tolist())
            return
        sure = min(region.alike_for(state, chars) for region, state in reached) if at.place is at.wide else 0
        marked = self._tokens.marked
        cut: list[int] = []
        for number, token in enumerate(bitmask.ids(row & ~marked & ~self._tokens.at_most(sure)).tolist(), 1):
            if number % _PIECE == 0:
                yield
            try:
                text = (self._texts[token] or b"").decode()
            except UnicodeDecodeError:
                cut.append(token)
                continue
            ends = ((region, region.automaton.run(state, text)) for region, state in reached)
            if not any(end is not None and region.fits(end, chars + len(text)) for region, end in ends):
                bitmask.clear(row, token)
        doubtful = [*cut, *bitmask.ids(row & marked).tolist()]
        doubtful += (yield from self._alike(row & ~marked, at, b"")) if self._distinct else []
        yield from self._keep(row, at, bitmask.among(row, doubtful))

    def _behind(self, row: bitmask.Row, at: Position, doubtful: list[int]) -> Iterator[None]:
        """Clear the tokens that go on in a wrong way behind a string that may be closed: one of each text behind it is
        followed, none of those that are `doubtful` for themselves."""
        apart, groups = set(doubtful), dict[int, list[int]]()
        closing = bitmask.ids(row & self._closing)
        for token, tail in zip(closing.tolist(), self._tokens.tails[closing].tolist(), strict=True):
            if token not in apart:
                groups.setdefault(tail, []).append(token)
        dead = set((yield from self._dead(at, [group[0] for group in groups.values()])))
        for token in (token for group in groups.values() if group[0] in dead for token in group):
            bitmask.clear(row, token)

    def _fit(self, row: bitmask.Row, at: Position, *, cut: bool) -> Pieces[bool]:
        """Clear the tokens that are too long, or close the string too soon; whether all stacks ask the same.

        `cut`: a character or escape is not finished, so that a token may begin with up to _ESCAPE bytes of it.
        """
        tokens, chars = self._tokens, at.cursor.chars
        rules = [string_rule(stack) for stack in at.place.stacks]
        lengths = [string_length(rule) for rule in rules]
        rooms = [NEVER if r is None or r.high is None else r.high - chars for r in lengths]
        sure = [room - self._costs.get(r, 0) if r is not None else room for r, room in zip(lengths, rooms, strict=True)]
        perhaps = max(rooms)
        surely = max(sure) if len({rule and rule.shared for rule in rules}) == 1 else min(sure)
        if perhaps < tokens.reach.chars:
            row &= tokens.at_most(perhaps + (_ESCAPE if cut else 0))
        low = min(0 if r is None else r.low for r in lengths) - chars
        if low > 0 and not cut:
            row &= tokens.closing_from(low)
        if surely < tokens.reach.chars and (surely < perhaps or cut):
            yield from self._keep(row, at, bitmask.ids(row & ~tokens.at_most(surely)).tolist())
        if at.cursor.is_key:
            return lengths.count(lengths[0]) == len(lengths)
        return len({(rule and rule.shared, length) for rule, length in zip(rules, lengths, strict=True)}) == 1

    def _only(self, row: bitmask.Row, at: Position, spelled: list[bytes]) -> Iterator[None]:
        """Nothing but tokens along these texts, which are all that guards have left."""
        tokens = dict.fromkeys((yield from self._along(spelled)))
        legal = [token for token in tokens if bitmask.legal(row, token)]
        row[:] = bitmask.from_ids(legal, self._vocabulary.size)
        yield from self._keep(row, at, legal)

    def _dropped(self, at: Position) -> Pieces[list[int] | None]:
        """The tokens that may be in the mask only for stacks that guards have cut off; None where that may be most."""
        if at.place is at.wide:
            return []
        rules = {stack: rule for stack in at.place.stacks if (rule := string_rule(stack)) is not None}
        kept = {rule.shared for rule in rules.values()}
        left = set(at.wide.stacks).difference(at.place.stacks)
        any_of = None if self._picky else next(iter(rules), None)
        found: list[int] = []
        for stack in left:
            if _declared_key(stack) or (at.cursor.is_key and string_rule(stack) is None):
                continue  # a declared key that cannot come
            if isinstance(stack.symbol, Literal):
                found += yield from self._only_beside(stack.symbol.text, any_of)
            elif (rule := string_rule(stack)) is None or rule.shared not in kept:
                return None
        return found

    def _only_beside(self, text: bytes, other: Stack | None) -> Pieces[Sequence[int]]:
        """The tokens along this text, without those that leave the string open on the `other` stack too."""
        beside = self._vocabulary.beside(text)
        if other is None:
            return beside
        place = self._pushdown.place([other])
        if text not in place.beside:
            yield
            run, tails = self._pushdown.run, self._tokens.tails
            place.beside[text] = [t for t in beside if tails[t] >= 0 or not run(place, self._texts[t] or b"").stacks]
        return place.beside[text]


class _Ahead:
    """Whether tokens can follow a position. What several of them begin with is followed once."""

    def __init__(self, pushdown: Pushdown, tokens: StringTokens, texts: Sequence[bytes | None], at: Position) -> None:
        self._pushdown, self._tokens, self._texts, self._at = pushdown, tokens, texts, at
        cursor = at.cursor
        self._whole = not cursor.in_string or cursor.in_escape or at.place.inside
        self._heads: dict[bytes, tuple[Position, int]] = {}

    def looks(self, token: int) -> Pieces[bool]:
        """The same with a look ahead, where items must differ."""
        behind = yield from looked(self._pushdown, self._at, self._texts[token] or b"")
        return bool(behind.place.stacks)

    def lives(self, token: int) -> bool:
        """Whether the document can be followed through it. Raises LostWay."""
        text = self._texts[token] or b""
        if self._whole:
            return bool(followed(self._pushdown, self._at, text).place.stacks)
        head, tail = self._tokens.cut(token, text)
        if head not in self._heads:
            behind = followed(self._pushdown, self._at, head)
            self._heads[head] = behind, behind.place.first_bytes()
        behind, first = self._heads[head]
        if not tail or not first >> tail[0] & 1:
            return not tail and bool(behind.place.stacks)
        if not (self._at.cursor.is_key and self._tokens.within_value[tail]):
            return bool(followed(self._pushdown, behind, tail).place.stacks)
        known = behind.place.tails  # guards within a value look at what it opens itself
        if tail not in known:
            known[tail] = bool(followed(self._pushdown, behind, tail).place.stacks)
        return known[tail]


def _levels(at: Position) -> Iterator[Cursor]:
    """The document, and those that open strings hold, outermost first."""
    cursor = at.cursor
    yield cursor
    for _ in range(at.wide.depth):
        cursor = cursor.inner
        yield cursor


def _counted_within(at: Position, *, whole: bool) -> Hashable:
    """What guards see of the documents in open strings; all of it where they see the `whole` text."""
    _, *inner = _levels(at)
    return tuple(map(_seen, inner)), at.cursor.letters if whole else None


def _seen(cursor: Cursor) -> Hashable:
    frames, frame = list[Hashable](), cursor.frame
    while frame is not None:
        frames.append((None if frame.keys is None else frozenset(frame.keys), frame.count, frame.last))
        frame = frame.outside
    return (*frames, cursor.expects, cursor.in_string, cursor.chars, cursor.raw, cursor.escape)


def _takes_any(rule: Nonterminal) -> bool:
    """Whether a string goes on from this rule with any text. A rule that says it in another way is taken for a narrower
    one, which costs time alone."""
    return any(
        len(way) == 2 and way[1] is rule and isinstance(way[0], Character) and way[0].node is _ANY
        for way in rule.alternatives
    )


def _before_key(cursor: Cursor) -> bool:
    return cursor.expects and cursor.frame is not None and cursor.frame.keys is not None


def _undeclared(place: Place) -> bool:
    """Whether the open key can be one that is not declared."""
    return any(string_rule(stack) is not None for stack in place.stacks)


def _declared_key(stack: Stack) -> bool:
    """Whether a declared key stands first on it, and it is not told yet which."""
    return isinstance(stack.symbol, Nonterminal) and stack.symbol.spells_keys


def _asks_at_once(stack: Stack | None) -> bool:
    while stack is not None and stack.symbol is not None:
        if isinstance(stack.symbol, Nonterminal) and stack.symbol.guards:
            return True
        stack = stack.rest if stack.symbol.nullable else None
    return False


def _rests(keys: Set[str], begun: str) -> Iterator[str]:
    return (key[len(begun) :] for key in keys if key.startswith(begun))


def _at_one_go(stacks: int) -> int:
    """Tokens that may be followed on so many stacks before somebody else has a turn."""
    return 1 + _PIECE // (_A_TOKEN + stacks * (1 if stacks <= _FEW_STACKS else _NEW))
