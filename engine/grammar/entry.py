"""A compiled grammar as bytes: what the disk cache keeps and what a compile worker sends back.

Two forms. `masks` is xgrammar's own, made small: it loads without compiling, a large one in two parts (`nearest`). But
xgrammar prints the whole grammar once per rule before it can be made small: a grammar that compiles in 0.2 s can take
16 s and 3 GB to print. Where that is out of proportion, the form is `rules`, what lowering wrote; loading compiles it,
outside the interpreter's lock. So it is for what compiles in a moment.
Knows our grammar form and verdicts. Knows no files and no processes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

from engine.grammar.compiler import Compiled, Compiler
from engine.grammar.nearest import nearest
from engine.grammar.packing import NotPackable, pack
from engine.grammar.recipe import Recipe
from engine.schema.grammar import Chars, Grammar, Ref, Rule, Sequence, Symbol, Text
from engine.schema.guards import packed, unpacked
from engine.schema.verdict import Verdict

_LENGTH_BYTES = 8
_PRINTED_BYTES = 3.5
"""What xgrammar prints, a byte of the grammar and rule; measured: 1.8-4 for all but the smallest."""
_PRINTED_ALWAYS = 4 << 20
_PRINTED_NEVER = 32 << 20
_PRINTED_A_S = 14 << 20
"""What it prints in a second of processor time."""


class StoredRules(Mapping[str, Rule]):
    """Rules as they are stored, read when the first one is asked for: whoever only matches never pays for them."""

    def __init__(self, stored: bytes) -> None:
        self._stored = stored

    @property
    def nbytes(self) -> int:
        """Memory, once they have been read and followed: what is printed in 50 bytes takes 7 times as many."""
        return 8 * len(self._stored)

    @cached_property
    def _rules(self) -> dict[str, Rule]:
        return {plain[0]: _rule(plain) for plain in json.loads(self._stored)}

    def __getitem__(self, name: str) -> Rule:
        return self._rules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def encode(compiled: Compiled, *, quick_s: float = 0.0) -> bytes:
    """As rules where making the masks took up to `quick_s`, or printing them is out of proportion, else as masks.

    A millisecond as rules; as masks 5 ms to twice the time that making them took.
    """
    as_rules = compiled.recipe is not None and (compiled.cooked_s <= quick_s or _is_dear(compiled))
    header = {
        "verdicts": [asdict(verdict) for verdict in compiled.verdicts],
        "root": None if compiled.grammar is None else compiled.grammar.root,
        "form": "rules" if as_rules else "masks",
        "cooked_s": compiled.cooked_s,
        "bytes": int(compiled.whole.memory_size_bytes),
    }
    rules = [] if compiled.grammar is None else [_plain_rule(rule) for rule in compiled.grammar.rules.values()]
    first, whole = (b"", _printed(asdict(compiled.recipe))) if as_rules and compiled.recipe else _masks(compiled)
    parts = (_printed(header), _printed(rules), first)
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts) + whole


def cooking_s(content: bytes) -> float:
    """What making the masks took where these are still to be made, in CPU seconds; 0 where they are there."""
    header = json.loads(_part(content)[0])
    return float(header["cooked_s"]) if header["form"] == "rules" else 0.0


def _is_dear(compiled: Compiled) -> bool:
    text = str(compiled.whole.grammar)
    printed = _PRINTED_BYTES * len(text) * (text.count("\n") + 1)
    return printed > max(_PRINTED_ALWAYS, min(_PRINTED_NEVER, 2 * compiled.cooked_s * _PRINTED_A_S))


def _masks(compiled: Compiled) -> tuple[bytes, bytes]:
    """What a document needs first and all of it, compressed; nothing and all of it where it loads at once."""
    serialised: str = compiled.whole.serialize_json()
    try:
        document = pack(serialised)
    except NotPackable:
        return b"", serialised.encode("utf-8")
    first, whole = nearest(document), _printed(document)
    return (b"", whole) if first is None else (_printed(first), zlib.compress(whole))


def _printed(part: Any) -> bytes:
    return json.dumps(part, separators=(",", ":")).encode("ascii")


def decode(content: bytes, compiler: Compiler, *, at_once: bool = False) -> Compiled:
    """The inverse; our rules are read when they are used. Raises ValueError or RuntimeError for an unknown layout.

    Where there is a first part it returns after 3-8 ms and the rest follows in a thread of the compiler, unless all of
    it is wanted `at_once`.
    """
    head, view = _part(content)
    rules, view = _part(view)
    first, view = _part(view)
    header = json.loads(head)
    verdicts = tuple(Verdict(**verdict) for verdict in header["verdicts"])
    grammar = None if header["root"] is None else Grammar(StoredRules(rules), header["root"])
    if header["form"] == "rules":
        recipe = Recipe(**json.loads(bytes(view)))
        return Compiled(compiler.cook(recipe), grammar, verdicts)
    if at_once or not first:
        whole = zlib.decompress(view) if first else view
        return Compiled(compiler.from_masks(str(whole, "utf-8")), grammar, verdicts)
    raw = compiler.from_masks(str(first, "utf-8"))
    rest = compiler.later(lambda: str(zlib.decompress(view), "utf-8"))
    return Compiled(raw, grammar, verdicts, rest, int(header["bytes"]))


def _part(content: bytes | memoryview) -> tuple[bytes, memoryview]:
    """The part whose length stands in front, and what follows it."""
    view = memoryview(content)
    end = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "big")
    return bytes(view[_LENGTH_BYTES:end]), view[end:]


def _plain_rule(rule: Rule) -> list[Any]:
    ahead = None if rule.lookahead is None else rule.lookahead.ranges
    plain: list[Any] = [rule.name, [[_plain(symbol) for symbol in sequence] for sequence in rule.alternatives], ahead]
    if rule.guards:
        plain.append(packed(rule.guards))
        plain.append(None if rule.least is None else [_plain(symbol) for symbol in rule.least])
    return plain


def _plain(symbol: Symbol) -> Any:
    """A text is a string, a reference a list of its name, a character set a list of ranges."""
    if isinstance(symbol, Text):
        return symbol.text
    return [symbol.name] if isinstance(symbol, Ref) else symbol.ranges


def _rule(plain: list[Any]) -> Rule:
    name, alternatives, ahead, *counted = plain
    ways = tuple(_sequence(parts) for parts in alternatives)
    ahead = None if ahead is None else _chars(ahead)
    if not counted:
        return Rule(name, ways, ahead)
    guards, least = counted
    return Rule(name, ways, ahead, guards=unpacked(guards), least=None if least is None else _sequence(least))


def _sequence(parts: list[Any]) -> Sequence:
    return tuple(Text(part) if isinstance(part, str) else _named(part) for part in parts)


def _named(part: list[Any]) -> Symbol:
    return Ref(part[0]) if isinstance(part[0], str) else _chars(part)


def _chars(ranges: list[list[int]]) -> Chars:
    return Chars(tuple((low, high) for low, high in ranges))
