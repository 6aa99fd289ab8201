"""Shortest texts of rules: how long each is (Knuth 1977), and the text itself where somebody asks for it.

Knows grammars only. n log n in the size of the grammar; a text is spelled in the time it takes to write it down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush

from engine.errors import LimitExceeded
from engine.schema.grammar import Chars, Ref, Rule, Sequence, Text

Rules = Mapping[str, Rule]
ASCII = 0x80
LONGEST = 1 << 20
"""Bytes of a shortest text; a schema that needs more is refused."""


class Shortest(Mapping[str, str]):
    """A shortest text (in UTF-8 bytes) of every rule that derives one. `known`: those of rules that are not there."""

    def __init__(self, rules: Rules, known: Mapping[str, str] | None = None) -> None:
        self._texts = dict(known or {})
        self._chosen: dict[str, Sequence] = {}
        self._sizes = {name: _size(text) for name, text in self._texts.items()}
        _Search(rules, self._sizes, self._chosen).run()

    def __contains__(self, name: object) -> bool:
        return name in self._sizes

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, name: str) -> str:
        if name not in self._sizes:
            raise KeyError(name)
        parts: list[str] = []
        stack: list[Ref | Text | Chars] = [Ref(name)]
        while stack:
            symbol = stack.pop()
            if not isinstance(symbol, Ref):
                parts.append(symbol.text if isinstance(symbol, Text) else chr(_plainest(symbol)))
            elif symbol.name in self._texts:
                parts.append(self._texts[symbol.name])
            else:
                stack.extend(reversed(self._chosen[symbol.name]))
        return "".join(parts)


class _Search:
    """Rules in the order of their sizes. Of equal ones that which was found first wins: no later one is waited for."""

    def __init__(self, rules: Rules, sizes: dict[str, int], chosen: dict[str, Sequence]) -> None:
        self.rules = rules
        self.sizes = sizes
        self.chosen = chosen
        self.heap: list[tuple[int, int, str, Sequence]] = []
        self.waiting: dict[str, list[_Alternative]] = {}
        self.serial = 0
        self.best: dict[str, int] = {}
        self.too_long: set[str] = set()

    def run(self) -> None:
        """Fill `sizes` and `chosen`. LimitExceeded where a rule has no text within LONGEST."""
        for name, rule in self.rules.items():
            for sequence in rule.alternatives:
                self._begin(name, sequence)
        while self.heap:
            size, _, name, sequence = heappop(self.heap)
            if name not in self.sizes:
                self.sizes[name] = size
                self.chosen[name] = sequence
                for alternative in self.waiting.pop(name, ()):
                    alternative.size += size
                    alternative.open -= 1
                    if not alternative.open:
                        self._push(alternative.size, alternative.name, alternative.sequence)
        if self.too_long - self.sizes.keys():
            raise LimitExceeded(f"a part's shortest document is over {LONGEST} bytes", param="schema")

    def _begin(self, name: str, sequence: Sequence) -> None:
        """Add up what is known of an alternative; it waits for the rest."""
        size, missing, sizes = 0, [], self.sizes
        for symbol in sequence:
            if isinstance(symbol, Ref):
                known = sizes.get(symbol.name)
                if known is None:
                    missing.append(symbol.name)
                else:
                    size += known
            elif isinstance(symbol, Text):
                size += len(symbol.text) if symbol.text.isascii() else _size(symbol.text)
            else:
                size += 1 if symbol.ranges[0][0] < ASCII else _size(chr(_plainest(symbol)))
        if not missing:
            self._push(size, name, sequence)
            return
        alternative = _Alternative(name, sequence, size, len(missing))
        for part in missing:
            self.waiting.setdefault(part, []).append(alternative)

    def _push(self, size: int, name: str, sequence: Sequence) -> None:
        if size > LONGEST:
            self.too_long.add(name)  # doubling by reference: writing it down would take all memory
        elif name not in self.sizes and size < self.best.get(name, LONGEST + 1):
            self.best[name] = size
            heappush(self.heap, (size, self.serial, name, sequence))
            self.serial += 1


class _Alternative:
    """One way to write a rule: the bytes known so far, and how many of its parts are not."""

    __slots__ = ("name", "open", "sequence", "size")

    def __init__(self, name: str, sequence: Sequence, size: int, missing: int) -> None:
        self.name = name
        self.sequence = sequence
        self.size = size
        self.open = missing


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _plainest(symbol: Chars) -> int:
    for low, high in ((0x61, 0x7A), (0x30, 0x39), (0x41, 0x5A)):
        for first, last in symbol.ranges:
            if first <= high and last >= low:
                return max(first, low)
    return symbol.ranges[0][0]
