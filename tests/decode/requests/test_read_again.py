"""A text that goes back is what its remaining tokens write, wherever a character was cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.decode.requests.detokenizer import Detokenizer
from engine.decode.step.row import _read_again

DATA = 'a"é\U0001f600\n\u0301ž'.encode()
LONE = [b"a", b"\xff", b"b", b"\xc3", b"\xa9", b"c"]


@pytest.mark.parametrize("tokens", [[bytes([byte]) for byte in DATA], [DATA[:3], DATA[3:6], DATA[6:]], LONE])
def test_what_is_read_again_is_the_beginning(tokens: list[bytes]) -> None:
    for left in range(len(tokens) + 1):
        read = Detokenizer()
        sample: Any = SimpleNamespace(output=list(range(left)), text=read, pieces=[read.feed(text) for text in tokens])
        tokenizer: Any = SimpleNamespace(token_bytes=lambda token: tokens[token])
        again, pieces = _read_again(sample, tokenizer, sum(map(len, tokens[left:])))
        once = Detokenizer()
        assert "".join(pieces) == "".join(once.feed(text) for text in tokens[:left])
        rest = tokens[left:]
        assert [again.feed(text) for text in rest] == [once.feed(text) for text in rest]
        assert again.finish() == once.finish()
