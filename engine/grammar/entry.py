"""A compiled grammar as bytes: what the disk cache keeps and what a compile worker sends back.

Knows our grammar form, verdicts and xgrammar's serialised text. Knows no files and no processes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import xgrammar as xgr

from engine.grammar.compiler import Compiled
from engine.grammar.packing import NotPackable, pack
from engine.schema.grammar import Chars, Grammar, Ref, Rule, Sequence, Symbol, Text
from engine.schema.verdict import Verdict

_LENGTH_BYTES = 8


class StoredRules(Mapping[str, Rule]):
    """Rules as they are stored, read when the first one is asked for: whoever only matches never pays for them."""

    def __init__(self, stored: bytes) -> None:
        self._stored = stored

    @cached_property
    def _rules(self) -> dict[str, Rule]:
        return {plain[0]: _rule(plain) for plain in json.loads(self._stored)}

    def __getitem__(self, name: str) -> Rule:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def encode(compiled: Compiled) -> bytes:
    """Linear in the grammar except for xgrammar's own printing: 5 ms to 1 s."""
    serialised: str = compiled.raw.serialize_json()
    with contextlib.suppress(NotPackable):
        serialised = pack(serialised)
    grammar = compiled.grammar
    header = {
        "verdicts": [asdict(verdict) for verdict in compiled.verdicts],
        "root": None if grammar is None else grammar.root,
    }
    rules = [] if grammar is None else [_plain_rule(rule) for rule in grammar.rules.values()]
    parts = [json.dumps(part, separators=(",", ":")).encode("ascii") for part in (header, rules)]
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts) + serialised.encode("utf-8")


def decode(content: bytes, info: xgr.TokenizerInfo) -> Compiled:
    """The inverse; rules are read when they are used. Raises ValueError or RuntimeError for an unknown layout."""
    head, rest = _part(content)
    rules, rest = _part(rest)
    header = json.loads(head)
    raw = xgr.CompiledGrammar.deserialize_json(str(rest, "utf-8"), info)
    verdicts = tuple(Verdict(**verdict) for verdict in header["verdicts"])
    grammar = None if header["root"] is None else Grammar(StoredRules(rules), header["root"])
    return Compiled(raw, grammar, verdicts)


def _part(content: bytes | memoryview) -> tuple[bytes, memoryview]:
    """The part whose length stands in front, and what follows it."""
    view = memoryview(content)
    end = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "big")
    return bytes(view[_LENGTH_BYTES:end]), view[end:]


def _plain_rule(rule: Rule) -> list[Any]:
    ahead = None if rule.lookahead is None else rule.lookahead.ranges
    return [rule.name, [[_plain(symbol) for symbol in sequence] for sequence in rule.alternatives], ahead]


def _plain(symbol: Symbol) -> Any:
    """A text is a string, a reference a list of its name, a character set a list of ranges."""
    if isinstance(symbol, Text):
        return symbol.text
    return [symbol.name] if isinstance(symbol, Ref) else symbol.ranges


def _rule(plain: list[Any]) -> Rule:
    name, alternatives, ahead = plain
    return Rule(name, tuple(_sequence(parts) for parts in alternatives), None if ahead is None else _chars(ahead))


def _sequence(parts: list[Any]) -> Sequence:
    return tuple(Text(part) if isinstance(part, str) else _named(part) for part in parts)


def _named(part: list[Any]) -> Symbol:
    return Ref(part[0]) if isinstance(part[0], str) else _chars(part)


def _chars(ranges: list[list[int]]) -> Chars:
    return Chars(tuple((low, high) for low, high in ranges))
