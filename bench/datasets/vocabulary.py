"""One vocabulary for all engines of a bench: token bytes, stop ids, mask width, and lossless encoding.

Knows byte-level BPE files of the `tokenizers` library (plain or .xz) and a 257-entry byte vocabulary for runs that
only ask what is accepted. Special and added tokens are never text here. Knows no engine.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bench.datasets.cases import text_of

BYTES = "bytes"
"""The name, in place of a file, of the vocabulary with one token per byte."""
STOP_NAMES = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<eos>")


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[id]` is what a token writes; None for special, added and padding ids. `width` counts padding ids too."""

    name: str
    tokens: tuple[bytes | None, ...]
    stop_ids: tuple[int, ...]
    encoder: Tokenizer | None = None

    @property
    def width(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Ids whose bytes are exactly those of `text` (no normalisation, nothing special)."""
        if self.encoder is None:
            return list(text.encode("utf-8"))
        return list(self.encoder.encode(text, add_special_tokens=False).ids)


def load_vocabulary(source: str) -> Vocabulary:
    """`bytes`, a tokenizer.json (plain or .xz), or a folder that holds one."""
    if source == BYTES:
        return Vocabulary(BYTES, (*(bytes([value]) for value in range(256)), None), (256,))
    path = Path(source)
    if path.is_dir():
        path = next(file for file in (path / "tokenizer.json", path / "tokenizer.json.xz") if file.exists())
    return _byte_level(path, json.loads(text_of(path)))


def _byte_level(path: Path, description: dict[str, Any]) -> Vocabulary:
    model, added = description["model"], description.get("added_tokens", [])
    if model.get("type") != "BPE" or "ByteLevel" not in json.dumps(description.get("decoder")):
        raise ValueError(f"{path}: only byte-level BPE vocabularies are read here")
    special = {token["content"]: token["id"] for token in added}
    size = max([*model["vocab"].values(), *special.values()]) + 1
    tokens: list[bytes | None] = [None] * _padded(path, size)
    table = _byte_of_character()
    for text, token_id in model["vocab"].items():
        if text not in special:
            tokens[token_id] = bytes(table[character] for character in text)
    plain = {**description, "added_tokens": [], "normalizer": None, "post_processor": None}
    stops = tuple(special[name] for name in STOP_NAMES if name in special)
    return Vocabulary(path.name, tuple(tokens), stops, Tokenizer.from_str(json.dumps(plain)))


def _padded(path: Path, size: int) -> int:
    """The model's logits width, from a config beside the tokenizer that states one at least as large."""
    for file in sorted(path.parent.glob("*config.json")):
        width = json.loads(file.read_text(encoding="utf-8")).get("vocab_size")
        if isinstance(width, int) and width >= size:
            return width
    return size


@functools.cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest counts up from 256."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in plain]
    return {chr(value): value for value in plain} | {chr(256 + n): value for n, value in enumerate(others)}
