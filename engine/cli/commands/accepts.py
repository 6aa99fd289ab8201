"""Whether a schema's grammar accepts documents, token by token, with the matcher that decoding uses.

A document is serialised compactly with its own key order and tokenised; a token counts only if its bit is set in the
mask and the matcher accepts it, up to the stop token. The check of the finished text plays no part. Of a rejected one
it tells the first character at which no accepted text goes on, counted from 0 in that serialisation. An INSTANCE is a
JSON file, a .jsonl file with one document a line, - for stdin, or JSON text. --cases reads lines of
{"name", "schema", "tests": [{"data", "valid"}]} and prints one line a case.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.arguments import options
from engine.cli.arguments.inputs import compact, parse_json, read_lines, read_schema, read_text
from engine.cli.sessions.grammar_session import Grammars, open_grammars
from engine.cli.terminal import FAILED, OK
from engine.errors import EngineError, RequestError
from engine.interfaces import Tokenizer
from engine.request import Conformance, Constraint

if TYPE_CHECKING:
    from engine.grammar import Matcher
    from engine.grammar.compiled_grammar import CompiledGrammar
    from engine.grammar.masks.bitmask import Rows

SHOWN = 30
"""Characters on either side of the place where a document stops being accepted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("schema", nargs="?", metavar="SCHEMA", help="a file, or the name of a bundled schema")
    parser.add_argument("instances", nargs="*", metavar="INSTANCE", help="documents")
    parser.add_argument("--cases", metavar="FILE.jsonl[.xz]", help="many schemas with their documents")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line a document")
    options.add_conformance(parser)
    options.add_tokenizer(parser)
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
    if (args.cases is None) == (args.schema is None):
        raise RequestError("give either SCHEMA INSTANCE... or --cases FILE", param="schema")
    if args.cases is not None:
        cases = read_cases(args.cases)
        with open_grammars(args) as grammars:
            for case in cases:
                print(compact(judge(grammars, case, args.conformance)), flush=True)
        return OK
    documents = [document for name in args.instances for document in read_instances(name)]
    if not documents:
        raise RequestError("name at least one INSTANCE", param="instances")
    case = {"name": args.schema, "schema": read_schema(args.schema), "tests": [{"data": d} for _, d in documents]}
    with open_grammars(args) as grammars:
        found = judge(grammars, case, args.conformance, places=True)
    if args.json:
        print(compact(found))
    else:
        print("\n".join(_lines(found, documents)))
    return OK if all(found["accepted"]) else FAILED


def read_cases(name: str) -> list[dict[str, Any]]:
    """Cases of a file, checked for their shape; RequestError names the line."""
    cases = []
    for number, case in read_lines(name, param="cases"):
        tests = case.get("tests") if isinstance(case, dict) else None
        if (
            not isinstance(tests, list)
            or "schema" not in case
            or not all(isinstance(t, dict) and "data" in t for t in tests)
        ):
            raise RequestError(
                f"{name}, line {number}: a case is {{name, schema, tests: [{{data, valid}}]}}", param="cases"
            )
        cases.append({"name": case.get("name", f"line-{number}"), "schema": case["schema"], "tests": tests})
    return cases


def read_instances(name: str) -> Iterator[tuple[str, Any]]:
    """(where, document) of one INSTANCE argument."""
    if name != "-" and not Path(name).exists():
        yield name, parse_json(name, where=f"instance {name!r} is neither a file nor JSON", param="instances")
    elif name.removesuffix(".xz").endswith(".jsonl"):
        for number, document in read_lines(name, param="instances"):
            yield f"{name}, line {number}", document
    else:
        yield name, parse_json(read_text(name, param="instances"), where=name, param="instances")


def judge(
    grammars: Grammars, case: dict[str, Any], conformance: Conformance, *, places: bool = False
) -> dict[str, Any]:
    """One case under the compile limits: what is refused is a reason, and `accepted` is null for each of its tests.

    `places` adds `stops_at`: for each test that is rejected the character from which on it is.
    """
    started = time.perf_counter()
    tests = case["tests"]
    found: dict[str, Any] = {"name": case["name"], "supported": True, "reason": None, "verdicts": []}
    try:
        grammar = grammars.service.compile(Constraint.json_schema(case["schema"], conformance=conformance))
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others are still judged
        told = error.message if isinstance(error, EngineError) else f"engine failure: {error!r}"
        found |= {"supported": False, "reason": told}
        compile_ms = (time.perf_counter() - started) * 1e3
        accepted: list[bool | None] = [None] * len(tests)
        stops: list[int | None] = [None] * len(tests)
    else:
        found["verdicts"] = [verdict.to_dict() for verdict in grammar.verdicts]
        compile_ms = grammar.compile_ms
        ways = [follow(grammar, grammars.tokenizer, test["data"], places=places) for test in tests]
        accepted, stops = [way[0] for way in ways], [way[1] for way in ways]
    found |= {"compile_ms": round(compile_ms, 3), "accepted": accepted}
    return found | {"stops_at": stops} if places else found


def follow(
    grammar: CompiledGrammar, tokenizer: Tokenizer, document: Any, *, places: bool = False
) -> tuple[bool | None, int | None]:
    """Whether mask and matcher let the document through to the stop token (None when no tokens write it).

    Where they do not, and with `places`, the character at which they stop, too.
    """
    from engine.grammar.masks.bitmask import cleared, legal

    ids = written(tokenizer, document)
    if ids is None:
        return None, None
    matcher = grammar.matcher()
    rows = cleared(1, grammar.vocabulary.size)
    for token in (*ids, tokenizer.stop_token_ids[0]):
        if not matcher.fill(rows, 0) or not legal(rows[0], token) or not matcher.accept(token):
            if not places:
                return False, None
            text = compact(document).encode("utf-8")
            done = len(b"".join(tokenizer.token_bytes(i) or b"" for i in matcher.token_ids))
            done += _further(matcher, rows, text[done:])
            return False, len(text[:done].decode("utf-8", "ignore"))
    return True, None


def _further(matcher: Matcher, rows: Rows, rest: bytes) -> int:
    """How many bytes of `rest` texts of the grammar go on with, whatever tokens they are made of."""
    from engine.grammar.masks.bitmask import ids

    texts, done = matcher.grammar.vocabulary.texts, 0
    while rest and matcher.fill(rows, 0):
        near = [(token, text) for token in ids(rows[0]).tolist() if (text := texts[token]) and text[:1] == rest[:1]]
        whole = [(len(text), token) for token, text in near if rest.startswith(text)]
        if not whole or not matcher.accept(max(whole)[1]):
            return done + max((_common(text, rest) for _, text in near), default=0)
        done, rest = done + max(whole)[0], rest[max(whole)[0] :]
    return done


def _common(one: bytes, other: bytes) -> int:
    """Bytes that both begin with."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def written(tokenizer: Tokenizer, document: Any) -> list[int] | None:
    """The tokens that write the document byte for byte.

    None when the vocabulary lacks bytes, or no JSON text in UTF-8 is this document (a lone surrogate, an infinity).
    """
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        wanted = text.encode("utf-8")
    except ValueError:
        return None
    ids = tokenizer.encode(text)
    return ids if b"".join(tokenizer.token_bytes(i) or b"" for i in ids) == wanted else None


def _lines(found: dict[str, Any], documents: list[tuple[str, Any]]) -> Iterator[str]:
    if not found["supported"]:
        yield f"refused: {found['reason']}"
        return
    words = {True: "accepted", False: "rejected", None: "cannot be written in this vocabulary"}
    for (where, document), answer, place in zip(documents, found["accepted"], found["stops_at"], strict=True):
        yield f"{words[answer]}: {where}{'' if place is None else _stop(compact(document), place)}"


def _stop(text: str, place: int) -> str:
    """Where it stops, shown with what stands around it."""
    before = repr(text[:place]) if place <= SHOWN else f"...{text[place - SHOWN : place]!r}"
    after = repr(text[place : place + SHOWN]) if place < len(text) else "the end"
    return f": stops at character {place}, after {before}, before {after}"
