"""XGrammar with its own JSON Schema converter, masks made where a document first comes to them."""

from __future__ import annotations

from typing import Any

from bench.datasets.vocabulary import Vocabulary
from bench.peers.xgrammar_converter import XGrammarConverter


def load(vocabulary: Vocabulary, options: dict[str, Any]) -> XGrammarConverter:
    """The converter with strict mode for 'tight', without for 'spec'."""
    return XGrammarConverter(vocabulary, strict=options.get("conformance") == "tight", dynamic=True)
