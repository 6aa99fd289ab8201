"""Lark grammars for the corpus, and what Lark's own Earley parser says of texts (needs the package `lark`).

`%json` is not Lark's: in the oracle's grammar a mark stands for it, and in a text the mark stands for a document.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from typing import Any

MARK = "\u00a7"
SCHEMAS: list[tuple[Any, list[str]]] = [
    ({"type": "integer", "minimum": 3}, ["3", "12", "2", "3.5", '"3"', "null"]),
    ({"type": "number", "multipleOf": 3}, ["3", "4", "-9", "0", '"a"']),
    ({"not": {"type": "string"}}, ["1", '"a"', "[]", "{}", "null", "true"]),
    ({"type": "string", "pattern": "[ab]"}, ['"foobar"', '"xyz"', '""', '"a"', "1"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"a"', '"abcd"', '"\\u00e9x"', '"abc"']),
    ({"enum": [1, "x", None, [1]]}, ["1", '"x"', "null", "[1]", "2", '"y"', "[]"]),
    ({"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
     ["[]", "[true]", "[true,false]", "[1]", "[true,true,true]"]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
     ['{"a":1}', "{}", '{"a":"x"}', '{"a":1,"b":2}', '{"b":1}']),
    ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]}, ["3", "7", "7.5", '"a"', "1.5"]),
    ({"if": {"type": "string"}, "then": {"const": "a"}, "else": {"type": "null"}}, ['"a"', '"b"', "null", "1"]),
]  # fmt: skip


@dataclass
class Case:
    """`source` is ours, `oracle` Lark's; `samples` derive texts of it (MARK for a document), `schemas` in order."""

    source: str
    oracle: str
    pieces: list[list[str]]
    gaps: bool
    schema: Any = None
    documents: list[str] = field(default_factory=list)


_TERMINALS = [
    ('"a"', ["a"]), ('"bc"', ["bc"]), ('"x"i', ["x", "X"]), ("/[0-9]+/", ["1", "23"]), ('"a".."c"', ["a", "b"]),
    (r"/[a-z]\d?/", ["a", "z9"]), (r"/\(|\)/", ["(", ")"]), ("/(ab|c)+/i", ["ab", "Cab", "c"]), (r'"\n"', ["\n"]),
    (r"/[^a-z\s]/", ["A", "!", "é"]), (r'"\u00e9"', ["é"]), ('","', [","]), (r"/a.b/", ["axb", "a-b"]),
    (r"/a.b/s", ["a\nb"]),
    (r"/\w{2,3}/", ["ab", "a_1"]), ('"+" "-"?', ["+", "+-"]), ('("q" | "r")+', ["q", "rq"]), (r"/\//", ["/"]),
]  # fmt: skip
_COMMON = [
    ("INT", ["0", "42"]), ("CNAME", ["x", "_a1"]), ("NUMBER", ["1", "1.5", "2e9"]), ("WORD", ["abc"]),
    ("ESCAPED_STRING", ['"a"', r'"\""', '""']), ("SIGNED_INT", ["-3", "+1"]), ("HEXDIGIT", ["f", "0"]),
]  # fmt: skip


def random_case(random_: random.Random) -> Case:
    """A grammar of two rules over a few terminals, perhaps with gaps, imports and a JSON part."""
    terminals = random_.sample(_TERMINALS, 3)
    names = ["AA", "B_1", "_C"]
    lines = [f"{name}: {body}" for name, (body, _) in zip(names, terminals, strict=True)]
    words = {name: texts for name, (_, texts) in zip(names, terminals, strict=True)}
    if random_.random() < 0.5:
        name, texts = random_.choice(_COMMON)
        lines.append(
            random_.choice((f"%import common.{name}", f"%import common ({name})", f"%import common.{name} -> {name}"))
        )
        words[name] = texts
    gaps = random_.random() < 0.4
    spaces = [['%ignore " "'], ["%import common.WS", "%ignore WS"], ["%ignore /[ ;]/"]]
    if any("\n" in text for texts in words.values() for text in texts):
        del spaces[1]  # Lark ignores as much as it can, the dialect any part of it
    ignore = random_.choice(spaces) if gaps else []
    schema, documents = random_.choice(SCHEMAS) if random_.random() < 0.4 else (None, [])
    rule, pieces = _rule(random_, list(words), words)
    start, more = _start(random_, list(words), words, pieces, schema is not None)
    ours = [f"start: {start}", f"item: {rule}", *lines, *ignore]
    head, *rest = ours
    random_.shuffle(rest)
    source = "\n".join([head, *rest])
    theirs = source.replace("%json MARK", f'"{MARK}"')
    for braces, tilde in ((r"{2,3}", "~2..3"), (r"{2}", "~2"), (r"{,2}", "~0..2")):
        theirs = theirs.replace(")" + braces, ")" + tilde)
    source = source.replace("%json MARK", "%json " + json.dumps(schema))
    return Case(source, theirs, more, gaps, schema, documents)


def _rule(random_: random.Random, names: list[str], words: dict[str, list[str]]) -> tuple[str, list[list[str]]]:
    ways, pieces = [], []
    for _ in range(random_.randint(1, 3)):
        chosen = random_.choices(names, k=random_.randint(1, 3))
        ways.append(" ".join(chosen))
        pieces.append([random_.choice(words[name]) for name in chosen])
    if random_.random() < 0.4:
        ways.append('"(" item ")"')
        pieces.append(["(", *pieces[0], ")"])
    return random_.choice((" | ", "\n  | ")).join(ways), pieces


def _start(
    random_: random.Random, names: list[str], words: dict[str, list[str]], pieces: list[list[str]], has_json: bool
) -> tuple[str, list[list[str]]]:
    repeat = random_.choice(("", "+", "*", "?", "~2", "~1..2", "{2,3}", "{2}", "{,2}", "+"))
    name = random_.choice(names)
    tail, ends = (f' "=" {"%json MARK"}', ["=", MARK]) if has_json else (f" [{name}]", [])
    found = []
    for count in (0, 1, 2, 3):
        for _ in range(3):
            row = [piece for _ in range(count) for piece in random_.choice(pieces)]
            found.append([*row, *ends])
            found.append([*row, *([random_.choice(words[name])] if not has_json else ends)])
    return f"(item){repeat}{tail}", found


def parser(oracle: str) -> Any:
    import lark

    return lark.Lark(oracle, parser="earley", lexer="dynamic_complete", keep_all_tokens=True, g_regex_flags=re.ASCII)


def parses(made: Any, text: str) -> bool:
    import lark

    try:
        made.parse(text)
    except lark.exceptions.UnexpectedInput:
        return False
    return True
