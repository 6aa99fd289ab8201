"""A folder with everything that can be wrong with a file, and a way to meet permissions as an ordinary user does."""

from __future__ import annotations

import ctypes
import json
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.cli.arguments.inputs import READ_AT_MOST
from engine.trace.format import DEMANDED

STEP = json.dumps({"kind": "step", **dict.fromkeys(DEMANDED, 0), "request_id": "a"}).encode()
FILES: dict[str, bytes] = {
    "prompt.txt": b"Name a colour",
    "colour.json": b'{"properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}',
    "empty.json": b"",
    "cut-off.json": b'{"type":',
    "comma.json": b'{"type": "object",}',
    "yaml.json": b"type: object\n",
    "nan.json": b'{"minimum": NaN}',
    "list.json": b"[1]",
    "text.json": b'"object"',
    "null.json": b"null",
    "utf16.json": '{"type": "object"}'.encode("utf-16"),
    "nested.json": b"[" * 100_000,
    "not-packed.json.xz": b'{"type": "object"}',
    "misspelt-type.json": b'{"properties": {"a": {"type": "strin"}}}',
    "impossible.json": b'{"allOf": [{"const": 1}, {"const": 2}]}',
    "remote.json": b'{"$ref": "https://example.org/x.json"}',
    "dangling.json": b'{"$ref": "#/$defs/missing"}',
    "circle.json": b'{"$ref": "#"}',
    "bad-pattern.json": b'{"type": "string", "pattern": "(a"}',
    "unique.json": b'{"type": "array", "items": {"maximum": 9999, "minimum": 0}, "uniqueItems": true, "minItems": 2,'
    b' "contains": {"minimum": 0}}',
    "beyond-ascii.json": '{"properties": {"größe": {"type": "null"}}}'.encode(),
    "latin1.txt": "café".encode("latin-1"),
    "long.txt": b"word " * 20_000,
    "no-root.ebnf": b'start ::= "a"',
    "cut-off.ebnf": b'root ::= "a',
    "no-start.lark": b'root: "a"',
    "empty.gguf": b"GGUF",
    "bad-tokenizer.json": b"{}",
    "requests.jsonl": b'{"id": "a", "prompt": "Hi", "max_tokens": 1}\n',
    "broken.jsonl": b'{"prompt": "a"}\n{oops}\n',
    "numbered.jsonl": b'{"id": 3, "prompt": "a"}\n',
    "twice.jsonl": b'{"id": "a", "prompt": "x"}\n\n{"id": "a", "prompt": "y"}\n',
    "misspelt-field.jsonl": b'{"id": "a", "prompt": "x", "temprature": 1}\n',
    "later-trace.jsonl": b'{"maskloop_trace": 99}\n',
    "cut-off-trace.jsonl": b'{"maskloop_trace": 1}\n{"kind": "st',
    "trace.jsonl": b'{"maskloop_trace": 1}\n{"kind": "request", "request_id": "a"}\n' + STEP + b"\n",
    "result.json": b'{"status":"complete","id":"a"}',
    "incomplete-trace.jsonl": b'{"maskloop_trace": 1}\n{"kind": "step", "step": 0}\n',
    "nameless-trace.jsonl": b'{"maskloop_trace": 1}\n{"kind": "request"}\n',
    "no-steps.jsonl": b'{"maskloop_trace": 1}\n',
}
_VERSION = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def make(folder: Path) -> None:
    """Put the files, links and folders there."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "broken-link.json").symlink_to("nowhere")
    (folder / "circular-link.json").symlink_to("circular-link.json")
    (folder / "full").symlink_to("/dev/full")
    (folder / "endless").symlink_to("/dev/zero")
    (folder / "bomb.json.xz").write_bytes(lzma.compress(bytes(READ_AT_MOST >> 6)) * 65)
    (folder / "cut-off.json.xz").write_bytes(lzma.compress(b"{}")[:-8])
    (folder / "unreadable.json").write_text(json.dumps({"type": "object"}))
    (folder / "unreadable.json").chmod(0)
    for name, mode in (("closed-folder", 0), ("read-only", 0o555)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Permissions hold for this thread although root runs it: two capabilities are put down meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    words = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same for capabilities above 31
    if libc.capget(header, words):
        raise OSError(ctypes.get_errno(), "capget")
    before = words[0]
    words[0] = before & ~(1 << _DAC_OVERRIDE) & ~(1 << _DAC_READ_SEARCH)
    libc.capset(header, words)
    try:
        yield
    finally:
        words[0] = before
        libc.capset(header, words)
