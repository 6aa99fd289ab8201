"""Structural tags for the corpus, and which texts they take: every format compared directly, split by split."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema

SCHEMAS: list[tuple[Any, list[str]]] = [
    ({"type": "integer", "minimum": 3}, ["3", "12", "2", '"3"']),
    ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"],
      "additionalProperties": False}, ['{"a":1,"b":"x"}', '{"a":1}', '{"a":"x","b":"x"}']),
    ({"type": "array", "items": {"enum": [1, "x"]}, "minItems": 1}, ["[1]", '["x",1]', "[]", "[2]"]),
    ({"type": "string", "pattern": "^a+$"}, ['"aa"', '"b"', '""']),
    ({"not": {"type": "string"}}, ["1", '"a"', "[]", "null"]),
]  # fmt: skip
PATTERNS = ["[0-9]{2,3}", "a|bc", "(?:xy)+", "[^<>]*", r"\d+(?:\.\d)?", "[a-c]?z"]
WORDS = ["a", "bc", "<", "é", "x y", "</"]
BEGINS, ENDS = ["<t>", "<u>", "[["], ["</t>", "]]", ";", "\n"]


def ends(part: dict[str, Any], text: str, at: int, closing: tuple[str, ...] = ()) -> set[int]:
    """Where the format can end when it begins at `at`, inside a tag that ends with one of `closing`."""
    kind, every = part["type"], range(at, len(text) + 1)
    if kind == "const_string":
        return _after(text, at, part["value"])
    if kind == "regex":
        return {end for end in every if re.fullmatch(part["pattern"], text[at:end], re.ASCII)}
    if kind == "json_schema":
        return {end for end in every if _is_document(part["json_schema"], text[at:end])}
    if kind == "any_text":
        return {end for end in every if not any(word in text[at:end] for word in (*part.get("excludes", ()), *closing))}
    if kind == "or":
        return set().union(*(ends(one, text, at, closing) for one in part["elements"]))
    if kind == "sequence":
        return _row([lambda start, one=one: ends(one, text, start, closing) for one in part["elements"]], at)
    if kind in ("optional", "star", "plus", "repeat"):
        least = {"plus": 1, "repeat": part.get("min")}.get(kind, 0)
        most = {"optional": 1, "repeat": part.get("max")}.get(kind, -1)
        return _times(lambda start: ends(part["content"], text, start, closing), at, least, most, len(text))
    if kind == "tag":
        return _tag(part, text, at, part["begin"])
    if kind == "tags_with_separator":
        return _separated(part, text, at)
    return _triggered(part, text, at, closing)


def _after(text: str, at: int, word: str) -> set[int]:
    return {at + len(word)} if text.startswith(word, at) else set()


def _row(parts: list[Any], at: int) -> set[int]:
    found = {at}
    for part in parts:
        found = {end for start in found for end in part(start)}
    return found


def _times(once: Any, at: int, least: int, most: int, longest: int) -> set[int]:
    reached, found = (set() if least else {at}), {at}
    for count in range(1, (longest + 2 if most == -1 else most) + 1):
        found = {end for start in found for end in once(start)}
        reached |= found if count >= least else set()
    return reached


def _tag(part: dict[str, Any], text: str, at: int, begin: str) -> set[int]:
    closing = tuple(part["end"]) if isinstance(part["end"], list) else (part["end"],)
    return {
        end
        for start in _after(text, at, begin)
        for middle in ends(part["content"], text, start, closing)
        for word in closing
        for end in _after(text, middle, word)
    }


def _separated(part: dict[str, Any], text: str, at: int) -> set[int]:
    def one(start: int) -> set[int]:
        return set().union(*(_tag(tag, text, start, tag["begin"]) for tag in part["tags"]))

    found, last = set() if part.get("at_least_one") else {at}, one(at)
    found |= last
    while last and not part.get("stop_after_first"):
        last = {
            end for start in last for middle in _after(text, start, part["separator"]) for end in one(middle)
        } - found
        found |= last
    return found


def _triggered(part: dict[str, Any], text: str, at: int, closing: tuple[str, ...]) -> set[int]:
    banned = (*part.get("excludes", ()), *closing)
    whole = [(tag["begin"], tag) for tag in part["tags"]]
    found: set[int] = set()
    waiting = {at}
    if part.get("at_least_one"):
        waiting = set().union(*(_tag(tag, text, at, begin) for begin, tag in whole))
        if part.get("stop_after_first"):
            return waiting
    done: set[int] = set()
    while waiting:
        start = waiting.pop()
        done.add(start)
        for end in range(start, len(text) + 1):
            free = text[start:end]
            if any(word in free for word in banned):
                break
            trigger = next((word for word in part["triggers"] if free.endswith(word)), None)
            if trigger is None:
                found.add(end)
                continue
            for begin, tag in whole:
                if begin.startswith(trigger):
                    after = _tag(tag, text, end - len(trigger), begin)
                    found |= after
                    waiting |= set() if part.get("stop_after_first") else after - done
            break
    return found


def _is_document(schema: Any, text: str) -> bool:
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return text == text.strip() and jsonschema.Draft202012Validator(schema).is_valid(document)


def random_format(random_: random.Random, depth: int = 2) -> dict[str, Any]:
    leaves = ["const_string", "regex", "json_schema", "any_text"]
    kinds = [
        "sequence",
        "or",
        "optional",
        "star",
        "plus",
        "repeat",
        "tag",
        "tag",
        "tags_with_separator",
        "triggered_tags",
    ]
    kind = random_.choice(leaves if depth == 0 else [*kinds, *leaves])
    inner = {"type": kind}
    if kind == "const_string":
        return {**inner, "value": random_.choice(WORDS)}
    if kind == "regex":
        return {**inner, "pattern": random_.choice(PATTERNS)}
    if kind == "json_schema":
        return {**inner, "json_schema": random_.choice(SCHEMAS)[0]}
    if kind == "any_text":
        return {**inner, **random_.choice(({}, {"excludes": ["bc"]}, {"excludes": ["<t>", "q"]}))}
    if kind in ("sequence", "or"):
        return {**inner, "elements": [random_format(random_, depth - 1) for _ in range(random_.randint(1, 3))]}
    if kind == "tag":
        return random_tag(random_, depth)
    if kind in ("tags_with_separator", "triggered_tags"):
        flags = {name: random_.random() < 0.4 for name in ("at_least_one", "stop_after_first")}
        tags = [random_tag(random_, depth, begin) for begin in random_.sample(["<t>", "<t2>", "<u>"], 2)]
        if kind == "tags_with_separator":
            return {**inner, "tags": tags, "separator": random_.choice((",", "\n", "--")), **flags}
        triggers = [word for word in ("<t", "<u>") if any(tag["begin"].startswith(word) for tag in tags)]
        return {**inner, "triggers": random_.choice((triggers, ["<"])), "tags": tags, **flags}
    bounds = {"min": random_.choice((0, 1, 2)), "max": random_.choice((2, 3, -1))} if kind == "repeat" else {}
    return {**inner, **bounds, "content": random_format(random_, depth - 1)}


def random_tag(random_: random.Random, depth: int, begin: str | None = None) -> dict[str, Any]:
    end = random_.choice([*ENDS, ENDS[:2]])
    content = random_format(random_, depth - 1)
    return {"type": "tag", "begin": begin or random_.choice(BEGINS), "content": content, "end": end}


def sample(part: dict[str, Any], random_: random.Random) -> str:
    kind = part["type"]
    if kind == "const_string":
        return str(part["value"])
    if kind == "regex":
        return random_.choice(["12", "123", "a", "bc", "xyxy", "q<", "1.5", "z", "bz", ""])
    if kind == "json_schema":
        return random_.choice(next(texts for schema, texts in SCHEMAS if schema == part["json_schema"]))
    if kind == "any_text":
        return random_.choice(["", "hi", "b c", "abc", "é\n", "q"])
    if kind == "or":
        return sample(random_.choice(part["elements"]), random_)
    if kind == "sequence":
        return "".join(sample(one, random_) for one in part["elements"])
    if kind in ("optional", "star", "plus", "repeat"):
        return "".join(sample(part["content"], random_) for _ in range(random_.randint(0, 3)))
    if kind == "tag":
        end = random_.choice(part["end"]) if isinstance(part["end"], list) else part["end"]
        return str(part["begin"] + sample(part["content"], random_) + end)
    tags = [sample(random_.choice(part["tags"]), random_) for _ in range(random_.randint(0, 2))]
    between = part.get("separator")
    free = ["", "x", "<", "a<"]
    return between.join(tags) if between else "".join(random_.choice(free) + tag for tag in tags) + random_.choice(free)
