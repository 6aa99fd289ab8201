"""Files of a language out of the caller's folders, and where tokens cut them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.datasets.vocabulary import Vocabulary

SUFFIXES = {
    "python": (".py",),
    "typescript": (".ts", ".mts", ".cts"),
    "go": (".go",),
    "rust": (".rs",),
    "java": (".java",),
    "sql": (".sql",),
    "regex": (".regex", ".txt"),
}
LONGEST = 400_000
"""Characters of a file; what is longer is generated data as a rule."""


@dataclass(frozen=True, slots=True)
class Source:
    path: Path
    text: str


def sources(language: str, folders: list[Path], rng: random.Random) -> Iterator[Source]:
    """In random order, those that are UTF-8 and not empty."""
    paths = sorted({path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES[language]})
    rng.shuffle(paths)
    for path in paths:
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if text.strip() and len(text) <= LONGEST:
            yield Source(path, text)


def pieces(vocabulary: Vocabulary, text: str) -> list[str]:
    """What each token adds; a character whose bytes lie in several tokens comes with the last of them."""
    found, left = list[str](), b""
    for token in vocabulary.encode(text):
        left += vocabulary.tokens[token] or b""
        piece = left.decode("utf-8", "ignore")
        if piece.encode("utf-8") == left:
            found.append(piece)
            left = b""
    return found
