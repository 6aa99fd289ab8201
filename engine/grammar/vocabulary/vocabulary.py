"""The vocabulary as the matcher sees it: text tokens by their bytes, everything else never text.

Special and added tokens are entered behind byte 0xFF, which no UTF-8 text contains, so that no character class reaches
them while structural tags can still name them by id; padding ids are entered empty, which the matcher never allows.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property, reduce
from itertools import chain
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import xgrammar as xgr

from engine.errors import ModelError
from engine.grammar.masks import bitmask
from engine.grammar.masks.mask_cache import MaskCache
from engine.grammar.sealed_files import read_sealed, write_sealed
from engine.grammar.shared.shared_rules import SharedRules
from engine.grammar.shared.table_budget import TableBudget
from engine.grammar.vocabulary.shortest_tokenization import Segmenter
from engine.grammar.vocabulary.string_tokens import StringTokens
from engine.grammar.vocabulary.token_texts import TextTable
from engine.grammar.vocabulary.utf8 import ByteNode, byte_automaton, can_occur
from engine.interfaces import Tokenizer

_MOST_BESIDE = 10_000
_MOST_BEGINNINGS = 1_000
"""Rows, of 19 kB for 150,000 tokens."""
_ALL = ((0, 0x10FFFF),)


class _Built:
    """What all engines of a process share that have the same vocabulary."""

    def __init__(self, table: TextTable, size: int, stop_token_ids: tuple[int, ...], fingerprint: str) -> None:
        self.table = table
        self.size = size
        self.stop_token_ids = stop_token_ids
        self.fingerprint = fingerprint
        entries = table.entries()
        self.info = xgr.TokenizerInfo(entries, xgr.VocabType.RAW, vocab_size=size, stop_token_ids=list(stop_token_ids))

    @cached_property
    def segmenter(self) -> Segmenter:
        return Segmenter(self.table)

    @cached_property
    def texts(self) -> list[bytes | None]:
        known: list[bytes | None] = [text or None for text in self.table.texts]
        return known + [None] * (self.size - len(known))

    @cached_property
    def string_tokens(self) -> StringTokens:
        return StringTokens(self.texts)


_BUILT: WeakValueDictionary[str, _Built] = WeakValueDictionary()
"""By fingerprint, for as long as an engine uses it."""


class Vocabulary:
    """Once per engine. 20 MB at V = 151,936."""

    def __init__(self, built: _Built) -> None:
        self._built = built
        self.size = built.size
        self.stop_token_ids = built.stop_token_ids
        self.fingerprint = built.fingerprint
        self.masks = MaskCache()
        """Masks of all grammars over this vocabulary."""
        self._beside: dict[bytes, tuple[int, ...]] = {}
        self._beginning: dict[bytes, bitmask.Row] = {}
        self._behind_bytes: dict[ByteNode, bitmask.Row] = {}
        self.allowance = TableBudget()
        """What the tables of all grammars over this vocabulary may hold."""
        self.known = SharedRules(self.allowance)
        """Rules of JSON grammars."""

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocab_size: int, *, cache_dir: Path | None = None) -> Vocabulary:
        """`vocab_size` is V, the width of the logits. ModelError when an id of the tokenizer has no logit.

        0.5 s from the tokenizer, 0.1 s from the cache folder, nothing where another engine of the process has the same.
        """
        stop_token_ids = tuple(tokenizer.stop_token_ids)
        if tokenizer.vocab_size > vocab_size or max(stop_token_ids) >= vocab_size:
            raise ModelError(
                f"the tokenizer has {tokenizer.vocab_size} ids and stop ids {list(stop_token_ids)}, "
                f"the logits only {vocab_size}",
                param="tokenizer",
            )
        fingerprint = _fingerprint(tokenizer, vocab_size)
        path = None if cache_dir is None else cache_dir / f"vocabulary-{fingerprint}.bin"
        built = _BUILT.get(fingerprint)
        if built is None:
            table = _table(tokenizer, path)
            built = _BUILT.setdefault(fingerprint, _Built(table, vocab_size, stop_token_ids, fingerprint))
        if path is not None and not path.exists():  # a first one, or built for another folder
            write_sealed(path, built.table.to_bytes())
        return cls(built)

    @classmethod
    def from_bytes(cls, content: bytes) -> Vocabulary:
        """The inverse of `to_bytes`. 0.1 s."""
        head, _, table = content.partition(b"\n")
        about = json.loads(head)
        about["stop_token_ids"] = tuple(about["stop_token_ids"])
        return cls(_Built(TextTable.from_bytes(table), **about))

    def to_bytes(self) -> bytes:
        """What another process makes the same vocabulary of."""
        about = {"size": self.size, "stop_token_ids": self.stop_token_ids, "fingerprint": self.fingerprint}
        return json.dumps(about).encode() + b"\n" + self._built.table.to_bytes()

    @property
    def info(self) -> xgr.TokenizerInfo:
        """The vocabulary as XGrammar holds it."""
        return self._built.info

    @property
    def texts(self) -> list[bytes | None]:
        """Bytes of every text token by id, None elsewhere; length V."""
        return self._built.texts

    @property
    def segmenter(self) -> Segmenter:
        """Cuts bytes into the fewest tokens of this vocabulary. 0.1 s, once."""
        return self._built.segmenter

    @property
    def string_tokens(self) -> StringTokens:
        """What each token does to an open JSON string. 0.2 s, once."""
        return self._built.string_tokens

    def beside(self, text: bytes) -> tuple[int, ...]:
        """The tokens that are a beginning of `text`, or go on behind it. 20 microseconds, then remembered."""
        found = self._beside.get(text)
        if found is None:
            if len(self._beside) >= _MOST_BESIDE:
                self._beside.clear()
            found = self._beside[text] = tuple(self._find_beside(text))
        return found

    def _find_beside(self, text: bytes) -> list[int]:
        return self.along(text, set()) + self.behind(text)

    def along(self, text: bytes, seen: set[bytes]) -> list[int]:
        """The tokens that are a beginning of `text`, but for those `seen` already. A microsecond for 8 bytes."""
        found, table = list[int](), self._built.table
        for end in range(1, len(text)):
            if (piece := text[:end]) not in seen:
                seen.add(piece)
                if piece in table.ids:
                    found += (table.ids[piece], *table.repeated.get(piece, ()))
        return found

    def behind(self, text: bytes) -> list[int]:
        """The tokens that begin with `text`."""
        table, texts = self._built.table, self.segmenter.sorted_texts
        first = bisect_left(texts, text)
        last = bisect_left(texts, text + b"\xff", first)  # no text holds this byte
        again = (ids for one, ids in table.repeated.items() if one.startswith(text))
        return [*table.order[first:last].tolist(), *chain.from_iterable(again)]

    def beginning_with(self, text: bytes) -> bitmask.Row:
        """The tokens that begin with `text`, as a row. 0.1 milliseconds, then remembered."""
        if len(text) == 1:
            return self.string_tokens.starting(text[0])
        found = self._beginning.get(text)
        if found is None:
            if len(self._beginning) >= _MOST_BEGINNINGS:
                self._beginning.clear()
            found = self._beginning[text] = bitmask.from_ids(self.behind(text), self.size)
        return found

    def beginning_with_any(self, texts: Sequence[bytes]) -> bitmask.Row:
        """The tokens that begin with one of these."""
        longer = [text for text in texts if len(text) > 1]
        row = self.string_tokens.starting_with_any(text[0] for text in texts if len(text) == 1)
        return reduce(np.bitwise_or, map(self.beginning_with, longer), row)

    @cached_property
    def free_row(self) -> bitmask.Row:
        """The mask of free text: every text token and the stop ids; no other special id, no padding."""
        return self.string_tokens.texts | bitmask.from_ids(self.stop_token_ids, self.size)

    def whole_characters(self, begun: bytes) -> bitmask.Row:
        """The tokens behind a text that ends with these bytes of a character (none: with a whole one), so that it stays
        UTF-8. A millisecond for 150,000 texts, then remembered."""
        node = byte_automaton(_ALL)
        for byte in begun:
            node = node.moves[byte] or node
        found = self._behind_bytes.get(node)
        if found is None:
            row = self.string_tokens.starting_with_any(range(0x80, 0xC0))
            if begun:
                row = bitmask.from_ids([t for t, text in self.legal(row) if can_occur(begun + text)], self.size)
            found = self._behind_bytes[node] = row if begun else ~row
        return found

    @cached_property
    def free_count(self) -> int:
        """How many ids free text may use."""
        return bitmask.popcount(self.free_row)

    def legal(self, row: bitmask.Row) -> list[tuple[int, bytes]]:
        """The tokens of a mask with their bytes. 10 milliseconds for a full one."""
        ids = bitmask.to_bools(row, self.size).nonzero()[0]
        return [(int(token), self.texts[token] or b"") for token in ids]


def _table(tokenizer: Tokenizer, path: Path | None) -> TextTable:
    stored = None if path is None else read_sealed(path)
    if stored is not None:
        return TextTable.from_bytes(stored)
    return TextTable.of([_text(tokenizer, token_id) for token_id in range(tokenizer.vocab_size)])


def _text(tokenizer: Tokenizer, token_id: int) -> bytes | None:
    """The bytes a token writes; None for special, padding and unknown ids, and for bytes no UTF-8 text can hold.

    The last are kept out because xgrammar checks a character's later bytes only when it is complete: after byte
    0xE0 it would let 0x88 pass and then know no way on.
    """
    if token_id in tokenizer.stop_token_ids:
        return None
    text = tokenizer.token_bytes(token_id)
    return text if text is None or text.isascii() or can_occur(text) else None


def _fingerprint(tokenizer: Tokenizer, vocab_size: int) -> str:
    parts = (tokenizer.fingerprint, vocab_size, tuple(tokenizer.stop_token_ids), "texts-3")
    return hashlib.sha256(repr(parts).encode()).hexdigest()
