"""What most schemas share, as grammars: a compiler that has seen them knows most rules of the next schema.

Knows schemas and key rules; does not know compilers. Compiled at start-up, none of it is for a document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.schema.grammar import Grammar, Ref, Rule
from engine.schema.key_exits import LOWER, UPPER, Site, all_exits
from engine.schema.keys import KeyRules
from engine.schema.layout import Layout
from engine.schema.lower import lower
from engine.schema.other_keys import neighbours, other_key
from engine.schema.text import TextRules
from engine.schema.trim import prune

FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid")
SHAPES: dict[str, Any] = {
    "any": {},
    **{kind: {"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "object", "array")},
    **{name: {"type": "string", "format": name} for name in FORMATS},
    "list": {"type": "array", "items": {"type": "string"}},
    "count": {"type": "integer", "minimum": 0},
    "rank": {"type": "integer", "minimum": 1},
    "share": {"type": "number", "minimum": 0},
    "port": {"type": "integer", "minimum": 0, "maximum": 65535},
    "percent": {"type": "number", "minimum": 0, "maximum": 100},
    "unit": {"type": "number", "minimum": 0, "maximum": 1},
    "positive": {"type": "number", "exclusiveMinimum": 0},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
}
"""Scalars, formats, common ranges and free-form parts."""

NAMES = (
    "id name type kind title label description summary details notes comment comments text message messages content "
    "value values key keys code status state level priority category categories group groups tag tags url uri href "
    "link links email phone address street city region country zip zipCode postalCode postal_code latitude "
    "longitude location coordinates date time timestamp created created_at createdAt updated updated_at updatedAt "
    "start end start_date end_date startDate endDate startTime endTime duration count total amount price currency "
    "quantity unit size width height length weight color image images icon src path file files filename format "
    "version language locale author owner user users user_id userId username password first_name last_name "
    "firstName lastName age gender role roles config configuration options settings enabled active required default "
    "min max minimum maximum limit offset page query filter sort order parent children source target host hostname "
    "port protocol method headers body params parameters arguments args command commands env environment "
    "dependencies scripts license homepage repository keywords metadata labels annotations namespace spec template "
    "selector container containers volumes ports resources apiVersion schema definitions properties attributes "
    "elements fields columns rows index rank score rating reason action actions event events error errors warnings "
    "mode model provider domain token secret hash signature data items list results response request input output "
    "project projects product products service services task tasks account company organization department job note "
    "public private visible hidden image_url imageUrl display_name displayName"
)
"""Names that documents of all kinds give their members, a space between two."""


ROADS_AT_ONCE = 64
OPEN_PATTERNS = ("^a", "^.*$", "^.+$", r"^\S*$", r"^\S+$", r"\S", "^https?://")
"""What becomes of the rest of a string is the same after every match; these are most of the ways to say so."""
WORDS = (
    *(f"^[{letters}]+$" for letters in ("a-z", "A-Z", "A-Za-z", "0-9", "a-z0-9", "A-Za-z0-9")),
    *(f"^[{letters}]+$" for letters in ("a-z_", "A-Za-z_", "a-z0-9_", "a-z0-9-", "a-z0-9_-", "A-Z0-9_")),
    *(rf"^[{letters}]*$" for letters in (r"\w", r"\w-", r"\w.-", r"\w.:-", r"\w/.:-", r"\w\s-")),
    *("^[a-z][a-z0-9-]*$", "^[a-z][a-z0-9_]*$", r"^[A-Za-z]\w*$", r"^[A-Za-z_]\w*$", r"^[A-Za-z][\w-]*$"),
)
"""Identifiers."""
CODES = (
    *(f"^[{digits}]{{{size}}}$" for digits in ("A-Fa-f0-9", "a-f0-9") for size in (24, 32, 40, 64)),
    *(f"^[{digits}]{{8}}(-[{digits}]{{4}}){{3}}-[{digits}]{{12}}$" for digits in ("A-Fa-f0-9", "a-f0-9")),
    "^[a-f0-9]{8}-[a-f0-9]{4}-[1-5][a-f0-9]{3}-[89ab][a-f0-9]{3}-[a-f0-9]{12}$",
    r"^\d{4}-\d{2}-\d{2}$",
    r"^\d+\.\d+\.\d+$",
    "^#[A-Fa-f0-9]{6}$",
)
"""Digests, identifiers, dates, versions, colours."""


def common_grammars() -> Iterator[Grammar]:
    """Grammars that hold the shared rules of both conformances, compact layout: one a shape, so that whoever compiles
    them can stop in between. A second of CPU in all."""
    for name, shape in SHAPES.items():
        schema = {"type": "object", "properties": {name: shape}}
        yield lower(schema, conformance="tight").grammar
        yield lower(schema, conformance="spec").grammar
    yield from _roads()
    yield from _pairs()
    yield from patterns()


def patterns() -> Iterator[Grammar]:
    """Patterns without a length, which values have, and keys: those keys alone, or others beside them."""
    for pattern in (*OPEN_PATTERNS, *WORDS, *CODES):
        yield lower({"type": "array", "items": {"type": "string", "pattern": pattern}}).grammar
    for pattern in (*OPEN_PATTERNS, *WORDS):
        closed = {"type": "object", "patternProperties": {pattern: {"type": "string"}}, "additionalProperties": False}
        yield lower(closed, conformance="spec").grammar
        yield lower({"type": "object", "patternProperties": {pattern: {"type": "null"}}}, conformance="spec").grammar


def _roads() -> Iterator[Grammar]:
    """Every shared rule by which an undeclared key can leave the declared ones (a string, the values it must not be),
    and the ways along common names, whose pairs of characters most other names are made of.
    """
    rules: dict[str, Rule] = {}
    texts, layout = TextRules(rules, "s"), Layout({}, flexible=False)
    keys, values = KeyRules(texts, layout.after_key), KeyRules(texts, layout.follow("value"), fine=True)
    site = Site("s", layout.after_key)
    leave = all_exits(site)
    rules.update((rule.name, rule) for rule in leave.rules)
    roads = [*leave.refs, *keys.roads(), *values.roads()]
    for name in NAMES.split():
        other = other_key(site, [name])
        rules.update((rule.name, rule) for rule in other)
        roads.append(Ref(other[0].name))
    for start in range(0, len(roads), ROADS_AT_ONCE):
        rules["roads"] = Rule("roads", tuple((road,) for road in roads[start : start + ROADS_AT_ONCE]))
        yield Grammar(prune(rules, "roads", rules), "roads")


def _pairs() -> Iterator[Grammar]:
    """Letters that stand next to each other in names (`ab`, `aB`, `Ab`, `a_`, `_a`), where a key can leave a name."""
    site = Site("s", Layout({}, flexible=False).after_key)
    followers = {**dict.fromkeys(LOWER, f"{LOWER}{UPPER}_"), **dict.fromkeys(UPPER, LOWER), "_": LOWER}
    for first, letters in followers.items():
        parts = [neighbours(site, first, letter) for letter in letters]
        rules = {rule.name: rule for part in parts for rule in part}
        rules["roads"] = Rule("roads", tuple((Ref(part[0].name),) for part in parts))
        yield Grammar(rules, "roads")
