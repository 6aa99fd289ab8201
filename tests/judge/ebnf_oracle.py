"""EBNF for the corpus: random grammars as trees, their spelling in the documented dialect, and what they derive.

The recogniser is the definition, computed: which spans of a text every part derives, until nothing is added. It reads
trees, not texts, so that it shares nothing with any parser.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

Node = tuple[Any, ...]
"""("text", string), ("class", ranges, negative), ("rule", name), ("row", parts), ("ways", parts) or
("times", part, least, most)."""
ALPHABET = 'abcé\n"\\]^- 0'


@dataclass
class Grammar:
    rules: dict[str, Node]

    def derives(self, text: str) -> bool:
        spans: dict[tuple[str, int], set[int]] = {
            (name, at): set() for name in self.rules for at in range(len(text) + 1)
        }
        grown = True
        while grown:
            grown = False
            for (name, at), known in spans.items():
                found = self._ends(self.rules[name], text, at, spans)
                grown |= not found <= known
                known |= found
        return len(text) in spans["root", 0]

    def _ends(self, node: Node, text: str, at: int, spans: dict[tuple[str, int], set[int]]) -> set[int]:
        kind = node[0]
        if kind == "text":
            return {at + len(node[1])} if text[at : at + len(node[1])] == node[1] else set()
        if kind == "class":
            inside = at < len(text) and any(low <= text[at] <= high for low, high in node[1])
            return {at + 1} if at < len(text) and inside is not node[2] else set()
        if kind == "rule":
            return set(spans[node[1], at])
        if kind == "ways":
            return set().union(*(self._ends(part, text, at, spans) for part in node[1]))
        if kind == "row":
            ends = {at}
            for part in node[1]:
                ends = {end for start in ends for end in self._ends(part, text, start, spans)}
            return ends
        _, part, least, most = node
        ends, reached, count = {at}, set() if least else {at}, 0
        while ends and (most is None or count < most):
            count += 1
            ends = {end for start in ends for end in self._ends(part, text, start, spans)}
            if count >= least:
                if most is None and ends <= reached:
                    break
                reached |= ends
        return reached

    def is_circular(self) -> bool:
        """Whether a rule can derive itself while nothing is read."""
        empty: set[str] = set()
        while more := {name for name, node in self.rules.items() if name not in empty and self._empty(node, empty)}:
            empty |= more
        alone = {name: self._alone(node, empty) for name, node in self.rules.items()}
        for _ in self.rules:
            alone = {name: found.union(*(alone[other] for other in found)) for name, found in alone.items()}
        return any(name in found for name, found in alone.items())

    def _empty(self, node: Node, empty: set[str]) -> bool:
        kind = node[0]
        if kind in ("row", "ways"):
            return (all if kind == "row" else any)(self._empty(part, empty) for part in node[1])
        if kind == "times":
            return not node[2] or self._empty(node[1], empty)
        return (kind == "text" and not node[1]) or (kind == "rule" and node[1] in empty)

    def _alone(self, node: Node, empty: set[str]) -> set[str]:
        """The rules that may be all that a part derives."""
        kind = node[0]
        if kind == "rule":
            return {node[1]}
        if kind == "ways":
            return set().union(*(self._alone(part, empty) for part in node[1]))
        if kind == "row":
            solid = [part for part in node[1] if not self._empty(part, empty)]
            return set() if len(solid) > 1 else set().union(*(self._alone(part, empty) for part in solid or node[1]))
        repeats = kind == "times" and (node[2] < 2 or self._empty(node[1], empty))
        return self._alone(node[1], empty) if repeats else set()

    def sample(self, random_: random.Random, node: Node | None = None, budget: int = 6) -> str:
        node = node or self.rules["root"]
        kind = node[0]
        if kind == "text":
            return str(node[1])
        if kind == "class":
            fitting = [c for c in ALPHABET if any(low <= c <= high for low, high in node[1]) is not node[2]]
            return random_.choice(fitting or ["x"])
        if kind == "rule":
            return self.sample(random_, self.rules[node[1]], budget - 1) if budget > 0 else ""
        if kind == "row":
            return "".join(self.sample(random_, part, budget) for part in node[1])
        if kind == "ways":
            return self.sample(random_, random_.choice(node[1]), budget)
        most = node[2] + 2 if node[3] is None else node[3]
        return "".join(self.sample(random_, node[1], budget - 1) for _ in range(random_.randint(node[2], most)))


def random_grammar(random_: random.Random) -> Grammar:
    names = ["root", "a-b", "x_1", "y.z"][: random_.randint(1, 4)]
    return Grammar({name: _node(random_, names, 3) for name in names})


def _node(random_: random.Random, names: list[str], depth: int) -> Node:
    kinds = (
        ["text", "text", "class", "rule"] if depth == 0 else ["text", "class", "rule", "row", "row", "ways", "times"]
    )
    kind = random_.choice(kinds)
    if kind == "text":
        return ("text", "".join(random_.choice(ALPHABET) for _ in range(random_.randint(0 if depth else 1, 2))))
    if kind == "class":
        spans = [tuple(sorted(random_.choices(ALPHABET, k=2))) for _ in range(random_.randint(1, 2))]
        return ("class", spans, random_.random() < 0.3)
    if kind == "rule":
        return ("rule", random_.choice(names))
    if kind == "times":
        least = random_.choice((0, 0, 1, 2))
        return ("times", _node(random_, names, depth - 1), least, random_.choice((None, least + 1, max(1, least))))
    return (kind, [_node(random_, names, depth - 1) for _ in range(random_.randint(1 if kind == "row" else 2, 3))])


def written(grammar: Grammar, random_: random.Random) -> str:
    """The grammar in the dialect, each time spelled a little differently."""
    lines = []
    for name, node in grammar.rules.items():
        lines.append(f"{name} ::= {_spelled(node, random_)}" + random_.choice(("", "  # a comment", "")))
    return random_.choice(("\n", "\n\n")).join(lines)


def _spelled(node: Node, random_: random.Random) -> str:
    kind = node[0]
    if kind == "text":
        return '"' + "".join(_character(c, random_, '"\\') for c in node[1]) + '"'
    if kind == "class":
        spans = "".join(
            _in_class(low, random_) + ("" if low == high else "-" + _in_class(high, random_)) for low, high in node[1]
        )
        return f"[{'^' if node[2] else ''}{spans}]"
    if kind == "rule":
        return str(node[1])
    if kind == "row":
        return "(" + " ".join(_spelled(part, random_) for part in node[1]) + ")"
    if kind == "ways":
        bar = random_.choice((" | ", " |\n    "))
        return "(" + bar.join(_spelled(part, random_) for part in node[1]) + ")"
    _, part, least, most = node
    signs = {(0, None): ["*", "{0,}"], (1, None): ["+", "{1,}"], (0, 1): ["?", "{0,1}"]}
    bounds = [f"{{{least},{'' if most is None else most}}}", *([f"{{{least}}}"] if least == most else [])]
    return f"({_spelled(part, random_)}){random_.choice(signs.get((least, most), bounds))}"


def _character(character: str, random_: random.Random, special: str) -> str:
    code = ord(character)
    forms = [f"\\u{code:04X}", f"\\U{code:08x}"]
    if character == "\n":
        return random_.choice(["\\n", *forms])
    return random_.choice([*forms, *(3 * [f"\\{character}" if character in special else character])])


def _in_class(character: str, random_: random.Random) -> str:
    return _character(character, random_, '"\\]^-')
