"""A grammar service without a model: what `check` and `accepts` need."""

from __future__ import annotations

import argparse
import lzma
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.arguments.options import engine_config
from engine.cli.terminal import say
from engine.errors import ModelError
from engine.interfaces import Tokenizer
from engine.sandbox.light_import import light_import

if TYPE_CHECKING:
    from engine.grammar.service import GrammarService


@dataclass(frozen=True, slots=True)
class Grammars:
    """A compile service and the tokenizer whose vocabulary it masks."""

    service: GrammarService
    tokenizer: Tokenizer


@contextmanager
def open_grammars(args: argparse.Namespace) -> Iterator[Grammars]:
    """A service over `--tokenizer`, or over the embedded model's. Takes a second of imports, without torch."""
    config = engine_config(args)
    light_import("engine.grammar.service")
    from engine.grammar.service import GrammarService

    tokenizer = load_vocabulary(args.tokenizer, config.cache_folder)
    service = GrammarService(tokenizer, tokenizer.vocab_size, config=config)
    try:
        yield Grammars(service, tokenizer)
    finally:
        service.close()


def load_vocabulary(name: str | None, cache_dir: Path) -> Any:
    """From a folder, a tokenizer.json (`.xz` too), or the embedded model. ModelError says what is wrong."""
    from engine.model.files.converted import converted_gguf
    from engine.model.files.source import embedded_gguf, existing_tokenizer
    from engine.model.tokenizer import load_tokenizer

    if name is None:
        return load_tokenizer(converted_gguf(embedded_gguf(), cache_dir, lambda what: say(f"maskloop: {what} ...")))
    path = existing_tokenizer(name)
    if path.suffix != ".xz":
        return load_tokenizer(path)
    try:
        text = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise ModelError(f"tokenizer {name}: {error}", param="tokenizer") from None
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / path.name.removesuffix(".xz")
        unpacked.write_bytes(text)
        return load_tokenizer(unpacked)
