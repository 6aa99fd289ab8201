"""Patterns with one to three bounded repeats, half of them nested, and texts that begin one of their words.

`python -m tests.schema.generated_patterns` prints what becomes of 200 of them, and how long lowering takes.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from engine.errors import EngineError
from engine.schema.lower import lower
from engine.schema.regex.parser import parse
from engine.schema.regex.tree import Choice, Edge, Node, Repeat, Sequence, Set
from engine.schema.sets.pattern_counts import counted_pattern

SETS = ["a", "b", "c", "[ab]", "[abc]", "[^a\\n]", "[a-z]", "[0-9]", "[é-ü]", ".", "\\n", '[^"]']
ENDS = ["-", "x", "7", "@", ", ", '"', "\\\\"]
TIMES = [(0, 40), (1, 60), (2, 50), (3, 30), (20, 45), (35, 35), (17, 90), (2, None), (30, None), (2, 3)]


@dataclass(frozen=True)
class Made:
    """A pattern, and whether a repeat of it stands within another."""

    pattern: str
    nested: bool


def patterns(count: int, seed: int = 26) -> list[Made]:
    """Different ones, every second one nested."""
    draw, found = random.Random(seed), dict[str, Made]()
    while len(found) < count:
        nested = len(found) % 2 == 1
        made = Made(f"^{_nested(draw) if nested else _flat(draw)}$", nested)
        found.setdefault(made.pattern, made)
    return list(found.values())


def _times(draw: random.Random, most: int = 90) -> str:
    low, high = draw.choice([pair for pair in TIMES if (pair[1] or pair[0]) <= most])
    return f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"


def _unit(draw: random.Random) -> str:
    kind = draw.randrange(5)
    if kind == 0:
        return f"({draw.choice(SETS)}{draw.choice(ENDS)})"
    if kind == 1:
        return f"({draw.choice(SETS)}{draw.choice(ENDS)}|{draw.choice(ENDS)})"
    return draw.choice(SETS)


def _flat(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.randint(1, 3)):
        parts.append(_unit(draw) + _times(draw))
        parts.append(draw.choice(["", *ENDS, "[0-9]?", "(end)?", "[abc]*-"]))
    return draw.choice(["", *ENDS]) + "".join(parts)


def _nested(draw: random.Random) -> str:
    inner = _unit(draw) + _times(draw, 60)
    if draw.random() < 0.4:
        inner = f"{draw.choice(ENDS)}{inner}"
    body = f"({inner}{draw.choice([*ENDS, '', '[0-9]'])})"
    tail = draw.choice(["", "", *ENDS, "[0-9]{3}", _unit(draw) + _times(draw)])
    return draw.choice(["", "k"]) + body + _times(draw, 45) + tail


def word(pattern: str, draw: random.Random) -> str:
    """A word of a pattern, whose repeats come as often as they may, as seldom, or nearly so."""
    return _word(parse(pattern), draw)


def _word(node: Node, draw: random.Random) -> str:
    if isinstance(node, Set):
        plain = [c for c in 'abz07-x@,"\\\né ü' if any(low <= ord(c) <= high for low, high in node.ranges)]
        return draw.choice(plain) if plain else chr(node.ranges[0][0])
    if isinstance(node, Sequence):
        return "".join(_word(part, draw) for part in node.parts)
    if isinstance(node, Choice):
        return _word(draw.choice(node.parts), draw)
    if isinstance(node, Repeat):
        low, high = node.minimum, node.maximum
        high = low + 3 if high is None else high
        times = min(max(draw.choice([low, low + 1, high - 1, high]), low), high)
        return "".join(_word(node.part, draw) for _ in range(times))
    assert isinstance(node, Edge)
    return ""


def _how(pattern: str) -> str:
    strings = counted_pattern(pattern)
    if strings is None or strings.pattern is None:
        return "a length" if strings is not None and strings.is_bounded else "in states"
    return "counted"


def main() -> None:
    lower({})
    became, slowest = Counter[tuple[bool, str]](), list[tuple[float, str]]()
    for made in patterns(200):
        counted_pattern.cache_clear()
        begun = time.process_time()
        try:
            lowered = lower({"type": "string", "pattern": made.pattern})
            verdict = next(v.verdict for v in lowered.verdicts if v.keyword == "pattern")
            kind = verdict if verdict != "enforced" else f"enforced, {_how(made.pattern)}"
        except EngineError as error:
            kind = f"refused: {type(error).__name__}"
        became[made.nested, kind] += 1
        slowest.append(((time.process_time() - begun) * 1e3, made.pattern))
    for (nested, kind), number in sorted(became.items()):
        print(f"{number:4}  {'nested' if nested else 'flat  '}  {kind}")
    slowest.sort(reverse=True)
    times = sorted(took for took, _ in slowest)
    print("lowering, ms: p50", round(times[len(times) // 2], 1), "p99", round(times[-2], 1), "max", round(times[-1], 1))
    for took, pattern in slowest[:12]:
        print(f"{took:8.1f}  {pattern}")


if __name__ == "__main__":
    main()
