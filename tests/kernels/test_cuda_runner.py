"""The GPU runner's logic, run on a CPU with the kernels' references in fp32, against the plain decoder."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from engine.errors import EngineFailure, ModelError
from engine.interfaces import FROM_DEVICE, RowInput, SampleInputs
from engine.model.cpu.cpu_cache import Span
from engine.model.cpu.decoder import Decoder
from engine.model.cpu.kv_blocks import BLOCK
from engine.model.cpu.sampling import sample_rows
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.cuda.kv_cache import CODES, RESERVE, position_bytes, tables_that_fit, told
from tests.kernels import tiny


def make(quantization: str, *, moe: bool = True, batch: int = 3, positions: int = 320) -> tuple[CudaRunner, Decoder]:
    torch.manual_seed(1)
    weights = tiny.quantized(tiny.floats(moe=moe), quantization)
    plain = tiny.as_computed(weights)
    decoder = Decoder(tiny.shape(moe=moe), plain, slots=batch, positions=positions, dtype=torch.float32)
    runner = CudaRunner(
        weights,
        tiny.shape(moe=moe),
        max_batch=batch,
        max_sequence=positions,
        device="cpu",
        quantization=quantization,
        dtype=torch.float32,
    )
    assert not weights, "every weight was laid out"
    return runner, decoder


def greedy(slots: Sequence[int], **changed: object) -> SampleInputs:
    rows = len(slots)
    settings: dict[str, object] = {
        "temperature": [0.0] * rows, "top_p": [1.0] * rows, "top_k": [0] * rows, "min_p": [0.0] * rows,
        "repetition_penalty": [1.0] * rows, "uniform": [0.5] * rows, "slots": list(slots),
    }  # fmt: skip
    return SampleInputs(**(settings | changed))  # type: ignore[arg-type]


def logits_of(runner: CudaRunner, rows: int) -> torch.Tensor:
    return runner._logits[:rows]


@pytest.mark.parametrize(
    ("quantization", "moe"),
    [(q, True) for q in ("nf4", "nf4-dq", "fp4", "int4", "int8", "bf16")] + [("nf4", False), ("int8", False)],
)
def test_greedy_tokens_equal_the_decoders_for_200_steps(quantization: str, moe: bool) -> None:
    runner, decoder = make(quantization, moe=moe)
    prompt = [5, 6, 7, 8]
    runner.forward([RowInput(1, prompt, 0)])
    expected = decoder.forward(torch.tensor(prompt), [Span(1, 0, 4, 0)], torch.tensor([3]))
    for position in range(4, 204):
        runner.sample(greedy([1]))
        token = runner.wait().token_ids[0]
        assert runner.finished()
        assert token == int(expected.argmax()), f"token {position}"
        runner.forward([RowInput(1, [FROM_DEVICE], position)])
        expected = decoder.forward(torch.tensor([token]), [Span(1, 0, 1, position)], torch.tensor([0]))
    assert torch.allclose(logits_of(runner, 1), expected, atol=2e-4)


def test_mixed_rows_drafts_and_rollback_give_the_decoders_logits() -> None:
    runner, decoder = make("nf4")
    rng = random.Random(0)
    lengths = [0, 0, 0]
    for _ in range(25):
        rows, spans, fed, wanted = [], [], [], []
        for slot in rng.sample(range(3), rng.randint(1, 3)):
            position = rng.randint(0, lengths[slot])  # at or before the end: rollback
            tokens = [rng.randrange(tiny.VOCAB) for _ in range(rng.randint(1, 7))]
            logits = rng.randint(1, len(tokens))
            rows.append(RowInput(slot, tokens, position, logits))
            spans.append(Span(slot, len(fed), len(fed) + len(tokens), position))
            fed += tokens
            wanted += range(len(fed) - logits, len(fed))
            lengths[slot] = position + len(tokens)
        runner.forward(rows)
        expected = decoder.forward(torch.tensor(fed), spans, torch.tensor(wanted))
        assert torch.allclose(logits_of(runner, len(wanted)), expected, atol=2e-4)


@pytest.mark.parametrize(("quantization", "moe"), [("nf4", True), ("int8", True), ("bf16", True), ("nf4", False)])
@pytest.mark.parametrize("rows", [12, 70])
def test_a_step_of_many_rows_gives_the_decoders_logits(quantization: str, moe: bool, rows: int) -> None:
    """Every row with drafts of its own length, by the wide forward: 12 rows by strips, 70 by grouped products."""
    runner, decoder = make(quantization, moe=moe, batch=70, positions=40)
    rng = random.Random(rows)
    for start in (0, 7):
        fed, spans, inputs = [], [], []
        for slot in range(rows):
            tokens = [rng.randrange(tiny.VOCAB) for _ in range(7 if start == 0 else rng.randint(1, 2))]
            inputs.append(RowInput(slot, tokens, start, 1))
            spans.append(Span(slot, len(fed), len(fed) + len(tokens), start))
            fed += tokens
        if start == 0:
            for row in inputs:
                runner.forward([row])
        else:
            runner.forward(inputs)
        expected = decoder.forward(torch.tensor(fed), spans, torch.tensor([span.stop - 1 for span in spans]))
    assert len(fed) > 64 or rows == 12
    assert torch.allclose(logits_of(runner, rows), expected, atol=2e-4)


def test_a_row_that_reads_much_goes_through_tiles_of_queries() -> None:
    runner, decoder = make("nf4", positions=1300)
    prompt = [(7 * i + 3) % tiny.VOCAB for i in range(1200)]
    for first, last in ((0, 1000), (1000, 1100), (1100, 1200)):
        runner.forward([RowInput(0, prompt[first:last], first, 1)])
        fed = torch.tensor(prompt[first:last])
        expected = decoder.forward(fed, [Span(0, 0, last - first, first)], torch.tensor([last - first - 1]))
    assert {path[:3] for path in runner._graphs if path.tiled} == {(1024, 64, True), (128, 64, True)}
    assert torch.allclose(logits_of(runner, 1), expected, atol=2e-4)


@pytest.mark.parametrize("moe", [True, False])
@pytest.mark.parametrize("length", [65, 130, 300])
def test_a_prefill_beside_a_decoding_row_gives_the_decoders_logits(length: int, moe: bool) -> None:
    runner, decoder = make("nf4", moe=moe)
    prompt = [(7 * i + 3) % tiny.VOCAB for i in range(length)]
    for rows, spans, wanted in (
        ([RowInput(0, [9, 8], 0)], [Span(0, 0, 2, 0)], [1]),
        (
            [RowInput(2, prompt, 0, 1), RowInput(0, [4], 2)],
            [Span(2, 0, length, 0), Span(0, length, length + 1, 2)],
            [length - 1, length],
        ),
        ([RowInput(2, prompt[:10], length - 5, 10)], [Span(2, 0, 10, length - 5)], list(range(10))),
    ):
        fed = [token for row in rows for token in row.tokens or ()]
        runner.forward(rows)
        expected = decoder.forward(torch.tensor(fed), spans, torch.tensor(wanted))
        assert torch.allclose(logits_of(runner, len(wanted)), expected, atol=2e-4)


def test_a_prefix_that_slots_share_continues_as_the_original_and_one_block_is_copied() -> None:
    """Both slots write behind the prefix, into the block in which it ends."""
    runner, _ = make("int8")
    shared, length = [(7 * i + 3) % tiny.VOCAB for i in range(BLOCK + 20)], BLOCK + 20
    runner.forward([RowInput(0, shared, 0)])
    runner.forward([RowInput(0, [21, 22], length)])
    original = logits_of(runner, 1).clone()
    free = runner.blocks.free
    prefix = runner.save_prefix(0, length)
    held = 2 * BLOCK * position_bytes(tiny.shape(moe=True), torch.float32)
    assert (free - runner.blocks.free, prefix.nbytes) == (1, held)
    runner.forward([RowInput(0, [5, 6], length)])
    runner.load_prefix(2, prefix, length)
    runner.forward([RowInput(2, [21, 22], length)])
    assert torch.equal(logits_of(runner, 1), original)
    assert free - runner.blocks.free == 2, "the prefix has its own last block, and so has each slot"
    runner.forward([RowInput(0, [1] * length, 0)])  # overwrite the source
    runner.load_prefix(1, prefix, length)
    runner.forward([RowInput(1, [21, 22], length)])
    assert torch.equal(logits_of(runner, 1), original)
    prefix.drop()
    for slot in range(3):
        runner.blocks.clear(slot)
    assert runner.blocks.free == 9


def test_a_runner_that_is_asked_for_more_than_there_is_says_so() -> None:
    runner, _ = make("int8")
    with pytest.raises(EngineFailure, match="no free block of the KV cache for slot 1 up to position 385"):
        runner.forward([RowInput(1, [3], 384)])


def test_masses_at_a_temperature_and_a_bias_are_those_of_the_specification() -> None:
    """With the logits of another row too."""
    runner, _ = make("nf4")
    mask = torch.full((2, -(-tiny.VOCAB // 32)), 0x5555AAAA, dtype=torch.int32)
    for bias, sources in ((None, None), ({1: {1: -2.0, 3: -torch.inf}}, None), (None, {1: 0}), (None, {0: 1})):
        runner.forward([RowInput(0, [1, 2, 3], 0), RowInput(2, [4, 5], 0)])
        logits = logits_of(runner, 2).clone()
        given = {"bitmask": mask, "temperature": [0.7, 1.4], "uniform": [0.4, 0.1], "want_mass": True, "bias": bias}
        inputs = greedy([0, 2], **given, sources=sources)
        runner.sample(inputs)
        sampled, expected = runner.wait(), sample_rows(logits, inputs, [None, None])
        assert sampled.token_ids == expected.token_ids
        assert sampled.log_mass == pytest.approx(expected.log_mass, abs=1e-5)
        assert sampled.log_drawn == pytest.approx(expected.log_drawn, abs=1e-5)


def test_a_mask_a_penalty_and_facts_reach_the_sampler() -> None:
    runner, _ = make("nf4")
    runner.forward([RowInput(0, [1, 2, 3], 0)])
    free = logits_of(runner, 1).clone()
    first, second = free[0].topk(2).indices.tolist()
    words = -(-tiny.VOCAB // 32)
    mask = torch.full((1, words), -1, dtype=torch.int32)
    mask[0, first // 32] &= ~(1 << (first % 32)) if first % 32 != 31 else 0x7FFFFFFF
    runner.sample(greedy([0], bitmask=mask, want_logprobs=3, want_stats=True))
    sampled = runner.wait()
    assert sampled.token_ids == [second]
    assert sampled.argmax_free == [first]
    assert sampled.argmax_legal == [False]
    raw = torch.log_softmax(free[0].double(), -1)
    assert sampled.mass is not None
    assert sampled.mass[0] == pytest.approx(1 - float(raw[first].exp()), abs=1e-5)
    assert sampled.top is not None
    assert sampled.top[0][0][0] == second
    assert len(sampled.top[0]) == 2
    runner.reset_slot(0, [first])
    runner.sample(greedy([0], repetition_penalty=[1e6]))
    assert runner.wait().token_ids[0] != first or free[0, first] <= 0
    runner.reset_slot(0)
    runner.sample(greedy([0], repetition_penalty=[1e6]))
    assert runner.wait().token_ids == [first]


def test_the_last_of_several_rows_of_a_slot_is_what_the_next_step_feeds() -> None:
    runner, decoder = make("nf4")
    runner.forward([RowInput(1, [4, 5, 6], 0, 3)])
    runner.sample(greedy([1, 1, 1]))
    tokens = runner.wait().token_ids
    runner.forward([RowInput(1, [FROM_DEVICE], 3)])
    decoder.forward(torch.tensor([4, 5, 6]), [Span(1, 0, 3, 0)], torch.tensor([2]))
    expected = decoder.forward(torch.tensor(tokens[-1:]), [Span(1, 0, 1, 3)], torch.tensor([0]))
    assert torch.allclose(logits_of(runner, 1), expected, atol=2e-4)


def test_a_cache_takes_what_is_left_and_one_that_does_not_fit_names_the_length_that_does() -> None:
    shape = tiny.shape(moe=True)
    free = RESERVE + 10 * BLOCK * position_bytes(shape)
    shared = tables_that_fit(shape, 500, 8, free)
    assert (shared.free, shared.most, shared.slots) == (10, 4, 8)
    assert told(shared, 500) == "KV cache: 0.00 GiB for 1,280 positions, shared by up to 8 rows of up to 500"
    full = tables_that_fit(shape, 500, 2, free)
    assert full.free == 8
    assert told(full, 500).endswith("for 2 rows of 500 positions")
    coded = position_bytes(shape, CODES) + 4 * shape.kv_heads * shape.head_dim  # a layer's in fp16 beside them
    assert tables_that_fit(shape, 500, 8, RESERVE + 10 * BLOCK * coded, CODES).free == 10
    assert tables_that_fit(shape, 500, 8, RESERVE + 10 * BLOCK * coded - 1, CODES).free == 9
    with pytest.raises(ModelError, match="max_sequence=1280 would fit"):
        tables_that_fit(shape, 2000, 1, free)
    with pytest.raises(ModelError, match="smaller quantization"):
        tables_that_fit(shape, 2000, 1, 0)
