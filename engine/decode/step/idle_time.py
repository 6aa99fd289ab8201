"""What the decode thread does while the device computes and nothing else is left: masks for steps to come.

It asks the device between two pieces, so that what it delays is at most a piece, of about a millisecond, and that
part of the host's work is hidden behind the next forward, which has been launched. Knows rows and grammars.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from engine.decode.requests.job import Sample
from engine.decode.step.mask_maker import MaskMaker
from engine.interfaces import Tokenizer

_NAP_S = 1e-4
"""Between two looks, where all that is left is being made in other threads."""


class IdleTime:
    """Per engine. Grammars of rows that run take turns; those of nobody wait."""

    def __init__(self, tokenizer: Tokenizer, maker: MaskMaker) -> None:
        self._encode = tokenizer.encode
        self._maker = maker
        self._turn = 0

    def use(self, samples: Iterable[Sample], is_over: Callable[[], bool]) -> None:
        """Go on until `is_over`, or nothing is left to do."""
        grammars = [sample.job.compiled() for sample in samples if sample.matcher is not None]
        walks = dict.fromkeys(grammar.foresight(self._encode) for grammar in grammars if grammar is not None)
        waiting = deque(walk for walk in walks if not walk.done)
        waiting.rotate(-self._turn)
        self._turn += 1
        stuck = 0
        while waiting and not is_over():
            walk = waiting.popleft()
            stuck = 0 if walk.go_on(self._maker.begin_ahead) else stuck + 1
            if not walk.done:
                waiting.append(walk)
                if stuck >= len(waiting):
                    time.sleep(_NAP_S)
