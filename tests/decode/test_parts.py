"""The small parts: sampler, random numbers, text stream, prefix cache, scheduler."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode.requests.detokenizer import Detokenizer
from engine.decode.requests.job import Job, Sample
from engine.decode.scheduling.prefix import PrefixCache
from engine.decode.scheduling.scheduler import Scheduler
from engine.decode.step.sampler import uniform
from engine.model.cpu.sampling import RowParams, choose, unpack_bitmask
from engine.request import Request
from tests.decode.scheduling.test_sharing import scheduler_of


def row(**changes: float) -> RowParams:
    settings = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "uniform": 0.5} | changes
    return RowParams(**settings)  # type: ignore[arg-type]


def drawn(logits: torch.Tensor, legal: torch.Tensor | None, count: int = 4000, **changes: float) -> Counter[int]:
    return Counter(choose(logits, legal, row(uniform=uniform(9, i), **changes)) for i in range(count))


def test_greedy_takes_the_lowest_of_equal_maxima() -> None:
    assert choose(torch.tensor([0.0, 3.0, 3.0, 1.0]), None, row(temperature=0.0)) == 1
    assert choose(torch.tensor([0.0, 3.0, 3.0, 1.0]), torch.tensor([1, 0, 1, 1]).bool(), row(temperature=0.0)) == 2


def test_frequencies_follow_the_masked_softmax() -> None:
    logits = torch.tensor([1.0, 2.0, 0.5, 3.0])
    legal = torch.tensor([True, True, True, False])
    counts = drawn(logits, legal, temperature=0.7)
    expected = torch.softmax(logits[:3].double() / 0.7, 0)
    for token in range(3):
        assert abs(counts[token] / 4000 - float(expected[token])) < 0.03
    assert counts[3] == 0


@pytest.mark.parametrize(
    ("changes", "survivors"),
    [({"top_k": 2}, {1, 3}), ({"top_p": 0.6}, {3}), ({"top_p": 0.95}, {0, 1, 3}), ({"min_p": 0.3}, {1, 3})],
)
def test_filters_keep_exactly_what_they_name(changes: dict[str, float], survivors: set[int]) -> None:
    logits = torch.log(torch.tensor([0.1, 0.25, 0.05, 0.6]))
    assert set(drawn(logits, None, 2000, **changes)) == survivors


def test_numbers_depend_on_seed_and_position_alone_and_are_uniform() -> None:
    values = np.array([uniform(seed, position) for seed in range(40) for position in range(100)])
    assert uniform(3, 7) == uniform(3, 7) != uniform(3, 8) != uniform(4, 7)
    assert values.min() >= 0.0
    assert values.max() < 1.0
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(values.var() - 1 / 12) < 0.005


def test_bit_j_of_word_i_is_token_32i_plus_j() -> None:
    mask = torch.tensor([[1 | (1 << 5), -(2**31)]], dtype=torch.int32)
    assert unpack_bitmask(mask, 64).nonzero()[:, 1].tolist() == [0, 5, 63]


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="abé日", max_size=30), stop=st.lists(st.text(alphabet="abé", min_size=1, max_size=3)))
def test_a_stream_releases_exactly_what_precedes_the_first_stop(text: str, stop: list[str]) -> None:
    stream = Detokenizer(stop)
    pieces = [stream.feed(bytes([byte])) for byte in text.encode()]
    out = "".join(pieces) + stream.finish()
    # byte by byte, the stop string that is completed first wins; ties go to the one that began first
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    assert out == (text[: min(ends)[1]] if ends else text)


def test_incomplete_utf8_at_the_end_is_replaced() -> None:
    stream = Detokenizer()
    assert stream.feed(b"a\xe6\x97") + stream.finish() == "a\ufffd"


class Handle:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.dropped = False

    def again(self) -> Handle:
        return Handle(self.nbytes)

    def drop(self) -> None:
        self.dropped = True


def test_prefixes_never_cross_salts() -> None:
    cache = PrefixCache(1000)
    tokens = list(range(40))
    cache.store("key-a", tokens, Handle(10))
    assert cache.find("key-b", [*tokens, 99]) is None
    found = cache.find("key-a", [*tokens[:30], 99, 98])
    assert found is not None
    assert found[1] == 30


def test_the_whole_prompt_is_never_reused_since_one_token_must_be_fed() -> None:
    cache = PrefixCache(1000)
    cache.store("", list(range(40)), Handle(10))
    found = cache.find("", list(range(40)))
    assert found is not None
    assert found[1] == 39


def test_the_least_recently_used_prefix_goes_first() -> None:
    cache = PrefixCache(100)
    cache.store("p", [1] * 20, Handle(60))
    oldest = Handle(30)
    cache.store("a", [2] * 20, oldest)
    assert cache.find("p", [1] * 21) is not None
    cache.store("b", [3] * 20, Handle(30))
    assert cache.find("a", [2] * 21) is None
    assert cache.find("b", [3] * 21) is not None
    assert cache.find("p", [1] * 21) is not None
    assert cache.nbytes == 90
    assert oldest.dropped


def sample(prompt: int, output: int = 0) -> Sample:
    job = Job(Request(prompt="x"), list(range(prompt)), 0, None, Future())
    made = Sample(job, 0, 0, 100, Detokenizer())
    made.output = list(range(output))
    return made


def test_prefill_is_chunked_and_decoding_rows_come_first() -> None:
    scheduler = scheduler_of(slots=2, prefill_chunk=8)
    long, short, late = sample(20), sample(3, 1), sample(5)
    for one in (long, short, late):
        scheduler.add(one)
    assert scheduler.admit() == [long, short]
    short.cached = 3
    first = scheduler.plan(lambda s: True)
    assert [(p.sample, len(p.tokens or []), p.last) for p in first] == [(short, 1, True), (long, 8, False)]
    long.cached = 16
    second = scheduler.plan(lambda s: True)
    assert [(p.sample, len(p.tokens or []), p.last) for p in second] == [(short, 1, True), (long, 4, True)]
    scheduler.release(short)
    assert scheduler.admit() == [late]
    assert late.slot is not None


def test_a_prompt_is_fed_in_longer_steps_where_no_row_decodes() -> None:
    scheduler = scheduler_of(slots=2, prefill_chunk=8, undisturbed=4)
    long, short = sample(50), sample(3, 1)
    scheduler.add(long)
    scheduler.admit()
    assert [len(p.tokens or []) for p in scheduler.plan(lambda s: True)] == [32]
    scheduler.add(short)
    scheduler.admit()
    short.cached = 3
    assert [len(p.tokens or []) for p in scheduler.plan(lambda s: True)] == [1, 8]


def test_a_row_without_its_grammar_is_prefilled_but_for_one_token_and_then_waits() -> None:
    scheduler = scheduler_of(slots=1, prefill_chunk=100)
    one = sample(10)
    scheduler.add(one)
    scheduler.admit()
    (planned,) = scheduler.plan(lambda s: False)
    assert len(planned.tokens or []) == 9
    assert not planned.last
    one.cached = 9
    assert scheduler.plan(lambda s: False) == []
    (planned,) = scheduler.plan(lambda s: True)
    assert planned.tokens == [9]
    assert planned.last


def test_planning_32_rows_takes_well_under_a_millisecond() -> None:
    scheduler = scheduler_of(slots=32, prefill_chunk=512)
    for _ in range(32):
        scheduler.add(sample(100, 5))
    for admitted in scheduler.admit():
        admitted.cached = 104
    best = min(_timed(scheduler) for _ in range(50))
    assert best < 1e-3


def _timed(scheduler: Scheduler) -> float:
    started = time.perf_counter()
    assert len(scheduler.plan(lambda s: True)) == 32
    return time.perf_counter() - started
