"""Shared services for the grammar tests: one byte vocabulary, compiled grammars kept for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.config import EngineConfig
from engine.grammar import GrammarService
from tests.grammar.fakes import byte_tokenizer

EXTRA = [b"true", b"false", b"null", b'"}', b'":', b'","', b'":"', b'{"', b"]}"]
EXTRA += [b"aaaa", b"ab", b"abc", "é".encode(), b"00"]


@pytest.fixture(scope="session")
def byte_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    """Bytes and a few longer tokens; stop id 256, special 257."""
    config = EngineConfig(cache_dir=tmp_path_factory.mktemp("byte-cache"))
    service = GrammarService(byte_tokenizer(EXTRA), 258 + len(EXTRA), config=config)
    yield service
    service.close()
