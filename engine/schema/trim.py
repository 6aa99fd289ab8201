"""Tidies a grammar: drops what derives nothing or is never reached, merges equal rules, names rules by content,
and finds the shortest text. Knows grammars only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from heapq import heappop, heappush

from engine.errors import LimitExceeded
from engine.schema.grammar import Chars, Ref, Rule, Sequence, Text

Rules = Mapping[str, Rule]
LONGEST = 1 << 20
"""Bytes of a shortest text; a schema that needs more is refused."""


def shortest(rules: Rules, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """A shortest text (in UTF-8 bytes) of every rule that derives one (Knuth 1977). n log n in the size.

    `known` holds those of rules that are not in `rules`; the result includes them.
    """
    waiting: dict[str, list[tuple[str, int]]] = {}
    open_refs: dict[tuple[str, int], int] = {}
    heap: list[tuple[int, str, str]] = []
    done: dict[str, str] = dict(known or {})

    too_long: set[str] = set()

    def push(name: str, index: int) -> None:
        parts = [done[x.name] if isinstance(x, Ref) else _text(x) for x in rules[name].alternatives[index]]
        if sum(map(len, parts)) > LONGEST:
            too_long.add(name)  # doubling by reference: writing it down would take all memory
            return
        text = "".join(parts)
        heappush(heap, (len(text) if text.isascii() else len(text.encode()), text, name))

    for name, rule in rules.items():
        for index, sequence in enumerate(rule.alternatives):
            refs = [symbol.name for symbol in sequence if isinstance(symbol, Ref) and symbol.name not in done]
            open_refs[name, index] = len(refs)
            for ref in refs:
                waiting.setdefault(ref, []).append((name, index))
            if not refs:
                push(name, index)
    while heap:
        _, text, name = heappop(heap)
        if name in done:
            continue
        done[name] = text
        for where in waiting.get(name, ()):
            open_refs[where] -= 1
            if not open_refs[where] and where[0] not in done:
                push(*where)
    if too_long - done.keys():
        raise LimitExceeded(f"a part's shortest document is over {LONGEST} bytes", param="schema")
    return done


def _text(symbol: Chars | Text) -> str:
    return symbol.text if isinstance(symbol, Text) else chr(_plainest(symbol))


def _plainest(symbol: Chars) -> int:
    for low, high in ((0x61, 0x7A), (0x30, 0x39), (0x41, 0x5A)):
        for first, last in symbol.ranges:
            if first <= high and last >= low:
                return max(first, low)
    return symbol.ranges[0][0]


def prune(rules: Rules, root: str, productive: Iterable[str]) -> dict[str, Rule]:
    """Only alternatives that derive something, only rules that `root` reaches. Names without a rule are left alone."""
    alive = set(productive)
    kept: dict[str, Rule] = {}
    stack = [root]
    while stack:
        name = stack.pop()
        if name in kept:
            continue
        rule = rules[name]
        if not alive.issuperset(rule.printed_references):
            rule = Rule(name, tuple(s for s in rule.alternatives if _derives(s, alive)), rule.lookahead)
        kept[name] = rule
        stack.extend(name for name in rule.printed_references if name in rules)
    return kept


def _derives(sequence: Sequence, alive: set[str]) -> bool:
    return all(not isinstance(x, Ref) or x.name in alive for x in sequence)


def canonical(rules: Rules, root: str, prefix: str) -> tuple[dict[str, Rule], str]:
    """Equal rules merged, each named by what it derives. Names without a rule are contents already."""
    names: dict[str, str] = {}
    for component in _components(rules):
        if len(component) == 1:
            name = component[0]
            names[name] = ""
            names[name] = f"{prefix}r{_digest(rules[name], names)}"
        else:
            names.update(_name_component(rules, component, names, prefix))
    refs = {old: Ref(new) for old, new in names.items()}
    merged: dict[str, Rule] = {}
    for name, rule in rules.items():
        if names[name] not in merged:
            merged[names[name]] = _renamed(rule, names[name], refs)
    return merged, names[root]


def _name_component(rules: Rules, members: list[str], names: dict[str, str], prefix: str) -> dict[str, str]:
    """Partition refinement inside one cycle of rules; everything outside has its name. Writes labels to `names`."""
    names.update(dict.fromkeys(members, ""))
    classes = 1
    while True:
        labels = {name: _digest(rules[name], names) for name in members}
        found = len(set(labels.values()))
        if found == classes:
            return {name: f"{prefix}r{label}" for name, label in labels.items()}
        names.update(labels)
        classes = found


def _digest(rule: Rule, names: Mapping[str, str]) -> str:
    parts: list[object] = []
    for sequence in rule.alternatives:
        for symbol in sequence:
            if isinstance(symbol, Ref):
                parts.append(names.get(symbol.name, symbol.name))
            else:
                parts.append([symbol.text] if isinstance(symbol, Text) else symbol.ranges)
        parts.append(None)
    content = repr((parts, rule.lookahead and rule.lookahead.ranges))
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=7).hexdigest()


def _renamed(rule: Rule, name: str, refs: Mapping[str, Ref]) -> Rule:
    sequences: list[Sequence] = [
        tuple([refs.get(x.name, x) if isinstance(x, Ref) else x for x in s]) for s in rule.alternatives
    ]
    return Rule(name, tuple(dict.fromkeys(sequences) if len(sequences) > 1 else sequences), rule.lookahead)


def _components(rules: Rules) -> list[list[str]]:
    """Strongly connected components, referenced ones first (Tarjan 1972, without recursion)."""
    successors = {name: [x for x in rule.printed_references if x in rules] for name, rule in rules.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for start in rules:
        if start not in index:
            _visit(start, successors, index, low, stack, on_stack, found)
    return found


def _visit(
    start: str,
    successors: dict[str, list[str]],
    index: dict[str, int],
    low: dict[str, int],
    stack: list[str],
    on_stack: set[str],
    found: list[list[str]],
) -> None:
    work = [(start, 0)]
    while work:
        name, position = work.pop()
        if position == 0:
            index[name] = low[name] = len(index)
            stack.append(name)
            on_stack.add(name)
        else:
            low[name] = min(low[name], low[successors[name][position - 1]])
        for at in range(position, len(successors[name])):
            target = successors[name][at]
            if target not in index:
                work.extend([(name, at + 1), (target, 0)])
                break
            if target in on_stack:
                low[name] = min(low[name], index[target])
        else:
            if low[name] == index[name]:
                cut = stack.index(name)
                found.append(stack[cut:])
                on_stack.difference_update(stack[cut:])
                del stack[cut:]
