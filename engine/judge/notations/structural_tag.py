"""The judge of structural tags: every format as a grammar, part by part, with JSON parts judged as JSON.

Fields that nobody reads, and formats over token ids or budgets, which no text can show, are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.judge.notations.ebnf import dispatch, ebnf_rules
from engine.judge.notations.ebnf_tokens import WrongGrammar
from engine.judge.notations.lark import JsonCheck
from engine.judge.recogniser.productions import Call, Productions
from engine.judge.recogniser.terminals import FreeText, JsonValue, Literal, Parameters
from engine.patterns.dialect import read_regex
from engine.patterns.tree import Choice, Node, Repeat, Undecidable
from engine.patterns.tree import Sequence as Row
from engine.schema.reading.parameter_text import STYLES

DEPTH = 100
FIELDS: dict[str, tuple[str, ...]] = {
    "const_string": ("value",),
    "json_schema": ("json_schema", "any_order", "style", "max_whitespace_cnt", "excludes"),
    "any_text": ("excludes", "max_tokens", "max_chars"),
    "grammar": ("grammar",),
    "regex": ("pattern",),
    "sequence": ("elements",),
    "or": ("elements",),
    "tag": ("begin", "content", "end"),
    "triggered_tags": ("triggers", "tags", "at_least_one", "stop_after_first", "excludes"),
    "tags_with_separator": ("tags", "separator", "at_least_one", "stop_after_first"),
    "optional": ("content",),
    "plus": ("content",),
    "star": ("content",),
    "repeat": ("min", "max", "content"),
    "dispatch": ("rules", "loop", "excludes"),
}
"""What each format may say beside its type."""
_TOKENS = ("token", "exclude_token", "any_tokens", "token_triggered_tags", "token_dispatch")
_TIMES: dict[str, tuple[int, int | None]] = {"optional": (0, 1), "plus": (1, None), "star": (0, None)}
_Format = Mapping[str, Any]


class WrongTag(WrongGrammar):
    """The tag is none; `pointer` is the place."""

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class UndecidableTag(Undecidable):
    """A part that is refused; `pointer` is the place."""

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(message)
        self.pointer = pointer


def tag_grammar(source: str, check: JsonCheck) -> Productions:
    """The grammar of a tag's JSON text, ready to recognise. Raises WrongTag or UndecidableTag."""
    tag = json.loads(source)
    if not isinstance(tag, dict) or not isinstance(tag.get("format"), dict):
        raise WrongTag("a structural tag needs a format", "")
    meaning = _Meaning(check)
    meaning.rules["root"] = meaning.format(tag["format"], "/format")
    return Productions(meaning.rules, "root")


class _Meaning:
    def __init__(self, check: JsonCheck) -> None:
        self.check = check
        self.rules: dict[str, Node] = {}
        self.ends: Sequence[str] = ()
        """How the innermost tag ends: free text in it does not hold these."""
        self.depth = 0

    def format(self, given: Any, at: str) -> Node:
        """What a format derives."""
        kind = given.get("type") if isinstance(given, dict) else None
        if kind in _TOKENS:
            raise UndecidableTag(f"the format {kind!r}: token ids do not show in a text", at)
        if not isinstance(kind, str) or kind not in FIELDS:
            raise WrongTag(f"unknown format {kind!r}; known are {', '.join(FIELDS)}", f"{at}/type")
        self.known(given, kind, at)
        self.depth += 1
        if self.depth > DEPTH:
            raise UndecidableTag(f"formats nested deeper than {DEPTH}", at)
        make: Callable[[_Format, str], Node] = getattr(self, f"format_{kind}")
        try:
            return make(given, at)
        except (WrongTag, UndecidableTag):
            raise
        except Undecidable as error:
            raise UndecidableTag(str(error), at) from None
        except ValueError as error:
            raise WrongTag(str(error), at) from None
        finally:
            self.depth -= 1

    def known(self, given: _Format, kind: str, at: str) -> None:
        for name in given:
            if name not in ("type", *FIELDS[kind]):
                raise WrongTag(f"{kind} has no field {name!r}", f"{at}/{name}")

    def format_const_string(self, given: _Format, at: str) -> Node:
        return Literal(_text(given, "value", at))

    def format_json_schema(self, given: _Format, at: str) -> Node:
        schema = given.get("json_schema")
        if not isinstance(schema, dict | bool):
            raise WrongTag("json_schema must be an object or a boolean", f"{at}/json_schema")
        style = given.get("style", "json")
        if style not in STYLES:
            raise UndecidableTag(f"the style {style!r} of a json_schema", f"{at}/style")
        if given.get("excludes"):
            raise UndecidableTag("excludes beside a json_schema", f"{at}/excludes")
        _flag(given, "any_order", at, False)
        return (JsonValue if style == "json" else Parameters)(self.check(schema, style))

    def format_any_text(self, given: _Format, at: str) -> Node:
        for name in ("max_tokens", "max_chars"):
            if given.get(name) is not None:
                raise UndecidableTag(f"{name} of any_text, which the matcher relaxes where it must", f"{at}/{name}")
        return FreeText([*_texts(given, "excludes", at), *filter(None, self.ends)])

    def format_grammar(self, given: _Format, at: str) -> Node:
        prefix = f"{at}/"
        self.rules.update(ebnf_rules(_text(given, "grammar", at), prefix))
        return Call(f"{prefix}root")

    def format_regex(self, given: _Format, at: str) -> Node:
        return read_regex(_text(given, "pattern", at))

    def format_sequence(self, given: _Format, at: str) -> Node:
        return Row(self.formats(given, "elements", at))

    def format_or(self, given: _Format, at: str) -> Node:
        return Choice(self.formats(given, "elements", at))

    def format_tag(self, given: _Format, at: str) -> Node:
        return Row((Literal(self.begin(given, at)), *self.inside(given, at)))

    def begin(self, given: _Format, at: str) -> str:
        if isinstance(given.get("begin"), dict) or isinstance(given.get("end"), dict):
            raise UndecidableTag("a tag that begins or ends with a token, which does not show in a text", at)
        return _text(given, "begin", at)

    def inside(self, given: _Format, at: str) -> tuple[Node, Node]:
        """What follows the begin of a tag: its content and its end."""
        end = given.get("end")
        ends = _texts(given, "end", at) if isinstance(end, list) and end else [_text(given, "end", at)]
        outer, self.ends = self.ends, ends
        content = self.format(given.get("content"), f"{at}/content")
        self.ends = outer
        return content, Choice(tuple(Literal(end) for end in ends))

    def format_optional(self, given: _Format, at: str) -> Node:
        return Repeat(self.format(given.get("content"), f"{at}/content"), *_TIMES[given["type"]])

    format_plus = format_star = format_optional

    def format_repeat(self, given: _Format, at: str) -> Node:
        least, most = given.get("min"), given.get("max")
        if not isinstance(least, int) or not isinstance(most, int) or least < 0 or (most != -1 and most < least):
            raise WrongTag("repeat needs min and max, whole numbers in order (max -1: no limit)", at)
        content = self.format(given.get("content"), f"{at}/content")
        return Repeat(content, least, None if most == -1 else most)

    def format_tags_with_separator(self, given: _Format, at: str) -> Node:
        tags = Choice(tuple(self.format(tag, place) for tag, place in self.listed(given, at)))
        more = Repeat(Row((Literal(_text(given, "separator", at)), tags)), 0, None)
        whole = tags if _flag(given, "stop_after_first", at, False) else Row((tags, more))
        return whole if _flag(given, "at_least_one", at, False) else Repeat(whole, 0, 1)

    def listed(self, given: _Format, at: str) -> list[tuple[_Format, str]]:
        tags = given.get("tags")
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, dict) for tag in tags):
            raise WrongTag("tags must be a list of at least one tag", f"{at}/tags")
        found: list[tuple[_Format, str]] = [
            ({"type": "tag", **tag}, f"{at}/tags/{index}") for index, tag in enumerate(tags)
        ]
        for tag, place in found:
            if tag["type"] != "tag":
                raise WrongTag("tags must be of the type 'tag'", f"{place}/type")
            self.known(tag, "tag", place)
        return found

    def format_triggered_tags(self, given: _Format, at: str) -> Node:
        triggers = _texts(given, "triggers", at)
        once, needed = _flag(given, "stop_after_first", at, False), _flag(given, "at_least_one", at, False)
        excludes = [*_texts(given, "excludes", at), *filter(None, self.ends)]
        pairs: dict[str, list[Node]] = {trigger: [] for trigger in triggers}
        whole = []
        for tag, place in self.listed(given, at):
            begin = self.begin(tag, place)
            inside = self.inside(tag, place)
            fitting = [trigger for trigger in triggers if begin.startswith(trigger)]
            if len(fitting) != 1:
                raise WrongTag(f"exactly one trigger must begin {begin!r}, {len(fitting)} do", f"{place}/begin")
            pairs[fitting[0]].append(Row((Literal(begin[len(fitting[0]) :]), *inside)))
            whole.append(Row((Literal(begin), *inside)))
        for trigger, ways in pairs.items():
            if not ways:
                raise WrongTag(f"the trigger {trigger!r} begins no tag", f"{at}/triggers")
        if needed and once:
            return Choice(tuple(whole))
        groups = [(trigger, Choice(tuple(ways))) for trigger, ways in pairs.items()]
        self.rules[at] = dispatch(at, groups, excludes, loop=not once)
        return Row((Choice(tuple(whole)), Call(at))) if needed else Call(at)

    def format_dispatch(self, given: _Format, at: str) -> Node:
        rules = given.get("rules")
        if not isinstance(rules, list) or not all(
            isinstance(rule, list) and len(rule) == 2 and isinstance(rule[0], str) for rule in rules
        ):
            raise WrongTag("rules must be pairs of a string and a format", f"{at}/rules")
        pairs = [(rule[0], self.format(rule[1], f"{at}/rules/{index}/1")) for index, rule in enumerate(rules)]
        loop = _flag(given, "loop", at, True)
        self.rules[at] = dispatch(at, pairs, _texts(given, "excludes", at), loop=loop)
        return Call(at)

    def formats(self, given: _Format, name: str, at: str) -> tuple[Node, ...]:
        listed = given.get(name)
        if not isinstance(listed, list) or not listed:
            raise WrongTag(f"{name} must be a list of at least one format", f"{at}/{name}")
        return tuple(self.format(part, f"{at}/{name}/{index}") for index, part in enumerate(listed))


def _text(given: _Format, name: str, at: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise WrongTag(f"{name} must be a string", f"{at}/{name}")
    return value


def _texts(given: _Format, name: str, at: str) -> list[str]:
    value = given.get(name, [])
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise WrongTag(f"{name} must be a list of strings", f"{at}/{name}")
    if name == "excludes" and "" in value:
        raise WrongTag("an excluded string must not be empty: every text holds it", f"{at}/excludes")
    return value


def _flag(given: _Format, name: str, at: str, usual: bool) -> bool:
    value = given.get(name, usual)
    if not isinstance(value, bool):
        raise WrongTag(f"{name} must be true or false", f"{at}/{name}")
    return value
