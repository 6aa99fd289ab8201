"""Free text with triggers as plain rules: one rule per prefix of a trigger that the text may stand in.

Knows strings and rules. The construction is the string-matching automaton of Aho and Corasick with a rule per state.
"""

from __future__ import annotations

from engine.schema.automata.alphabet import normalise_ranges, without
from engine.schema.rules.grammar import Chars, Ref, Rule, Sequence


def dispatch_rules(name: str, triggers: list[tuple[str, str]], excludes: list[str], *, loop: bool) -> dict[str, Rule]:
    """Rule `name`: text without any of `excludes`, where a trigger, once written, must go on with its rule.

    After that rule comes more free text (`loop`) or nothing. The text may end anywhere outside a triggered rule.
    """
    targets = dict(triggers)
    words = [*targets, *excludes]
    states = sorted({word[:size] for word in words for size in range(len(word))} | {""}, key=len)
    names = {state: name if not state else f"{name}.{index}" for index, state in enumerate(states)}
    rules = {}
    for state in states:
        alternatives: list[Sequence] = [()]
        onward: dict[str, list[tuple[int, int]]] = {}
        seen: list[tuple[int, int]] = []
        for letter in sorted({word[size] for word in words for size in range(len(word))}):
            seen.append((ord(letter), ord(letter)))
            hit = _ends_with(state + letter, words)
            if hit is None:
                onward.setdefault(_longest(state + letter, names), []).append((ord(letter), ord(letter)))
            elif hit in targets:
                rest = (Ref(name),) if loop else ()
                alternatives.append((Chars(((ord(letter), ord(letter)),)), Ref(targets[hit]), *rest))
        onward.setdefault("", []).extend(without(seen))
        for target, spans in onward.items():
            if spans:
                alternatives.append((Chars(normalise_ranges(spans)), Ref(names[target])))
        rules[names[state]] = Rule(names[state], tuple(alternatives))
    return rules


def _ends_with(text: str, words: list[str]) -> str | None:
    return max((word for word in words if word and text.endswith(word)), key=len, default=None)


def _longest(text: str, names: dict[str, str]) -> str:
    return next(text[start:] for start in range(len(text) + 1) if text[start:] in names)
