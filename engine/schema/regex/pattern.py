"""ECMA-262 regular expressions as automata over the text they are searched in.

`from_pattern` is the language of JSON Schema's `pattern`: the strings in which the expression matches somewhere.
`full_match` is the language of a `regex` constraint: the strings that match from end to end. Where ECMA-262 and the
validators' engine disagree (see `classes`), they hold what matches under both; `may_match` holds what matches
under either and is the one to complement.
All raise PatternInvalid, PatternUnsupported or AutomatonTooLarge.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge, build
from engine.schema.automata.nfa import END, NFA_LIMIT, START, Nfa, determinise
from engine.schema.regex.lookaround import Lookaround
from engine.schema.regex.parser import parse
from engine.schema.regex.tree import (
    Choice,
    Edge,
    Look,
    Node,
    PatternInvalid,
    PatternUnsupported,
    Repeat,
    Sequence,
    Set,
    walk,
)

__all__ = ["PatternInvalid", "PatternUnsupported", "from_pattern", "full_match", "is_sure", "may_match"]


@lru_cache(maxsize=1024)
def from_pattern(pattern: str) -> Automaton:
    """The strings in which `pattern` surely matches somewhere. Cached."""
    return compile_tree(parse(pattern), search=True)


@lru_cache(maxsize=1024)
def may_match(pattern: str) -> Automaton:
    """The strings in which `pattern` matches in one engine or another: complement this one for `not`. Cached."""
    return compile_tree(parse(pattern, upper=True), search=True)


def is_sure(pattern: str) -> bool:
    """Whether every engine finds it in the same strings. Only properties are read otherwise, by version of Unicode."""
    return "\\p" not in pattern.lower() or parse(pattern) == parse(pattern, upper=True)


@lru_cache(maxsize=256)
def full_match(pattern: str) -> Automaton:
    """The strings that `pattern` surely matches from the first to the last character. Cached."""
    return compile_tree(parse(pattern), search=False)


def compile_tree(node: Node, search: bool = True) -> Automaton:
    """The strings in which a tree matches somewhere, or (`search` off) from end to end."""
    if any(isinstance(part, Look) for part in walk(node)):
        return Lookaround(node, compile_tree, assemble).automaton(search)
    nfa = Nfa()
    entry = nfa.state()
    leave = assemble(nfa, node, entry)
    return build(*determinise(nfa, entry, leave, search=search))


def assemble(nfa: Nfa, node: Node, entry: int) -> int:
    """Thompson's construction behind `entry`; lookarounds become guards. Returns the exit."""
    if isinstance(node, Sequence):
        for part in node.parts:
            entry = assemble(nfa, part, entry)
        return entry
    if isinstance(node, Repeat):
        if max(node.minimum, node.maximum or 0) > NFA_LIMIT:
            raise AutomatonTooLarge(f"a count over {NFA_LIMIT}")
        part = node.part
        return nfa.repeat(entry, node.minimum, node.maximum, lambda at: assemble(nfa, part, at))
    leave = nfa.state()
    if isinstance(node, Set):
        nfa.edges[entry].append((node.ranges, leave))
    elif isinstance(node, Choice):
        for part in node.parts:
            branch = nfa.state()
            nfa.empty[entry].append(branch)
            nfa.empty[assemble(nfa, part, branch)].append(leave)
    else:
        guard = (END if node.at_end else START) if isinstance(node, Edge) else node
        nfa.guards[entry].append((guard, leave))
    return leave
