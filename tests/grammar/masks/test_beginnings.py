"""Which tokens begin with a text: all of them, those too that write what another token writes."""

from __future__ import annotations

import random

from engine.grammar import Vocabulary
from engine.grammar.masks import bitmask
from tests.grammar.fakes import TableTokenizer


def test_tokens_that_begin_with_one_of_several_texts() -> None:
    rng = random.Random(1)
    written = [bytes(rng.choices(b'ab"\\\xc3', k=rng.randint(1, 3))) for _ in range(400)]
    tokens = Vocabulary.of(TableTokenizer([*written, None, b""], (400,)), 410)
    texts = [(token, text) for token, text in enumerate(tokens.texts) if text]
    assert len(set(texts)) > len({text for _, text in texts}) + 100, "some are written by several tokens"
    for asked in ([b"a"], [b"ab", b'"'], [b"\xc3"], [b'a"b', b"\\"], [b"z"], []):
        begun = [token for token, text in texts if text.startswith(tuple(asked))]
        assert bitmask.ids(tokens.beginning_with_any(asked)).tolist() == begun
        for one in asked:
            assert sorted(tokens.behind(one)) == [token for token, text in texts if text.startswith(one)]
            along = [token for token, text in texts if one.startswith(text) and one != text]
            assert sorted(tokens.along(one, set())) == along
