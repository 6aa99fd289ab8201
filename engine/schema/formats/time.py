"""RFC 3339 dates, times and durations.

Month lengths and leap years are exact. Leap seconds are kept where they can be seen to be 23:59:60 in UTC: with the
offsets `Z`, `+00:00` and `-00:00`; other offsets would need 1,440 remembered minutes.
"""

from __future__ import annotations

from engine.schema.automata.automaton import Automaton
from engine.schema.regex.pattern import full_match

_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_FRACTION = "(?:\\.[0-9]+)?"
_TIME = f"(?:{_MINUTE}:[0-5][0-9]{_FRACTION}(?:[zZ]|[+-]{_MINUTE})|23:59:60{_FRACTION}(?:[zZ]|[+-]00:00))"

_FOURS = "(?:[02468][048]|[13579][26])"
_CENTURY_FOURS = "(?:0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = f"(?:[0-9]{{2}}{_CENTURY_FOURS}|{_FOURS}00)"
_DAY_OF_MONTH = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = f"(?:[0-9]{{4}}-{_DAY_OF_MONTH}|{_LEAP_YEAR}-02-29)"


def date() -> Automaton:
    """`full-date` of RFC 3339, each day of the proleptic Gregorian calendar."""
    return full_match(_DATE)


def time() -> Automaton:
    """`full-time` of RFC 3339."""
    return full_match(_TIME)


def date_time() -> Automaton:
    """`date-time` of RFC 3339."""
    return full_match(f"{_DATE}[tT]{_TIME}")


def duration() -> Automaton:
    """RFC 3339 appendix A: units in order and without gaps."""
    second = "[0-9]+S"
    minute = f"[0-9]+M(?:{second})?"
    hour = f"[0-9]+H(?:{minute})?"
    clock = f"T(?:{hour}|{minute}|{second})"
    day = "[0-9]+D"
    month = f"[0-9]+M(?:{day})?"
    year = f"[0-9]+Y(?:{month})?"
    return full_match(f"P(?:(?:{year}|{month}|{day})(?:{clock})?|{clock}|[0-9]+W)")
