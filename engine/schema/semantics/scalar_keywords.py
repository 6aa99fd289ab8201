"""The keywords of strings and numbers as sets. Knows the keywords; automata and intervals do the work."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.formats import registry
from engine.schema.numbers.intervals import Interval, Numbers, rational
from engine.schema.reading.contents import is_written
from engine.schema.reading.dialect import Draft
from engine.schema.reading.keywords import asserts_format, speaks
from engine.schema.reading.reference import Location
from engine.schema.regex.pattern import PatternInvalid, PatternUnsupported, from_pattern, full_match, is_sure
from engine.schema.sets.pattern_counts import both_strings, counted_pattern, restricted
from engine.schema.sets.shape import StringSet
from engine.schema.verdicts.report import Report

PATTERN_ERRORS = (PatternUnsupported, PatternInvalid, AutomatonTooLarge)
ENCODINGS = {
    "base64": "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?",
    "base64url": "(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9_-][AQgw]==)?",
}
"""RFC 4648, without bits that mean nothing. Section 3.2 asks for padding, in base64url too, unless whoever refers to it
says otherwise, which JSON Schema does not."""


def string_sets(report: Report, at: Location, judged: Draft) -> tuple[tuple[StringSet, ...], bool]:
    """Strings that the string keywords allow, and whether exactly those. `judged`: the draft of the whole schema, whose
    validators assert what strings hold in resources of other drafts too."""
    schema = at.schema
    strings: StringSet | None
    strings, exact = StringSet(Automaton.anything()), True
    if isinstance(schema.get("pattern"), str):
        try:
            strings = counted_pattern(schema["pattern"])
            exact = is_sure(schema["pattern"])
        except PATTERN_ERRORS as error:
            _mark_pattern(report, at, "pattern", schema["pattern"], error)
            exact = False
    if strings is None:
        return (), exact
    named = schema.get("format")
    found = registry.from_format(named) if isinstance(named, str) else None
    if found is not None:
        strings = strings and both_strings(strings, StringSet(found))
        exact = exact and registry.EXACT[named] and asserts_format(at.draft, named)
        if not registry.EXACT[named]:
            report.mark(at, "format", "narrowed", f"a subset of {named!r} is written")
        elif not asserts_format(at.draft, named):
            report.mark(at, "format", "narrowed", f"{named!r} is younger than this draft, but held like in later ones")
    encoding = encoding_of(at, judged)
    if encoding is not None:
        strings = strings and both_strings(strings, StringSet(full_match(ENCODINGS[encoding])))
        exact = _encoding_exact(report, at) and exact
    if speaks(at.draft, "contentMediaType") or speaks(judged, "contentMediaType"):
        exact = _content_exact(report, at) and exact
    exact = exact and not is_written(schema, judged)
    low, high = count(schema.get("minLength"), 0) or 0, count(schema.get("maxLength"), None)
    strings = strings and restricted(strings, low, high)
    return () if strings is None else (strings,), exact


def pattern_automaton(report: Report, at: Location, keyword: str, pattern: str) -> Automaton | None:
    """The automaton of a pattern; None, with a mark, when there is none."""
    try:
        return from_pattern(pattern)
    except PATTERN_ERRORS as error:
        _mark_pattern(report, at, keyword, pattern, error)
    return None


def _mark_pattern(report: Report, at: Location, keyword: str, pattern: str, error: Exception) -> None:
    reason = "needs too many states" if isinstance(error, AutomatonTooLarge) else "is not a regular language we read"
    report.mark(at, keyword, "checked", f"the pattern {pattern[:60]!r} {reason}: {error}")


def encoding_of(at: Location, judged: Draft) -> str | None:
    """The contentEncoding that is held here, in a schema of the draft `judged`."""
    named = at.schema.get("contentEncoding") if max(at.draft, judged) >= Draft.D6 else None
    return named if isinstance(named, str) and named in ENCODINGS else None


def _encoding_exact(report: Report, at: Location) -> bool:
    """Whether validators assert it, as those of drafts 6 and 7 do."""
    if speaks(at.draft, "contentEncoding"):
        return True
    report.mark(at, "contentEncoding", "narrowed", "held by the grammar; the specification only annotates")
    return False


def _content_exact(report: Report, at: Location) -> bool:
    if at.schema.get("contentMediaType") != "application/json":
        return True
    report.mark(at, "contentMediaType", "checked", "JSON inside a string is no regular language")
    return False


def count(value: Any, default: int | None) -> int | None:
    """A length or count; 2.0 is as good as 2."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return int(value)


def number_set(report: Report, at: Location) -> Numbers:
    """Numbers that `type` and the number keywords allow. Exact."""
    schema = at.schema
    interval = Interval()
    older = at.draft == Draft.D4
    bounds = [(name, older and schema.get(f"exclusive{name.capitalize()}") is True) for name in ("minimum", "maximum")]
    for keyword, is_open in bounds if older else (*bounds, ("exclusiveMinimum", True), ("exclusiveMaximum", True)):
        if _is_number(schema.get(keyword)):
            bound, is_low = rational(schema[keyword]), keyword.lower().endswith("minimum")
            interval &= Interval(low=bound, open_low=is_open) if is_low else Interval(high=bound, open_high=is_open)
    if _is_number(schema.get("multipleOf")) and schema["multipleOf"] > 0:
        interval = replace(interval, step=abs(rational(schema["multipleOf"])))
        report.mark(at, "multipleOf", "narrowed", "written without exponent, in a bounded number of digits")
    named = schema.get("type")
    names = [named] if isinstance(named, str) else named
    if names is not None and "number" not in names:
        interval &= Interval(step=Fraction(1), plain=at.draft == Draft.D4)
    return () if interval.is_empty else (interval,)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
