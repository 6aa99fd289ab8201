"""Whether enough different values are left, against trying all ways to choose them."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from engine.schema.sets import distinct
from engine.schema.sets.distinct import are_enough, representatives

VALUES = list("abcdef")


def test_enough_values_are_left_when_some_choice_differs() -> None:
    chance = random.Random(1)
    found = set[bool]()
    for _ in range(3_000):
        choices = tuple(
            None if chance.random() < 0.2 else frozenset(chance.sample(VALUES, chance.randint(1, 4)))
            for _ in range(chance.randint(1, 3))
        )
        first, last = chance.randint(0, 3), chance.randint(0, 5)
        used = frozenset(chance.sample(VALUES, chance.randint(0, 3)))
        item = chance.choice([None, *VALUES])
        known = [choices[min(at, len(choices) - 1)] for at in range(first, last)]
        left = [choice - used - {item} for choice in known if choice is not None]
        expected = any(len(set(chosen)) == len(left) for chosen in product(*left))
        assert are_enough(choices, first, last, used, item) == expected, (choices, first, last, used, item)
        found.add(expected)
    assert found == {True, False}


def test_representatives_differ_and_each_is_one_of_its_place() -> None:
    places = [frozenset({"a", "b"}), None, frozenset({"a"}), frozenset({"b", "c"})]
    assert representatives(places) == ["b", None, "a", "c"]
    assert representatives([*places, frozenset({"c"})]) is None


class Counted(list[str]):
    """Counts how often one of its values is looked at."""

    looked = 0

    def __getitem__(self, index: Any) -> Any:
        self.looked += 1
        return super().__getitem__(index)


def test_places_with_the_same_values_do_not_look_at_each_others_again() -> None:
    common = frozenset(map(str, range(2_000)))
    values = Counted(common)
    assert distinct._matched([common] * 2_000, {common: values}, frozenset()) is not None
    assert values.looked < 10 * 2_000
