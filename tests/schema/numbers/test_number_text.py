"""Numbers as text: exactly the legal spellings of the legal values, as exact arithmetic and the validator see them."""

from __future__ import annotations

import functools
import json
import math
import operator
import random
import sys
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.lower import lower
from engine.schema.numbers import number_expressions, number_text, numerals
from engine.schema.numbers.decimal_text import between, multiples
from engine.schema.numbers.intervals import Interval
from engine.schema.numbers.number_text import DIGITS
from engine.schema.regex.pattern import full_match
from tests.schema.matching import Language
from tests.schema.number_sets import exact, integers, numbers

small = st.integers(-300, 300)
bounds = st.one_of(st.none(), small, st.integers(-(10**20), 10**20))
decimals = st.one_of(
    st.none(),
    small,
    st.decimals(-1000, 1000, places=3),
    st.floats(-1e9, 1e9, allow_nan=False).map(lambda f: round(f, 6)),
)


def within(value: Fraction, low: Any, high: Any, above: Any, below: Any, step: Any) -> bool:
    """The keywords' meaning in exact arithmetic."""
    return (
        (low is None or value >= exact(low))
        and (high is None or value <= exact(high))
        and (above is None or value > exact(above))
        and (below is None or value < exact(below))
        and (step is None or (value / exact(step)).denominator == 1)
    )


@settings(max_examples=150, deadline=None)
@given(low=bounds, high=bounds, above=bounds, below=bounds, step=st.one_of(st.none(), st.integers(1, 60)))
def test_integers_are_exactly_those_in_range(low: Any, high: Any, above: Any, below: Any, step: Any) -> None:
    automaton = integers(low, high, above, below, step)
    near = {
        n + d for n in (low, high, above, below, 0) if n is not None for d in (-step - 1 if step else -2, -1, 0, 1, 2)
    }
    for value in near | set(range(-40, 41)):
        if step is None or abs(value) < 10**17:
            assert automaton.accepts(str(value)) == within(Fraction(value), low, high, above, below, step), value


@pytest.mark.parametrize("text", ["", "-", "00", "01", "-01", "+1", "1.0", "1e2", "-0", " 1", "1 ", "0x1", "١", "1_0"])
def test_only_plain_integers(text: str) -> None:
    assert not integers().accepts(text)


def test_integral_fractions() -> None:
    loose = integers(integral_fractions=True)
    for text in ("1.0", "-3.000", "-0", "0.0", "1e22", "1.5e+30", "-2E17", "12"):
        assert loose.accepts(text), text
        assert float(json.loads(text)).is_integer()
    for text in ("1.5", "1.", "1.05", "1e-1", "1.5e0", ".0", "1e400"):
        assert not loose.accepts(text), text
    assert integers(0, 100, integral_fractions=True).accepts("100.0")
    assert not integers(0, 100, integral_fractions=True).accepts("100.5")
    assert not integers(0, 100, integral_fractions=True).accepts("1e17")


def test_finite_ranges_are_finite() -> None:
    listed = integers(-5, 12).strings(100)
    assert listed is not None
    assert sorted(map(int, listed)) == list(range(-5, 13))
    assert integers(5, 4).is_empty
    assert integers(exclusive_minimum=4, exclusive_maximum=5).is_empty
    assert integers(1, 2, multiple_of=3).is_empty
    assert integers(0.5, 1.5).strings(9) == ["1"]


@settings(max_examples=150, deadline=None)
@given(low=decimals, high=decimals, above=decimals, below=decimals, data=st.data())
def test_numbers_in_range(low: Any, high: Any, above: Any, below: Any, data: st.DataObject) -> None:
    automaton = numbers(low, high, above, below)
    anchors = [exact(b) for b in (low, high, above, below) if b is not None] or [Fraction(0)]
    near = data.draw(st.sampled_from(anchors))
    for delta in ("0", "1", "-1", "0.001", "-0.001", "0.0000001", "-0.0000001", "1000.5", "-1000.5"):
        value = near + Fraction(delta)
        text = _spell(value)
        legal = within(value, low, high, above, below, None)
        assert automaton.accepts(text) == legal, text
        assert automaton.accepts(text + ("0" if "." in text else ".00")) == legal


def _spell(value: Fraction) -> str:
    return format(Decimal(value.numerator) / Decimal(value.denominator), "f")


def test_a_bound_holds_after_rounding_to_a_double() -> None:
    """Texts that exact arithmetic puts beyond an exclusive bound and doubles put on it."""
    above, below = numbers(exclusive_minimum=1), numbers(exclusive_maximum=0.1)
    for text in ("1.00000000000000001", "1.0000000000000001"):
        assert not above.accepts(text)
        assert json.loads(text) == 1
    assert above.accepts("1.00000000000000022204461")
    assert not below.accepts("0.09999999999999999999")
    assert below.accepts("0.09999999999999")
    assert numbers(exclusive_minimum=0).accepts("0.000001")
    assert not numbers(exclusive_minimum=0).accepts("-0.0")


@pytest.mark.parametrize("step", [1, 2, 7, 12, 100, 0.5, 0.01, 2.5, 0.0001, 1e-7, Decimal("1.25")])
def test_multiples(step: Any) -> None:
    automaton, plain = numbers(multiple_of=step), integers(multiple_of=step)
    generator = random.Random(str(step))
    validator = jsonschema_rs.validator_for({"multipleOf": float(step)})
    for _ in range(300):
        places = generator.choice([0, 0, 1, 2, 4])
        value = Fraction(generator.randint(-(10**7), 10**7), 10**places)
        value = value if generator.random() < 0.4 else exact(step) * generator.randint(-(10**5), 10**5)
        text, legal = _spell(value), (value / exact(step)).denominator == 1
        assert automaton.accepts(text) == legal, text
        assert not legal or validator.is_valid(json.loads(text))
        if value.denominator == 1:
            assert plain.accepts(str(value.numerator)) == legal


def test_multiples_within_bounds() -> None:
    assert numbers(0, 1, multiple_of=0.25).accepts("0.750")
    assert [text for text in ("0", "0.5", "1.0", "1.25", "-0.25") if numbers(0, 1, multiple_of=0.25).accepts(text)] == [
        "0", "0.5", "1.0",
    ]  # fmt: skip
    assert integers(10, 40, multiple_of=15).strings(9) == ["15", "30"]
    assert integers(0, 10**9, multiple_of=10**6).accepts("37000000")
    assert integers(multiple_of=2.5).accepts("15")
    assert not integers(multiple_of=2.5).accepts("12")


@pytest.mark.parametrize("step", [1_000_003, 1e-40, Fraction(1, 3)])
def test_unwieldy_steps_are_refused(step: Any) -> None:
    with pytest.raises(AutomatonTooLarge):
        numbers(multiple_of=step)


BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
RANGES: list[dict[str, Any]] = [
    {}, {"minimum": 0}, {"maximum": -1.5}, {"exclusiveMinimum": 0}, {"minimum": -90, "maximum": 90}, {"minimum": 1e-7},
    {"exclusiveMaximum": 1e20}, {"minimum": 0.1, "exclusiveMaximum": 0.3}, {"multipleOf": 0.01}, {"maximum": 2**53 + 1},
    {"exclusiveMinimum": -(2**63)}, {"minimum": 10**25}, {"multipleOf": 3, "minimum": 7}, {"exclusiveMinimum": 9.99999},
    {"exclusiveMaximum": 10}, {"exclusiveMinimum": 0.1, "exclusiveMaximum": 0.1000000000001}, {"multipleOf": 2.5},
]  # fmt: skip


@pytest.mark.parametrize("keywords", RANGES, ids=str)
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_every_random_word_is_valid_and_finite(keywords: dict[str, Any], kind: str) -> None:
    automaton = _numbers(kind, keywords)
    validator = jsonschema_rs.validator_for({"type": kind, **keywords})
    generator = random.Random(str(keywords))
    for _ in range(0 if automaton.is_empty else 400):
        text = _walk(automaton, generator)
        value = json.loads(text)
        assert math.isfinite(value)
        assert validator.is_valid(value), text


def _walk(automaton: Automaton, generator: random.Random) -> str:
    """A random word; near a bound as often as anywhere, since moves are chosen, not characters."""
    state, text, patience = 0, "", generator.choice([0.02, 0.1, 0.4])
    while True:
        moves = automaton.moves(state)
        if state in automaton.accepting and (not moves or generator.random() < patience):
            return text
        spans, state = generator.choice(moves)
        low, high = generator.choice(spans)
        text += chr(generator.choice([low, high, generator.randint(low, high)]))


doubles = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
ends = st.one_of(doubles, st.integers(-9, 9), st.integers(-(10**30), 10**30), st.sampled_from([1e-5, 1e16, 1e308]))


@settings(max_examples=25, deadline=None)
@given(bound=ends, other=doubles, key=st.sampled_from(BOUNDS), kind=st.sampled_from(["integer", "number"]))
def test_every_double_within_bounds_has_the_word_that_json_writes(bound: Any, other: float, key: str, kind: str):
    automaton = _numbers(kind, {key: bound})
    validator = jsonschema_rs.validator_for({"type": kind, key: bound})
    near = float(bound)
    values = [near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf), other, math.floor(near / 3) * 1.0]
    for value in [*values, near * 1.5, near / 1.5, -near, sys.float_info.max, -sys.float_info.max, math.ulp(0.0), 0.0]:
        if abs(value) < 1.79e308 or abs(value) == sys.float_info.max:
            assert automaton.accepts(json.dumps(value)) == validator.is_valid(value), value


def _numbers(kind: str, keywords: dict[str, Any]) -> Automaton:
    named = {"multipleOf": "multiple_of", "exclusiveMinimum": "exclusive_minimum",
             "exclusiveMaximum": "exclusive_maximum"}  # fmt: skip
    arguments = {named.get(key, key): value for key, value in keywords.items()}
    return integers(**arguments, integral_fractions=True) if kind == "integer" else numbers(**arguments)


@pytest.mark.parametrize("step", [1, 2, 7, 0.5, 0.01, 1e-5, 1e-20])
def test_what_is_no_multiple_is_none_as_a_double(step: float) -> None:
    automaton = number_text.no_multiples(exact(step))
    validator = jsonschema_rs.validator_for({"not": {"multipleOf": step}})
    taken = {text for text in NO_MULTIPLES if automaton.accepts(text)}
    assert all(validator.is_valid(json.loads(text)) for text in taken), step
    assert taken >= {text for text in NO_MULTIPLES if len(text) < 12 and validator.is_valid(json.loads(text))}
    generator = random.Random(str(step))
    walked = [json.loads(_walk(automaton, generator)) for _ in range(300)]
    assert all(map(validator.is_valid, walked))


NO_MULTIPLES = ["6e-05", "0.5", "2.5", "1", "3", "7", "14.0", "0.01", "1e-05", "2.2e-16", "5e-324", "1e-20", "3e-20",
                "4", "0.99999999999999999999", "0.01000000000000000001", "123456.0000000000000001", str(10**30),
                "9007199254740993.0", "3.141592653589793", "1.0000000000000001", str(7 * 10**40)]  # fmt: skip


def test_the_largest_texts_do_not_overflow() -> None:
    for text in ("9" * DIGITS, "9" * DIGITS + "e243", "9.99e307", "-9.9E+307", "1e-300", "1.7976931348623157e+308"):
        assert numbers().accepts(text), text
        assert math.isfinite(json.loads(text))
    for text in ("1.8e308", "9" * DIGITS + "e244", "9" * (DIGITS + 1), "1E9999", "1e-9999"):
        assert not numbers().accepts(text), text


def test_integers_have_as_many_digits_as_a_bound() -> None:
    for bound in (10**70, 10**300):
        automaton = integers(minimum=bound)
        assert [automaton.accepts(str(number)) for number in (bound - 1, bound, 9 * bound)] == [False, True, True]


@given(low=st.integers(0, 5000), extra=st.integers(0, 5000), places=st.integers(0, 3))
def test_between_compares_digit_by_digit(low: int, extra: int, places: int) -> None:
    automaton = between(low, low + extra, 5, places)
    for units in {0, low - 1, low, low + extra // 2, low + extra, low + extra + 1}:
        if units >= 0:
            whole, rest = divmod(units, 10**places)
            text = f"{whole}.{rest:0{places}d}" if places else str(whole)
            assert automaton.accepts(text) == (low <= units <= low + extra)


@pytest.mark.parametrize("step", [1, 3, 10, 64, 86_400, 1000])
def test_remainders(step: int) -> None:
    automaton = multiples(step, 0, 0)
    for value in [*range(0, 5 * step, max(step // 7, 1)), step, 10 * step, 10 * step + 1]:
        assert automaton.accepts(str(value)) == (value % step == 0)


def test_the_known_sequences_say_exactly_what_their_automata_say():
    assert len(number_expressions.KNOWN) == 10
    for key, alternatives in number_expressions.KNOWN.items():
        words = Automaton.nothing()
        for parts in alternatives:
            words |= functools.reduce(operator.add, map(full_match, parts))
        assert words == number_expressions.words_of(*key), key
        assert number_expressions.alternatives_of(words) is alternatives
    assert number_expressions.alternatives_of(numbers(minimum=7)) is None


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("step", [None, 1, 2])
def test_sets_that_are_known_by_their_bounds_are_what_their_automata_say(step: int | None, every: bool):
    plain = Interval(step=None if step is None else Fraction(step))
    others = [replace(plain, high=Fraction(9)), replace(plain, low=Fraction(0), open_low=True)]
    others += [replace(plain, plain=True), replace(plain, marked=True), replace(plain, holes=frozenset({Fraction(3)}))]
    ways = {False: numerals.numerals, True: numerals.greatest}
    found = 0
    for interval in [plain, *(replace(plain, low=Fraction(low)) for low in (0, 1, 2)), *others]:
        for of_greatest, make in ways.items():
            known = number_expressions.alternatives_of_set((interval,), every_spelling=every, of_greatest=of_greatest)
            if known is not None:
                found += 1
                assert known is number_expressions.alternatives_of(make((interval,), every)), interval
    assert found == {None: 4, 1: 5 if every else 3, 2: 0}[step]


def test_a_run_of_digits_is_as_long_in_blocks():
    for part in ("[0-9]{1,63}", "[0-9]{1,14}", "[0-9]{1,18}", "[0-9]{1,3}", r"\.0{1,24}"):
        words = Automaton.nothing()
        for pieces in number_expressions.blocks(part):
            words |= functools.reduce(operator.add, map(full_match, pieces))
        assert words == full_match(part)
    language = Language(lower({"type": "integer"}, conformance="spec").grammar)
    taken = [size for size in range(1, DIGITS + 3) if language.accepts_text("7" * size)]
    assert taken == list(range(1, DIGITS + 1))
    assert [size for size in range(1, 18) if language.accepts_text("7" * size + ".0")] == list(range(1, 17))


@pytest.mark.parametrize("bounds", [{}, {"minimum": 0}, {"minimum": 1}, {"maximum": 7}], ids=str)
@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_xgrammar_takes_the_same_spellings_as_the_automata(kind: str, bounds: dict[str, int], conformance: Any):
    language = Language(lower({"type": kind, **bounds}, conformance=conformance).grammar)
    taken = 0
    for text in spellings(random.Random(7)):
        try:
            value = json.loads(text)
        except ValueError:
            assert not language.accepts_text(text), text
            continue
        fits = bounds.get("minimum", -math.inf) <= value <= bounds.get("maximum", math.inf)
        if not (fits and math.isfinite(value) and (kind == "number" or value == int(value))):
            assert not language.accepts_text(text), text
        taken += language.accepts_text(text)
    assert taken > 10


def spellings(rng: random.Random) -> list[str]:
    """Short texts of a number's characters: most are no number."""
    parts = ("0", "00", "05", "7", "1E", "1e5", "10", "0.5", "1.")
    short = [first + rest for first in ("", "-", "0", "1", "9", "0.") for rest in parts]
    return short + ["".join(rng.choice("0012.eE+-9") for _ in range(rng.randint(1, 6))) for _ in range(500)]
