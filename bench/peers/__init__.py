"""Constraint engines under one small interface, so that a bench treats ours and the peers alike.

Each module holds one engine and imports its library only when it is asked for (extra `bench`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.datasets.vocabulary import Vocabulary

MODULES = {
    "ours": "bench.peers.ours",
    "xgrammar": "bench.peers.xgrammar_converter",
    "xgrammar_dynamic": "bench.peers.xgrammar_dynamic",
    "llguidance": "bench.peers.llguidance_engine",
    "outlines_core": "bench.peers.outlines_engine",
    "lmfe": "bench.peers.lmfe_engine",
}


class RefusedError(Exception):
    """The engine says that it cannot take this schema; the message is its reason."""


class Matcher(Protocol):
    """The state of one document. `fill` writes one int32 row of ceil(width / 32) words, all of it."""

    def fill(self, mask: Any) -> None:
        """Legal tokens of the next step into `mask`."""

    def accept(self, token_id: int) -> bool:
        """Advance by one token; False when it is illegal (the matcher is then of no further use)."""


@dataclass(slots=True)
class Compiled:
    """What an engine made of a schema. `verdicts` are dicts {pointer, keyword, verdict, reason}; peers have none."""

    grammar: Any
    verdicts: list[dict[str, Any]] = field(default_factory=list)


class Engine(Protocol):
    """One engine with one vocabulary; whatever it may keep between schemas stays warm."""

    packages: tuple[str, ...]

    def compile(self, schema: Any) -> Compiled:
        """Raises RefusedError with the reason; any other exception is reported as a failure of the engine."""

    def matcher(self, compiled: Compiled) -> Matcher:
        """A matcher at the start of the document, which has kept no masks of earlier documents."""


def load_engine(name: str, vocabulary: Vocabulary, options: dict[str, Any]) -> Engine:
    """The engine `name` of MODULES, or of a module named in full.

    `options` holds `conformance`; engines without such a choice ignore it.
    """
    module = importlib.import_module(MODULES.get(name, name))
    engine: Engine = module.load(vocabulary, options)
    return engine
