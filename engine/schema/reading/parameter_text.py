"""The parameters of a call as text, in the form Qwen3-Coder writes: strings as they are, all else as JSON.

    <parameter=KEY>
    VALUE
    </parameter>

A value never holds `</parameter>`. What a text means where it could be either, JSON or a string, the schema decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any, Literal, get_args

from engine.pointer import steps
from engine.schema.reading.validator import Checked, JsonInvalid, Validator, parse_json

Style = Literal["json", "qwen_xml"]
"""How a schema's outermost object is written: as JSON, or as parameters."""
STYLES: tuple[Style, ...] = get_args(Style)
OPEN, CLOSE = "<parameter=", "</parameter>"
END = f"\n{CLOSE}\n"
KEY = re.compile(r"[^>\n]+")
_PARAMETER = re.compile(rf"{OPEN}({KEY.pattern})>\n((?:(?!{CLOSE}).)*)\n{CLOSE}\n", re.DOTALL)
GUESSES = 64
"""Readings that are tried where several parameters could be JSON or text and no failure tells which."""


def read_parameters(text: str, judge: Validator) -> Checked:
    """The object that parameters stand for, judged; of one that is written twice the last counts.

    A reading that the schema accepts is found if there is one, up to `GUESSES` where the failures do not tell; JSON is
    preferred to text.
    """
    found = find_parameters(text, 0)
    texts = {key: value for key, value, _ in found}
    if (end := found[-1][2] if found else 0) != len(text):
        return Checked(None, False, f"no parameter is written at character {end}", "", "parameters", "")
    return _judged(texts, judge.check_value)


def find_parameters(text: str, start: int) -> list[tuple[str, str, int]]:
    """Key, value and end of each parameter that stands at `start`, one behind the other."""
    found: list[tuple[str, str, int]] = []
    while (match := _PARAMETER.match(text, start)) is not None:
        start = match.end()
        found.append((match[1], match[2], start))
    return found


def _judged(texts: dict[str, str], check: Callable[[Any], Checked]) -> Checked:
    as_json = {key: read for key, text in texts.items() if not isinstance(read := _json(text), str)}
    value: dict[str, Any] = {**texts, **as_json}
    checked = check(value)
    while not checked.ok and (key := _first_step(checked.pointer)) in as_json:
        value = {**value, key: texts[key]}
        del as_json[key]
        checked = check(value)
    if checked.ok or not as_json:
        return checked
    for guess in _guesses(value, texts, as_json):
        if (other := check(guess)).ok:
            return other
    return checked


def _guesses(value: dict[str, Any], texts: dict[str, str], unsure: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = list(unsure)
    for choice in islice(product((True, False), repeat=len(names)), GUESSES):
        kept = zip(names, choice, strict=True)
        yield {**value, **{name: unsure[name] if keep else texts[name] for name, keep in kept}}


def _first_step(pointer: str | None) -> str:
    return steps(pointer or "")[0] if pointer else ""


def _json(text: str) -> Any:
    """The JSON value that a text is, the text itself where it is none."""
    try:
        return parse_json(text)
    except JsonInvalid:
        return text
