"""A compiled grammar as bytes: what the disk cache keeps and what a compile worker sends back.

Knows our grammar form, verdicts and xgrammar's serialised text. Knows no files and no processes.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import Any

import xgrammar as xgr

from engine.grammar.compiler import Compiled
from engine.grammar.packing import NotPackable, pack
from engine.schema.grammar import Chars, Grammar, Ref, Rule, Sequence, Symbol, Text
from engine.schema.verdict import Verdict

_LENGTH_BYTES = 8


def encode(compiled: Compiled) -> bytes:
    """Linear in the grammar except for xgrammar's own printing: 5 ms to 1 s."""
    serialised: str = compiled.raw.serialize_json()
    with contextlib.suppress(NotPackable):
        serialised = pack(serialised)
    grammar = compiled.grammar
    header = {
        "verdicts": [asdict(verdict) for verdict in compiled.verdicts],
        "root": None if grammar is None else grammar.root,
        "rules": [] if grammar is None else [_plain_rule(rule) for rule in grammar.rules.values()],
    }
    head = json.dumps(header, separators=(",", ":")).encode("ascii")
    return len(head).to_bytes(_LENGTH_BYTES, "big") + head + serialised.encode("utf-8")


def decode(content: bytes, info: xgr.TokenizerInfo) -> Compiled:
    """The inverse. Raises ValueError or RuntimeError for what this version cannot read."""
    size = int.from_bytes(content[:_LENGTH_BYTES], "big")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + size])
    raw = xgr.CompiledGrammar.deserialize_json(content[_LENGTH_BYTES + size :].decode("utf-8"), info)
    verdicts = tuple(Verdict(**verdict) for verdict in header["verdicts"])
    if header["root"] is None:
        return Compiled(raw, None, verdicts)
    rules = {plain[0]: _rule(plain) for plain in header["rules"]}
    return Compiled(raw, Grammar(rules, header["root"]), verdicts)


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
