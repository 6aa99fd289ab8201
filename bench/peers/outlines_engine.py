"""outlines-core: a schema as one regular expression, the expression as an index over the whole vocabulary.

Whitespace stays its default (one optional space).
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from outlines_core import Guide, Index
from outlines_core import Vocabulary as OutlinesVocabulary
from outlines_core.json_schema import build_regex_from_schema

from bench.datasets.vocabulary import Vocabulary
from bench.peers import Compiled, RefusedError


class OutlinesMatcher:
    """A Guide. It has no move for the stop token, which ends it where it may end."""

    def __init__(self, index: Index, stop: int) -> None:
        self._stop = stop
        self._guide = Guide(index)

    def fill(self, mask: Any) -> None:
        self._guide.write_mask_into(mask.ctypes.data, mask.size, mask.itemsize)

    def accept(self, token_id: int) -> bool:
        if token_id == self._stop:
            return bool(self._guide.is_finished())
        try:
            self._guide.advance(token_id, return_tokens=False)
        except ValueError:
            return False
        return True


class Outlines:
    """One vocabulary, one index a schema; it takes one stop token."""

    packages = ("outlines_core",)

    def __init__(self, vocabulary: Vocabulary) -> None:
        ids: dict[bytes, list[int]] = defaultdict(list)
        for number, token in enumerate(vocabulary.tokens):
            if token and number not in vocabulary.stop_ids:
                ids[token].append(number)
        self._stop = vocabulary.stop_ids[0]
        self._vocabulary = OutlinesVocabulary(self._stop, dict(ids))

    def compile(self, schema: Any) -> Compiled:
        try:
            expression = build_regex_from_schema(json.dumps(schema, ensure_ascii=False))
            return Compiled(Index(expression, self._vocabulary))
        except (ValueError, TypeError) as error:
            raise RefusedError(str(error)) from None

    def matcher(self, compiled: Compiled) -> OutlinesMatcher:
        return OutlinesMatcher(compiled.grammar, self._stop)


def load(vocabulary: Vocabulary, _options: dict[str, Any]) -> Outlines:
    """outlines-core has no conformance choice."""
    return Outlines(vocabulary)
