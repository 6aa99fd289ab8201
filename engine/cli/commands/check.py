"""What the engine can enforce of a schema, or of another constraint: verdicts, and how short the shortest text is.

A schema has one verdict per keyword; a grammar or tag has one, and one per keyword of every schema in it.
Exit code 1 when it is refused (or, with --require-enforced, when a keyword is only checked).
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from engine.cli.arguments import options
from engine.cli.arguments.inputs import compact
from engine.cli.sessions.grammar_session import open_grammars
from engine.cli.terminal import FAILED, OK
from engine.errors import RequestError, SchemaInvalid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("schema", nargs="?", metavar="SCHEMA", help="a file, or the name of a bundled schema")
    options.add_kinds(parser.add_argument_group("instead of SCHEMA"))
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--require-enforced", action="store_true", help="refuse a schema with a checked keyword")
    options.add_conformance(parser)
    options.add_draft(parser)
    options.add_contents(parser)
    options.add_tokenizer(parser)
    options.add_cache_dir(parser)


def run(args: argparse.Namespace) -> int:
    constraint = options.constraint(args, told=SchemaInvalid)  # what is refused has its row in the table
    if constraint is None:
        kinds = "--regex, --ebnf, --lark, --choice or --structural-tag"
        raise RequestError(f"name a SCHEMA, or give {kinds}", param="schema")
    with open_grammars(args) as grammars:
        from engine.grammar.check import check_constraint  # imported without torch by now

        found = check_constraint(grammars.service, constraint)
    print(compact(found) if args.json else table(found))
    return OK if found["supported"] else FAILED


def table(found: dict[str, Any]) -> str:
    """The verdicts for people, weakest guarantee first, and a closing line with the counts."""
    order = ("refused", "checked", "narrowed", "enforced")
    rows = sorted(found["verdicts"], key=lambda row: order.index(row["verdict"]))
    cells = [(row["verdict"], row["keyword"], row["pointer"] or "(root)", _why(row)) for row in rows]
    widths = [max((len(cell[i]) for cell in cells), default=0) for i in range(3)]
    lines = [
        "  ".join([*(part.ljust(width) for part, width in zip(cell, widths, strict=False)), cell[3]]) for cell in cells
    ]
    counts = Counter(row["verdict"] for row in rows)
    told = ", ".join(f"{counts[word]} {word}" for word in reversed(order) if counts[word])
    lines.append("")
    lines.append(f"{'supported' if found['supported'] else 'refused'}: {told or 'no keyword'}")
    if found["supported"]:
        lines.append(shortest(found))
    return "\n".join(line.rstrip() for line in lines)


def shortest(found: dict[str, Any]) -> str:
    """The line on the shortest document."""
    if found["min_tokens"] is None:
        return f"shortest document: {found['min_bytes']} bytes, which this vocabulary cannot write"
    bound = "" if found["min_tokens_exact"] else "at least "
    return f"shortest document: {found['min_bytes']} bytes, {bound}{found['min_tokens']} tokens with the stop token"


def _why(row: dict[str, Any]) -> str:
    reason = str(row.get("reason") or "")
    return f"{reason} (instead: {row['rewrite']})" if row.get("rewrite") else reason
