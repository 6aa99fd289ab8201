"""What an array has had is found by its beginning as if each value were looked at."""

from __future__ import annotations

import json
import random

from engine.grammar.counting.used import used_before
from engine.schema.sets.distinct import canonical


def test_values_are_found_by_their_beginning_in_arrays_that_grow() -> None:
    chance = random.Random(1)
    values: frozenset[str] = frozenset()
    for number in range(400):
        text = "".join(chance.choices('ab"\\ü', k=3))
        made = chance.choice([number * chance.choice([1, 0.5, 1e20, -1]), text, {"a": number}, [number], None])
        values |= {canonical(json.dumps(made).encode()) or ""}
        known = used_before(values)
        begun = chance.choice(["", "a", 'b"', "ü"])
        strings = [value for value in values if value[0] == '"' and json.loads(value).startswith(begun)]
        assert sorted(known.strings(begun)) == sorted(strings)
        begun = chance.choice(["", "1", "-2", "12"])
        numbers = [v for v in values if v[0] in "-0123456789" and ("e" in v or v.startswith(begun))]
        assert sorted(known.numbers(begun)) == sorted(numbers)
        begun = chance.choice(["{", '{"a":1', "[", "n"])
        others = [v for v in values if v[0] not in '"-0123456789' and v.startswith(begun)]
        assert sorted(known.others(begun)) == sorted(others)
