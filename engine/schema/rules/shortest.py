"""Shortest texts of rules: how long each is (Knuth 1977), and the text itself where somebody asks for it.

Knows grammars only. n log n in the size of the grammar; a text is spelled in the time it takes to write it down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from engine.errors import LimitExceeded
from engine.schema.automata.alphabet import plainest
from engine.schema.rules.grammar import Chars, Ref, Rule, Sequence, Symbol, Text, fused

Rules = Mapping[str, Rule]
Ranked = tuple[int, Sequence]
"""A part, and where it stands among others."""
LONGEST = 1 << 20
"""Characters of a shortest text; a schema that needs more is refused."""


@dataclass(frozen=True, slots=True)
class Fewest:
    """All of `always` and `more` of `others` in the order of their ranks, and then `end`; `comma` stands between them,
    and before the first of them where something has come already."""

    always: tuple[Ranked, ...]
    others: tuple[Ranked, ...]
    more: int
    comma: Sequence
    end: Sequence
    begun: bool = False

    def text(self, picked: list[Ranked]) -> Sequence:
        parts: list[Symbol] = []
        for number, (_, part) in enumerate(sorted([*self.always, *picked], key=lambda ranked: ranked[0])):
            parts.extend(self.comma if number or self.begun else ())
            parts.extend(part)
        return fused([*parts, *self.end])


class Shortest(Mapping[str, str]):
    """A shortest text (in code points) of every rule that derives one. `known`: those of rules that are not there;
    `fewest`: what rules with guards must write, one way or another."""

    def __init__(
        self,
        rules: Rules,
        known: Mapping[str, str] | None = None,
        fewest: Mapping[str, tuple[Fewest, ...]] | None = None,
    ) -> None:
        self._texts = dict(known or {})
        self._chosen: dict[str, Sequence] = {}
        self._sizes = {name: len(text) for name, text in self._texts.items()}
        _Search(rules, self._sizes, self._chosen, fewest or {}).run()

    def way(self, name: str) -> Sequence | None:
        """What a shortest text of the rule is made of; None where there is none."""
        return self._chosen.get(name)

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
                parts.append(symbol.text if isinstance(symbol, Text) else chr(plainest(symbol.ranges)))
            elif symbol.name in self._texts:
                parts.append(self._texts[symbol.name])
            else:
                stack.extend(reversed(self._chosen[symbol.name]))
        return "".join(parts)


class _Search:
    """Rules in the order of their sizes. Of equal ones that which was found first wins: no later one is waited for."""

    def __init__(
        self,
        rules: Rules,
        sizes: dict[str, int],
        chosen: dict[str, Sequence],
        fewest: Mapping[str, tuple[Fewest, ...]],
    ) -> None:
        self.rules = rules
        self.fewest = fewest
        self.sizes = sizes
        self.chosen = chosen
        self.heap: list[tuple[int, int, str, Sequence]] = []
        self.waiting: dict[str, list[_Alternative]] = {}
        self.serial = 0
        self.best: dict[str, int] = {}
        self.too_long: set[str] = set()
        self.parts: dict[str, int] = {}
        """Ranks of parts of which some are chosen, by the names they have here: the first to be known are smallest."""

    def run(self) -> None:
        """Fill `sizes` and `chosen`. LimitExceeded where a rule has no text within LONGEST."""
        for name, rule in self.rules.items():
            if name in self.fewest:
                for number, fewest in enumerate(self.fewest[name]):
                    self._begin_fewest(name, fewest, number)
                continue
            for sequence in rule.alternatives if rule.least is None else (rule.least,):
                self._begin(name, sequence)
        while self.heap:
            size, _, name, sequence = heappop(self.heap)
            if name not in self.sizes:
                self.sizes[name] = size
                self.chosen[name] = sequence
                for alternative in self.waiting.pop(name, ()):
                    if name not in self.parts or alternative.takes((self.parts[name], sequence)):
                        alternative.size += size
                        alternative.open -= 1
                        if not alternative.open:
                            self._push(alternative.size, alternative.name, alternative.whole())
        for name in [name for name in self.sizes if "\0" in name]:
            del self.sizes[name]
        if self.too_long - self.sizes.keys():
            raise LimitExceeded(f"a part's shortest document is over {LONGEST} characters", param="schema")

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
            else:
                size += len(symbol.text) if isinstance(symbol, Text) else 1
        if not missing:
            self._push(size, name, sequence)
            return
        alternative = _Alternative(name, sequence, size, len(missing))
        for part in missing:
            self.waiting.setdefault(part, []).append(alternative)

    def _begin_fewest(self, name: str, fewest: Fewest, number: int) -> None:
        """The parts that are always there wait for their rules, those of which some are chosen for one another."""
        if not fewest.more:
            self._begin(name, fewest.text([]))
        elif len(fewest.others) >= fewest.more:
            always = f"{name}\0{number}"
            alternative = _Alternative(name, (), _length(fewest.comma) * fewest.more, 1 + fewest.more, fewest)
            self.waiting[always] = [alternative]
            for place, (rank, part) in enumerate(fewest.others):
                self.parts[f"{always}\0{place}"] = rank
                self.waiting[f"{always}\0{place}"] = [alternative]
                self._begin(f"{always}\0{place}", part)
            self._begin(always, fewest.text([]))

    def _push(self, size: int, name: str, sequence: Sequence) -> None:
        if size > LONGEST:
            self.too_long.add(name)  # doubling by reference: writing it down would take all memory
        elif name not in self.sizes and size < self.best.get(name, LONGEST + 1):
            self.best[name] = size
            heappush(self.heap, (size, self.serial, name, sequence))
            self.serial += 1


@dataclass(slots=True)
class _Alternative:
    """One way to write a rule: the characters known so far, and how many of its parts are not."""

    name: str
    sequence: Sequence
    size: int
    open: int
    fewest: Fewest | None = None
    picked: list[Ranked] = field(default_factory=list)

    def takes(self, part: Ranked) -> bool:
        """Whether one more of several parts is needed, which it takes then."""
        needed = self.fewest is not None and len(self.picked) < self.fewest.more
        if needed:
            self.picked.append(part)
        return needed

    def whole(self) -> Sequence:
        return self.sequence if self.fewest is None else self.fewest.text(self.picked)


def _length(sequence: Sequence) -> int:
    return sum(len(symbol.text) for symbol in sequence if isinstance(symbol, Text))
