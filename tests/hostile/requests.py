"""Request bodies that a server meets sooner or later, with the HTTP code that each must get. Raw bytes where JSON fails."""

# ruff: noqa: E501 - a case a line reads best
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

ONE = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}


@dataclass(frozen=True)
class HostileRequest:
    name: str
    body: bytes
    codes: tuple[int, ...]


def case(name: str, *codes: int, **fields: Any) -> HostileRequest:
    body = {"prompt": "x", "max_tokens": 16, "seed": 1, **fields}
    body = {key: value for key, value in body.items() if value is not ...}
    return HostileRequest(name, json.dumps(body).encode(), codes)


def raw(name: str, body: bytes, *codes: int) -> HostileRequest:
    return HostileRequest(name, body, codes)


WIRE = [
    raw("nothing", b"", 400, 422),
    raw("not JSON", b"{", 400),
    raw("an array", b"[]", 400),
    raw("a string", b'"x"', 400),
    raw("null", b"null", 400),
    raw("NaN", b'{"prompt":"x","temperature":NaN}', 400),
    raw("Infinity", b'{"prompt":"x","temperature":Infinity}', 400),
    raw("NaN in the schema", b'{"prompt":"x","schema":{"minimum":NaN}}', 400, 422),
    raw("1e999", b'{"prompt":"x","temperature":1e999}', 400),
    raw("not UTF-8", b'{"prompt":"\xff"}', 400),
    raw("a lone surrogate", b'{"prompt":"\\ud83d"}', 400),
    raw("a lone surrogate in the schema", b'{"prompt":"x","schema":{"const":"\\ud83d"}}', 400, 422),
    raw("NUL in the prompt", b'{"prompt":"a\\u0000b","max_tokens":4}', 200, 400),
    raw("a UTF-8 byte order mark", b'\xef\xbb\xbf{"prompt":"x","max_tokens":4}', 200, 400),
    raw("UTF-16", '{"prompt":"x","max_tokens":4}'.encode("utf-16"), 200, 400),
    raw("deep arrays", b'{"prompt":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    raw(
        "deep objects in the schema",
        b'{"prompt":"x","schema":' + b'{"not":' * 20_000 + b"{}" + b"}" * 20_000 + b"}",
        400,
        422,
    ),
    raw("a number of 10,000 digits", b'{"prompt":"x","max_tokens":' + b"9" * 10_000 + b"}", 400),
    raw("trailing text", b'{"prompt":"x","max_tokens":4} x', 400),
    raw("two documents", b'{"prompt":"x"}{"prompt":"y"}', 400),
    raw("a duplicate key", b'{"prompt":"x","prompt":"y","max_tokens":4}', 200, 400),
    raw("twenty megabytes", b'{"prompt":"' + b"x" * 20_000_000 + b'"}', 413, 400),
]
FIELDS = [
    case("no prompt", 400, prompt=...),
    case("an empty prompt", 400, prompt=""),
    case("a prompt that is a number", 400, prompt=5),
    case("a prompt over the context", 400, 413, prompt="x" * 20_000),
    case("prompt beside messages", 400, messages=[{"role": "user", "content": "x"}]),
    case("no messages", 400, prompt=..., messages=[]),
    case("a message without a role", 400, prompt=..., messages=[{"content": "x"}]),
    case("a message without content", 400, prompt=..., messages=[{"role": "user"}]),
    case("content that is a number", 400, prompt=..., messages=[{"role": "user", "content": 5}]),
    case("system beside messages", 400, prompt=..., messages=[{"role": "user", "content": "x"}], system="s"),
    case("an unknown field", 400, temprature=1),
    case("max_tokens 0", 400, max_tokens=0),
    case("max_tokens -1", 400, max_tokens=-1),
    case("max_tokens 1.5", 400, max_tokens=1.5),
    case("max_tokens a string", 400, max_tokens="16"),
    case("max_tokens true", 400, max_tokens=True),
    case("max_tokens 10^30", 200, 400, 422, max_tokens=10**30, schema=ONE),
    case("temperature -1", 400, temperature=-1),
    case("temperature a string", 400, temperature="hot"),
    case("top_p 0", 400, top_p=0),
    case("top_p 2", 400, top_p=2),
    case("top_k -1", 400, top_k=-1),
    case("min_p 2", 400, min_p=2),
    case("repetition_penalty 0", 400, repetition_penalty=0),
    case("repetition_penalty 100", 200, repetition_penalty=100, schema=ONE),
    case("seed 2^70", 400, seed=2**70),
    case("n 0", 400, n=0),
    case("n 10^6", 400, n=10**6),
    case("logprobs 1,000", 400, logprobs=1000),
    case("stop with a grammar", 400, stop=["x"], schema=ONE),
    case("an empty stop", 400, stop=[""]),
    case("an unknown template", 400, template="none"),
    case("raw with a system prompt", 400, template="raw", system="s"),
    case("schema_in_prompt without a schema", 400, schema_in_prompt=True),
    case("deadline 0", 400, deadline_s=0),
    case("a deadline that has almost passed", 200, 504, deadline_s=1e-6, schema=ONE),
]
CONSTRAINTS = [
    case("a schema and a regex", 400, schema=ONE, regex="a"),
    case("a budget under the shortest document", 422, schema=ONE, max_tokens=2),
    case("a schema that is an array", 400, schema=[]),
    case("an unknown conformance", 400, schema=ONE, conformance="loose"),
    case("require_enforced on what is only checked", 200, 422, schema={"type": "array", "uniqueItems": True}, require_enforced=True),
    case("a broken regex", 422, regex="("),
    case("an empty regex", 400, 422, regex=""),
    case("a regex that matches nothing", 422, regex="a^b"),
    case("a regex bomb", 200, 422, regex="((a{1,60}){1,60}){1,60}"),
    case("a back-reference", 422, regex=r"(a)\1"),
    case("broken EBNF", 422, ebnf="root ::="),
    case("EBNF without a root", 422, ebnf='a ::= "a"'),
    case("EBNF that never ends", 422, ebnf='root ::= "a" root'),
    case("EBNF that is left-recursive", 200, 422, ebnf='root ::= root "a" | "b"'),
    case("EBNF that circles", 422, ebnf="root ::= root"),
    case("EBNF with an undefined rule", 422, ebnf='root ::= "a" b'),
    case("broken Lark", 422, lark="start: ("),
    case("Lark with an undefined rule", 422, lark="start: a"),
    case("an empty choice", 400, choice=[]),
    case("a choice of numbers", 400, choice=[1]),
    case("a choice of nothing", 400, choice=[""]),
    case("a choice of 2,000", 200, choice=[f"option {i}" for i in range(2000)], max_tokens=20),
    case("a structural tag that is none", 422, structural_tag={"type": "nonsense"}),
    case("a structural tag without a format", 422, structural_tag={"type": "structural_tag"}),
]  # fmt: skip

ALL = [*WIRE, *FIELDS, *CONSTRAINTS]
