"""Writes data/corpus.jsonl: grammars of the five kinds that are not JSON, with texts that they take and do not take.

Every outcome is an independent one: regex by Node's RegExp with the flag u, Lark by the package `lark` (Earley; its
`%json` parts by the package `jsonschema`), EBNF by `ebnf_oracle`, tags by `tag_oracle`, choice by comparison.
`python -m tests.judge.make_corpus`, with node in the path and lark installed.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema

from tests.judge import ebnf_oracle, lark_oracle, tag_oracle
from tests.judge.make_regex_cases import composed

FILE = Path(__file__).parent / "data" / "corpus.jsonl"
MOST = 9
Case = dict[str, Any]


def mutated(text: str, random_: random.Random, alphabet: str) -> str:
    """The text with a character more, less or changed."""
    at = random_.randint(0, max(0, len(text) - 1))
    new = random_.choice(alphabet)
    return random_.choice(
        (text[:at] + text[at + 1 :], text[:at] + new + text[at:], text[:at] + new + text[at + 1 :], text + new)
    )


def sorted_out(kind: str, source: Any, texts: Iterable[str], takes: Callable[[str], bool]) -> Case | None:
    """The case, with a few texts of both kinds; None where there are not both."""
    found: dict[bool, list[str]] = {True: [], False: []}
    for text in dict.fromkeys(texts):
        if len(text) < 60:
            found[takes(text)].append(text)
    if not found[True] or not found[False]:
        return None
    return {"kind": kind, "source": source, "accepted": found[True][:MOST], "rejected": found[False][:MOST]}


def regexes(random_: random.Random) -> Iterator[Case]:
    lookless = re.compile(r"\(\?[=!<]|\\b|[$^]")
    patterns = [pattern for pattern in (composed(random_) for _ in range(400)) if not lookless.search(pattern)][:90]
    patterns += [composed(random_) for _ in range(60)]
    texts = {
        pattern: ["".join(random_.choices("aabbcx1. é_", k=random_.randint(0, 6))) for _ in range(150)]
        for pattern in patterns
    }
    script = (
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "for (const [pattern, texts] of Object.entries(given)) { const made = new RegExp(`^(?:${pattern})$`, 'u');"
        "console.log(JSON.stringify([pattern, texts.filter(text => made.test(text))])) }"
    )
    run = subprocess.run(["node", "-e", script], input=json.dumps(texts), capture_output=True, text=True, check=True)
    for line in run.stdout.strip().split("\n"):
        pattern, matching = json.loads(line)
        case = sorted_out("regex", pattern, texts[pattern], set(matching).__contains__)
        if case is not None:
            yield case


def ebnfs(random_: random.Random) -> Iterator[Case]:
    for _ in range(400):
        grammar = ebnf_oracle.random_grammar(random_)
        if grammar.is_circular():
            continue  # refused, by name
        texts = [grammar.sample(random_) for _ in range(14)]
        texts += [mutated(text, random_, ebnf_oracle.ALPHABET) for text in texts]
        case = sorted_out(
            "ebnf", ebnf_oracle.written(grammar, random_), [t for t in texts if len(t) < 14], grammar.derives
        )
        if case is not None:
            yield case


def larks(random_: random.Random) -> Iterator[Case]:
    for _ in range(400):
        made = lark_oracle.random_case(random_)
        parser = lark_oracle.parser(made.oracle)
        texts = []
        for row in made.pieces:
            gap = [random_.choice(("", "", " ", "  ")) if made.gaps and row else "" for _ in row]
            text = "".join(piece + space for piece, space in zip(row, gap, strict=True))
            texts += [text, mutated(text, random_, "a1( ,=x")]
        if made.gaps:  # Lark takes them in front, too; the dialect does not
            texts = [text for text in texts if text[:1] not in (" ", ";", "\n")]
        try:
            if made.schema is None:
                case = sorted_out("lark", made.source, texts, partial(lark_oracle.parses, parser))
            else:
                case = sorted_out("lark", made.source, *_with_documents(made, texts, parser, random_))
        except RuntimeError:  # a fault of its own in Lark's parser
            continue
        if case is not None:
            yield case


def _with_documents(
    made: lark_oracle.Case, texts: list[str], parser: Any, random_: random.Random
) -> tuple[list[str], Callable[[str], bool]]:
    validator = jsonschema.Draft202012Validator(made.schema)
    outcome = {}
    for text in texts:
        if re.search(f"{lark_oracle.MARK}[^ ;]|[^= ;]{lark_oracle.MARK}", text):
            continue  # a neighbour would change the document
        if lark_oracle.MARK not in text and "=" in text:
            continue  # what stands there now could be a document by chance
        for document in random_.sample(made.documents, 2):
            good = lark_oracle.MARK in text and validator.is_valid(json.loads(document))
            written = text.replace(lark_oracle.MARK, document)
            outcome[written] = outcome.get(written, False) or (good and lark_oracle.parses(parser, text))
    return list(outcome), outcome.__getitem__


def tags(random_: random.Random) -> Iterator[Case]:
    for _ in range(700):
        format_ = tag_oracle.random_format(random_)
        if not _decidable(format_):
            continue
        texts = [tag_oracle.sample(format_, random_) for _ in range(16)]
        texts += [mutated(text, random_, "abc<>t/x1,;]") for text in texts]
        takes = lambda text, format_=format_: len(text) in tag_oracle.ends(format_, text, 0)  # noqa: E731
        case = sorted_out("structural_tag", {"type": "structural_tag", "format": format_}, texts, takes)
        if case is not None:
            yield case


def _decidable(part: Any, closing: tuple[str, ...] = ()) -> bool:
    """Whether no trigger stands inside what ends the tag around it (that is refused, by name)."""
    if isinstance(part, list):
        return all(_decidable(one, closing) for one in part)
    if not isinstance(part, dict):
        return True
    end = part.get("end", closing)
    inner = tuple(end) if isinstance(end, list) else (end,) if isinstance(end, str) else closing
    nested = any(trigger in word or word in trigger for trigger in part.get("triggers", ()) for word in closing)
    return not nested and all(_decidable(value, inner) for name, value in part.items() if name != "json_schema")


def choices(random_: random.Random) -> Iterator[Case]:
    for _ in range(20):
        options = [
            "".join(random_.choices('ab,"é\n\\ []', k=random_.randint(1, 5))) for _ in range(random_.randint(1, 6))
        ]
        texts = [*options, *(mutated(option, random_, 'a,"') for option in options), ""]
        case = sorted_out("choice", options, texts, options.__contains__)
        if case is not None:
            yield case


def main() -> None:
    random_ = random.Random(2026)
    kinds = {regexes: 120, ebnfs: 100, larks: 100, tags: 110, choices: 20}
    lines = [
        json.dumps(case) for make, most in kinds.items() for case, _ in zip(make(random_), range(most), strict=False)
    ]
    FILE.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} grammars")


if __name__ == "__main__":
    main()
