"""Masks that no document has needed yet, made in threads of their own.

XGrammar takes up to tens of milliseconds for one, without the interpreter's lock, and other rows must not wait for it.
Knows matchers and futures; no rows and no steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from engine.decode.requests.job import Sample
from engine.grammar import Matcher
from engine.sandbox.lanes import give_way

THREADS = 2
_NICE = 5
SPARE = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Threads for masks that nobody waits for yet."""


class MaskMaker:
    """Per engine. `wake` is called when a mask is there; a place that several rows have come to is computed once."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="masks")
        self._spare = ThreadPoolExecutor(SPARE, "masks-ahead", initializer=give_way, initargs=(_NICE,))
        self._making: dict[Hashable, Future[float]] = {}
        self._ahead: list[Future[float]] = []

    def begin(self, sample: Sample) -> bool:
        """Whether the mask of the sample's place must be made first; then it is being made. 10-60 microseconds.

        Once at each place: what failed, or was pushed out at once, is left to whoever fills."""
        matcher = sample.matcher
        place = None if matcher is None else matcher.unmade
        if matcher is None or place is None or (sample.masked and sample.made_at == matcher.tokens):
            return False
        making = self._making.get(place)
        if making is None:
            making = self._making[place] = self._threads.submit(_make, matcher.fork())
            making.add_done_callback(lambda _: self._made(place))
        sample.mask, sample.made_at = making, matcher.tokens
        return True

    def begin_ahead(self, matcher: Matcher) -> Future[float] | None:
        """The same for a mask that nobody waits for yet, if a thread is free: who comes to its place finds it begun."""
        self._ahead = [making for making in self._ahead if not making.done()]
        place = matcher.unmade
        making = self._making.get(place)
        if making is None and len(self._ahead) < SPARE:
            making = self._making[place] = self._spare.submit(_make, matcher)
            self._ahead.append(making)
            making.add_done_callback(lambda _: self._made(place))
        return making

    def _made(self, place: Hashable) -> None:
        self._making.pop(place, None)
        self._wake()

    def wait(self, samples: Iterable[Sample], seconds: float) -> None:
        """Until the masks of all of these are there, but not longer than that."""
        wait([sample.mask for sample in samples if sample.mask is not None], timeout=max(0.0, seconds))

    def seconds(self, sample: Sample) -> float:
        """What the mask that the sample waited for has taken; 0 where that failed."""
        made = sample.mask
        return made.result() if made is not None and made.done() and _is_well(made) else 0.0

    def close(self) -> None:
        """What has begun is finished; nothing else is."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._spare.shutdown(wait=False, cancel_futures=True)


def _make(matcher: Matcher) -> float:
    started = time.perf_counter()
    matcher.make()
    return time.perf_counter() - started


def _is_well(made: Future[float]) -> bool:
    return not made.cancelled() and made.exception() is None
