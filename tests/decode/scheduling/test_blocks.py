"""A KV cache with fewer blocks than all rows could need: rows share, give way and lose nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from engine import Request, SamplingParams
from engine.decode.engine import Engine
from engine.decode.requests.job import Sample
from engine.model.cpu.kv_blocks import BlockTables
from tests.decode.fakes import fake_engine, random_logits, wants
from tests.decode.scheduling.test_sharing import (  # noqa: F401 - fixtures
    MIXED,
    greedy,
    launch_ahead,
    mixed,
    put_backs,
    same,
    samples,
    scheduler_of,
    waiting,
)

SIZE, LENGTH = 16, 256


def few(blocks: int, slots: int = 4) -> BlockTables:
    return BlockTables(blocks, slots, LENGTH // SIZE, size=SIZE, position_bytes=1)


def blocks_of(engine: Engine) -> BlockTables:
    blocks = engine.loaded.runner.blocks
    assert isinstance(blocks, BlockTables)
    return blocks


@pytest.mark.usefixtures("launch_ahead")
@pytest.mark.parametrize("stored", [0, 1 << 20], ids=["nothing stored", "prefixes stored"])
def test_rows_that_outgrow_the_cache_give_way_and_end_as_they_would_have_alone(
    stored: int,
    tmp_path: Path,
    put_backs: list[Sample],  # noqa: F811
) -> None:
    requests = [mixed(number) for number in range(len(MIXED))]
    settings = {"max_sequence": LENGTH, "prefill_chunk": 32, "prefix_cache_bytes": stored}
    logits = random_logits(3, 2.0)
    roomy, _ = fake_engine(logits, tmp_path, **settings)
    with roomy:
        alone = [roomy.generate(request) for request in requests]
    assert not put_backs
    engine, network = fake_engine(logits, tmp_path, blocks=few(LENGTH // SIZE), **settings)
    loaded = threading.Event()

    def wait_for_others() -> None:
        """Rows go on slowly until one gave way, so that none has ended before there is somebody to share with."""
        loaded.wait(60)
        time.sleep(0.05 if network.most < 3 or not put_backs else 0.0)

    network.before = wait_for_others
    with engine:
        futures = [engine.submit(request, owner=f"owner {i % 2}") for i, request in enumerate(requests)]
        for constraint in [request.constraint for request in requests if request.constraint is not None]:
            engine.grammars.compile(constraint)
        loaded.set()
        shared = [future.result(120) for future in futures]
        assert put_backs, "there was too little room"
        assert network.most > 2, "rows ran beside each other"
        assert not any(blocks_of(engine).table(slot) for slot in range(4))
    for lone, crowded in zip(alone, shared, strict=True):
        for one, other in zip(samples(lone), samples(crowded), strict=True):
            same(one, other)


@pytest.mark.usefixtures("launch_ahead")
def test_samples_begin_from_one_prompt_by_reference_however_little_may_be_stored(tmp_path: Path) -> None:
    """A prompt of 5 blocks and a bit: eight rows side by side would not have room for one each."""
    engine, network = fake_engine(
        random_logits(3, 2.0), tmp_path, blocks=few(28, slots=8), max_batch=8, max_sequence=LENGTH, prefix_cache_bytes=1
    )
    request = Request(prompt="x" * 72, sampling=SamplingParams(seed=1, max_tokens=8, n=8))
    with engine:
        result = engine.generate(request)
        count = result.samples[0].usage.prompt_tokens
        assert 5 * SIZE < count < 6 * SIZE
        assert network.tokens <= count + 8 * 8 + 8 * 2, "the prompt was fed once"
        assert network.copied <= 8 * SIZE, "a block for the prompt, and one for each that goes on from it"
        assert network.most == 8
        lone = [
            engine.generate(Request(prompt="x" * 72, sampling=SamplingParams(seed=1 + i, max_tokens=8))) for i in (0, 7)
        ]
        assert [one.token_ids for one in lone] == [result.samples[0].token_ids, result.samples[7].token_ids]


def test_stored_prefixes_are_let_go_before_a_row_gives_way(tmp_path: Path, put_backs: list[Sample]) -> None:  # noqa: F811
    engine, _ = fake_engine(wants("a" * 500), tmp_path, blocks=few(LENGTH // SIZE), max_sequence=LENGTH)
    with engine:
        for name in "bcde":
            engine.generate(Request(prompt=name * 40, sampling=greedy(4)))
        blocks = blocks_of(engine)
        assert blocks.most - blocks.free >= 3 * 4, "prompts of 57 tokens, four blocks each, are stored"
        result = engine.generate(Request(prompt="f" * 40, sampling=greedy(1000)))
        assert (result.status, len(result.token_ids)) == ("length", LENGTH - result.usage.prompt_tokens)
    assert not put_backs


def test_the_newest_row_of_whoever_has_most_gives_way_where_a_block_is_missing() -> None:
    blocks = few(7, slots=3)
    scheduler = scheduler_of(blocks, slots=3, prefill_chunk=200)
    first, second, other = waiting("a", 30)[0], waiting("a", 14)[0], waiting("b", 14)[0]
    scheduler.add(first, other)
    assert scheduler.admit() == [first, other]
    scheduler.add(second)
    assert scheduler.admit() == [second], "two blocks, one and one are held, and each may need one more"
    assert len(scheduler.plan(lambda _: True)) == 3
    grow(first, 33), grow(second, 17), grow(other, 17)
    assert len(scheduler.plan(lambda _: True)) == 3, "three, two and two: all there are"
    grow(first, 49)
    assert [planned.sample for planned in scheduler.plan(lambda _: True)] == [first, other]
    assert (second.slot, second.put_back, second.cached) == (None, 1, 0)
    assert blocks.free == 1
    assert scheduler.admit() == [], "it needs two, and the others may each need one more"
    scheduler.release(other)
    assert scheduler.admit() == [second]


def grow(row: Sample, length: int) -> None:
    """All but the last of so many tokens are in the cache."""
    row.output = [0] * (length - len(row.job.prompt))
    row.cached = length - 1


def test_who_waits_is_let_in_when_there_are_blocks_for_what_is_known_of_it() -> None:
    blocks = few(7, slots=3)
    scheduler = scheduler_of(blocks, slots=3, prefill_chunk=200)
    first, second = waiting("a", 40)[0], waiting("b", 60)[0]
    scheduler.add(first)
    assert scheduler.admit() == [first]
    scheduler.add(second)
    assert scheduler.admit() == [], "three blocks and one more are the first row's, four are needed"
    assert [planned.sample for planned in scheduler.plan(lambda _: True)] == [first]
    scheduler.release(first)
    assert blocks.free == 7
    assert scheduler.admit() == [second]
