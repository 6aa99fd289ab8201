"""The tokenizer as the engine sees it: ids, bytes, and the chat template. Wraps one Hugging Face tokenizer.

Knows which ids are text and which are not. Text never becomes a special token: what a user writes as `<|im_end|>` is
encoded as characters, in plain prompts and inside chat messages alike. Knows nothing of grammars or models.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.errors import ModelError, RequestError

ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>")
"""Tokens that end a text, by family, turn before text; looked for only where no setting names one."""


class HfTokenizer:
    """`engine.interfaces.Tokenizer` over a fast Hugging Face tokenizer. Building reads the vocabulary once (~0.1 s)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_token_ids: Sequence[int] = ()) -> None:
        backend = getattr(tokenizer, "_tokenizer", None) or getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, RustTokenizer):
            raise ModelError("the tokenizer has no fast (Rust) form; convert it to tokenizer.json", param="tokenizer")
        self._hf = tokenizer
        self._rust = backend
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        self._added = {i: token.content for i, token in backend.get_added_tokens_decoder().items()}
        self.stop_token_ids = self._stop_ids(stop_token_ids)
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))

    def _stop_ids(self, wanted: Sequence[int]) -> tuple[int, ...]:
        eos = getattr(self._hf, "eos_token_id", None)
        ids = list(dict.fromkeys([i for i in (eos, *wanted) if isinstance(i, int)]))
        if not ids:  # a bare tokenizer.json names no end; those of the known families do it by their names
            ids = [i for name in ENDS for i, content in self._added.items() if content == name]
        if not ids:
            raise ModelError("the tokenizer names no eos token, so no text could end", param="tokenizer")
        return tuple(ids)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over every token's bytes (specials as a mark) and the stop ids."""
        parts = [b"\xff" if text is None else text for text in self._bytes]
        return hashlib.sha256(repr(self.stop_token_ids).encode() + b"\xff".join([*parts, b""])).hexdigest()

    @cached_property
    def _bytes(self) -> list[bytes | None]:
        parts = [part.__getstate__() for part in (self._rust.decoder, self._rust.pre_tokenizer) if part is not None]
        to_bytes = _byte_level if any(b"ByteLevel" in part for part in parts) else _sentencepiece
        table: list[bytes | None] = [None] * self.vocab_size
        for token, token_id in self._rust.get_vocab(with_added_tokens=True).items():
            if token_id not in self._added and token_id < self.vocab_size:
                table[token_id] = to_bytes(token)
        return table

    def token_bytes(self, token_id: int) -> bytes | None:
        return self._bytes[token_id] if 0 <= token_id < self.vocab_size else None

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Text of each added or control token, to its id."""
        return {text: token_id for token_id, text in self._added.items()}

    @cached_property
    def _plain(self) -> RustTokenizer:
        """The same tokenizer without its added tokens, so that no text can become one."""
        if not self._added:
            return self._rust
        description = {**json.loads(self._rust.to_str()), "added_tokens": [], "post_processor": None}
        return RustTokenizer.from_str(json.dumps(description, ensure_ascii=False))

    @cached_property
    def _specials_in_text(self) -> re.Pattern[str]:
        return re.compile("|".join(sorted(map(re.escape, self.special_tokens), key=len, reverse=True)) or r"(?!)")

    def encode(self, text: str) -> list[int]:
        return _encode(self._plain if self._specials_in_text.search(text) else self._rust, text)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(i) or b"" for i in ids).decode("utf-8", "replace")

    def chat(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] | None = None) -> list[int]:
        if not self.has_chat_template:
            raise RequestError("this model has no chat template; use template='raw'", param="template")
        guard = _Guard(self._specials_in_text)
        try:
            text = self._hf.apply_chat_template(
                guard.hide(messages_copy(messages)),
                tools=guard.hide(list(tools)) if tools else None,
                add_generation_prompt=True,
                tokenize=False,
            )
        except Exception as error:  # noqa: BLE001 - a template is a program; what it raises is about the messages
            raise RequestError(f"the chat template refused the messages: {error}", param="messages") from None
        ids: list[int] = []
        for hidden, piece in guard.pieces(str(text)):
            ids.extend(_encode(self._plain if hidden else self._rust, piece))
        return ids

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and its settings."""
        self._hf.save_pretrained(folder)


def _encode(tokenizer: RustTokenizer, text: str) -> list[int]:
    """Ids of a text. As a batch of one: a single `encode` keeps the interpreter's lock, 0.6 s for a megabyte."""
    return list(tokenizer.encode_batch([text], add_special_tokens=False)[0].ids)


class _Guard:
    """Replaces special-token text by markers that survive a chat template and that no caller can guess."""

    def __init__(self, specials: re.Pattern[str]) -> None:
        self._specials = specials
        self._hidden: list[str] = []
        self._nonce = secrets.token_hex(16)

    def hide(self, value: Any) -> Any:
        """A copy of plain JSON types in which no string, key or value, holds a special token's text."""
        if isinstance(value, str):
            return self._specials.sub(self._mark, value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        return [self.hide(item) for item in value] if isinstance(value, list | tuple) else value

    def pieces(self, text: str) -> Iterator[tuple[bool, str]]:
        """The rendered template in order: what was hidden (True), as it was, and everything else."""
        for index, piece in enumerate(re.split(f"{self._nonce}:([0-9]+);", text)):
            if index % 2:
                yield True, self._hidden[int(piece)]
            elif piece:
                yield False, piece

    def _mark(self, match: re.Match[str]) -> str:
        self._hidden.append(match.group())
        return f"{self._nonce}:{len(self._hidden) - 1};"


def messages_copy(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages with list contents flattened to text, as text-only chat templates expect."""
    copies = [dict(message) for message in messages]
    for index, message in enumerate(copies):
        if isinstance(message.get("content"), list | tuple):
            message["content"] = "".join(_part_text(part, index) for part in message["content"])
    return copies


def _part_text(part: Any, index: int) -> str:
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return str(part["text"])
    raise RequestError(f"messages[{index}] has a content part that is not text", param="messages")


def load_tokenizer(path: str | Path, *, revision: str | None = None, stop_token_ids: Sequence[int] = ()) -> HfTokenizer:
    """From a folder, a tokenizer.json file, or a hub name. ModelError when there is none."""
    path = Path(path) if Path(path).exists() else path
    try:
        if isinstance(path, Path) and path.is_file():
            return HfTokenizer(_from_file(path), stop_token_ids)
        if isinstance(path, Path) and _is_plain(path):
            return HfTokenizer(PreTrainedTokenizerFast.from_pretrained(str(path)), stop_token_ids)
        from transformers import AutoTokenizer  # 3 s of imports: it may need the model's config

        return HfTokenizer(AutoTokenizer.from_pretrained(str(path), revision=revision), stop_token_ids)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a loader raises is about the files the user named
        raise ModelError(f"no tokenizer could be read from {path}: {_first_line(error)}", param="tokenizer") from None


def _is_plain(folder: Path) -> bool:
    """Whether a folder's tokenizer is its tokenizer.json and nothing else, as our converted copies have it."""
    settings = folder / "tokenizer_config.json"
    if not settings.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    return bool(json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class") == "TokenizersBackend")


def _from_file(path: Path) -> PreTrainedTokenizerBase:
    beside = path.with_name("tokenizer_config.json")
    settings = json.loads(beside.read_text()) if beside.exists() else {}
    keep = {k: settings[k] for k in ("eos_token", "chat_template") if isinstance(settings.get(k), str)}
    return PreTrainedTokenizerFast(tokenizer_file=str(path), **keep)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019): visible Latin-1 stays, the rest moves up."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in visible}
    moved = (byte for byte in range(256) if byte not in visible)
    return table | {chr(0x100 + index): byte for index, byte in enumerate(moved)}


_TO_LATIN = dict.fromkeys(range(256), 65535) | {ord(c): byte for c, byte in _byte_alphabet().items()}


def _byte_level(token: str) -> bytes:
    try:
        return token.translate(_TO_LATIN).encode("latin-1")
    except UnicodeEncodeError:  # a token that is no such spelling stands for itself
        return token.encode("utf-8")


def _sentencepiece(token: str) -> bytes:
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode("utf-8")
