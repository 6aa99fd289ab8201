"""ECMA-262 regular expressions as automata over the text they are searched in.

`from_pattern` is the language of JSON Schema's `pattern`: the strings in which the expression matches somewhere.
`full_match` is the language of a `regex` constraint: the strings that match from end to end.
Raises PatternInvalid, PatternUnsupported or AutomatonTooLarge.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automaton import Automaton, build
from engine.schema.nfa import END, NFA_LIMIT, START, Nfa, determinise
from engine.schema.pattern_syntax import (
    Choice,
    Edge,
    Look,
    Node,
    PatternInvalid,
    PatternUnsupported,
    Repeat,
    Sequence,
    Set,
    WordEdge,
    parse,
)
from engine.schema.states import AutomatonTooLarge

__all__ = ["PatternInvalid", "PatternUnsupported", "from_pattern", "full_match"]


@lru_cache(maxsize=1024)
def from_pattern(pattern: str) -> Automaton:
    """The strings in which `pattern` matches anywhere. Cached."""
    return _compile(parse(pattern), search=True)


@lru_cache(maxsize=256)
def full_match(pattern: str) -> Automaton:
    """The strings that `pattern` matches from the first to the last character. Cached."""
    return _compile(parse(pattern), search=False)


def _compile(node: Node, search: bool) -> Automaton:
    if _has_lookaround(node):
        from engine.schema.lookaround import determinise_with_lookaround

        return determinise_with_lookaround(node, search)
    nfa = Nfa()
    entry = nfa.state()
    leave = assemble(nfa, node, entry)
    return build(*determinise(nfa, entry, leave, search=search))


def _has_lookaround(node: Node) -> bool:
    if isinstance(node, Look | WordEdge):
        return True
    if isinstance(node, Repeat):
        return _has_lookaround(node.part)
    return isinstance(node, Sequence | Choice) and any(_has_lookaround(part) for part in node.parts)


def assemble(nfa: Nfa, node: Node, entry: int) -> int:
    """Thompson's construction behind `entry`; lookarounds become guards. Returns the exit."""
    if isinstance(node, Sequence):
        for part in node.parts:
            entry = assemble(nfa, part, entry)
        return entry
    if isinstance(node, Repeat):
        return _assemble_repeat(nfa, node, entry)
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


def _assemble_repeat(nfa: Nfa, node: Repeat, entry: int) -> int:
    if max(node.minimum, node.maximum or 0) > NFA_LIMIT:
        raise AutomatonTooLarge(f"a count over {NFA_LIMIT}")
    for _ in range(node.minimum - (node.maximum is None and node.minimum > 0)):
        entry = assemble(nfa, node.part, entry)
    leave = nfa.state()
    if node.maximum is None:
        loop = nfa.state()
        nfa.empty[entry].append(loop)
        back = assemble(nfa, node.part, loop)
        nfa.empty[back].append(loop)
        nfa.empty[back if node.minimum else loop].append(leave)
        return leave
    nfa.empty[entry].append(leave)
    for _ in range(node.maximum - node.minimum):
        entry = assemble(nfa, node.part, entry)
        nfa.empty[entry].append(leave)
    return leave
