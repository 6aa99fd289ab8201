"""Rules are merged exactly where they derive the same, and named by it."""

from __future__ import annotations

from engine.schema.rules.canonical import canonical
from engine.schema.rules.grammar import Grammar, Ref, Rule, Sequence, Text


def chain(names: str, letters: str) -> dict[str, Rule]:
    """A rule per name: the letter, then the next rule (the first after the last); the first may end."""
    rules: dict[str, Rule] = {}
    for at, (name, letter) in enumerate(zip(names, letters, strict=True)):
        onward: Sequence = (Text(letter), Ref(names[(at + 1) % len(names)]))
        rules[name] = Rule(name, (onward, (Text("."),)) if at == 0 else (onward,))
    return rules


def test_cycles_that_differ_late_stay_apart() -> None:
    rules = {**chain("ab", "xy"), **chain("cde", "xyz")}
    rules["root"] = Rule("root", ((Ref("a"),), (Ref("c"),)))
    merged, root = canonical(rules, "root")
    assert len(merged[root].alternatives) == 2
    assert len(merged) == 1 + 2 + 3


def test_equal_cycles_are_one_whatever_their_length() -> None:
    rules = {**chain("a", "x"), "b": Rule("b", ((Text("x"), Ref("c")), (Text("."),)))}
    rules["c"] = Rule("c", ((Text("x"), Ref("b")), (Text("."),)))
    rules["root"] = Rule("root", ((Ref("a"),), (Ref("b"),)))
    merged, root = canonical(rules, "root")
    assert len(merged) == 2
    assert len(merged[root].alternatives) == 1


def test_what_is_printed_is_the_rule() -> None:
    rules = {**chain("abc", "xyx"), "root": Rule("root", ((Ref("a"),), (Text('"\\\n'),), ((Text("")),)))}
    merged, root = canonical(rules, "root")
    plain = {name: Rule(name, rule.alternatives, rule.lookahead) for name, rule in merged.items()}
    assert Grammar(merged, root).to_ebnf() == Grammar(plain, root).to_ebnf()
