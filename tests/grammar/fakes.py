"""Tokenizers for tests: bytes as tokens, and the real vocabularies read through the `tokenizers` library."""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("MASKLOOP_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
BOMB = {
    "type": "object",
    "patternProperties": {f"{a}.*{b}.*{c}": {} for a, b, c in ("abc", "bcd", "cde", "def", "efg", "fgh", "ghi", "hij")},
}
"""Small, and takes seconds to lower: all that a key may have matched of eight patterns, in one automaton."""


class TableTokenizer:
    """A tokenizer that is a table of bytes (None: special); stop ids given."""

    has_chat_template = False

    def __init__(self, table: Sequence[bytes | None], stop_token_ids: tuple[int, ...]) -> None:
        self.table = list(table)
        self.vocab_size = len(self.table)
        self.stop_token_ids = stop_token_ids
        self.fingerprint = hashlib.sha256(repr((self.table, stop_token_ids)).encode()).hexdigest()
        self._ids = {text: i for i, text in reversed(list(enumerate(self.table))) if text}
        self._longest = max(map(len, self._ids))

    def encode(self, text: str) -> list[int]:
        """Greedy longest match."""
        data, ids, position = text.encode("utf-8"), [], 0
        while position < len(data):
            for size in range(self._longest, 0, -1):
                found = self._ids.get(data[position : position + size])
                if found is not None:
                    ids.append(found)
                    position += size
                    break
            else:
                raise ValueError(f"no token for byte {data[position]:#x}")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(i) or b"" for i in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes | None:
        return self.table[token_id] if 0 <= token_id < self.vocab_size else None

    def chat(self, messages: Sequence[dict[str, Any]], *, tools: Any = None) -> list[int]:
        raise NotImplementedError


def byte_tokenizer(extra: Sequence[bytes] = ()) -> TableTokenizer:
    """Ids 0-255 are the bytes, 256 is the stop token, 257 another special, then `extra` texts."""
    return TableTokenizer([*(bytes([b]) for b in range(256)), None, None, *extra], (256,))


@functools.cache
def qwen() -> TableTokenizer:
    """The real Qwen3 vocabulary (V = 151,936 with padding); skips when the data folder is absent."""
    path = DATA / "qwen3_tokenizer.json.xz"
    if not path.exists():
        pytest.skip(f"no {path}: set MASKLOOP_DATA")
    tokenizers = pytest.importorskip("tokenizers")
    rust = tokenizers.Tokenizer.from_str(lzma.decompress(path.read_bytes()).decode("utf-8"))
    added = {entry["id"] for entry in json.loads(rust.to_str())["added_tokens"]}
    table: list[bytes | None] = [None] * rust.get_vocab_size(with_added_tokens=True)
    alphabet = _byte_alphabet()
    for token, token_id in rust.get_vocab(with_added_tokens=True).items():
        if token_id not in added:
            table[token_id] = bytes(alphabet[c] for c in token)
    tokenizer = TableTokenizer(table, (151645, 151643))
    tokenizer.encode = lambda text: list(rust.encode(text, add_special_tokens=False).ids)  # type: ignore[method-assign]
    return tokenizer


QWEN_VOCAB_SIZE = 151_936


def _byte_alphabet() -> dict[str, int]:
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [b for b in range(256) if b not in visible]
    return {chr(b): b for b in visible} | {chr(0x100 + i): b for i, b in enumerate(moved)}
