"""The kernels of gated DeltaNet in Triton's interpreter against their twins, and the twins against each other.

A step and a replay are fp32 throughout: what differs is the order of sums, 1e-5. A chunk's operands are rounded to
fp16, 2^-12 each on average; some ten of them follow each other: outputs were 5e-4 off in the 2-norm and states 3e-4,
four times that is allowed.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.kernels.delta import step
from engine.model.kernels.delta.chunk import delta_chunk, delta_chunk_reference
from engine.model.kernels.delta.chunks import make_chunk_scratch, make_chunks
from engine.model.kernels.delta.memory import DeltaMemory, Kept, make_memory
from tests.kernels.delta.cases import copied, random_layer, random_rates, random_step, rows_of, way_in_rings
from tests.kernels.weights import distance

HEADS, SLOTS, RING = (2, 4, 32), 4, 16
EXACT, OUTPUTS, STATES = 1e-5, 2e-3, 1e-3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def out_of(tokens: int) -> Tensor:
    return torch.full((tokens, HEADS[1] * HEADS[2]), float("nan"), dtype=torch.float16)


def same_memory(found: DeltaMemory, expected: DeltaMemory, bound: float) -> None:
    assert distance(found.state, expected.state) < bound
    assert torch.equal(found.inputs, expected.inputs)
    assert torch.allclose(found.gates, expected.gates, atol=1e-6)


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize(("counts", "positions"), [([1, 1, 1], [0, 2, 40]), ([3, 0, 5], [0, 9, 14])])
def test_a_step(counts: list[int], positions: list[int], plane: bool) -> None:
    """Rows of a token and of several, at the first position, at the ring's end, and an idle one."""
    weights, memory = random_layer(HEADS, SLOTS, RING)
    rows, made = rows_of(counts, [2, 0, 3], positions), []
    inputs = random_step(sum(counts), memory)
    for function in (step.delta_step, step.delta_step_reference):
        mine, out = copied(memory), out_of(sum(counts))
        function(*inputs, weights, rows, mine, out, plane=plane)
        made.append((mine, out))
    (found, out), (expected, wanted) = made
    same_memory(found, expected, EXACT)
    assert distance(out, wanted) < 5e-4, "rounded to fp16"


@pytest.mark.parametrize(("counts", "hidden"), [([1, 1, 1], 64), ([3, 0, 5], 48)])
def test_a_step_makes_b_and_a_itself(counts: list[int], hidden: int) -> None:
    weights, memory = random_layer(HEADS, SLOTS, RING)
    rows, made = rows_of(counts, [2, 0, 3], [0, 9, 14]), []
    projected, rates = random_step(sum(counts), memory)[0], random_rates(sum(counts), memory, hidden)
    for function, ba in ((step.delta_step, rates), (step.delta_step_reference, rates.made())):
        mine, out = copied(memory), out_of(sum(counts))
        function(projected, ba, weights, rows, mine, out)
        made.append((mine, out))
    (found, out), (expected, wanted) = made
    same_memory(found, expected, EXACT)
    assert distance(out, wanted) < 5e-4, "rounded to fp16"


def test_going_back_and_on_is_never_having_gone() -> None:
    """Two layers; from the state of position 2 forward to 2, 5 and 7."""
    made = [random_layer(HEADS, SLOTS, RING) for _ in range(2)]
    memory = make_memory(2, SLOTS, RING, HEADS, torch.device("cpu"))
    taps = torch.stack([layer.weights.taps for layer in made])
    seen = []
    for position in range(7):
        seen.append(memory.state[:, 1].clone())
        for index, layer in enumerate(made):
            one = memory.layer(index)
            step.delta_step(*random_step(1, one), layer.weights, rows_of([1], [1], [position]), one, out_of(1))
    seen.append(memory.state[:, 1].clone())
    start, sources = torch.stack((seen[0], seen[2]), 1), torch.tensor([1], dtype=torch.int32)
    for reached in (2, 5, 7):
        for function in (step.replay, step.replay_reference):
            memory.state.fill_(float("nan"))
            rows = rows_of([reached - 2], [1], [2])
            function(taps, way_in_rings(memory, start, sources, rows), rows, memory)
            assert distance(memory.state[:, 1], seen[reached]) < EXACT
            assert function is step.replay_reference or torch.equal(memory.state[:, 1], seen[reached])
            assert memory.state[:, 0].isnan().all()


def test_what_lies_in_pages_apart_is_gone_over_as_what_lies_in_one() -> None:
    """Ten positions from the sixth on, in a ring of sixteen and in pages of four; two rows."""
    memory = make_memory(2, SLOTS, RING, HEADS, torch.device("cpu"))
    memory.inputs.normal_()
    memory.gates.copy_(-torch.rand_like(memory.gates))
    taps, start = torch.randn(2, 4, memory.inputs.shape[-1]), torch.randn_like(memory.state)
    rows, sources = rows_of([10, 3], [2, 0], [6, 1]), torch.tensor([1, 3], dtype=torch.int32)
    way, made = way_in_rings(memory, start, sources, rows), []
    pages = [4 * slot + number for slot, numbers in ((2, (1, 2, 3)), (0, (0, 0, 0))) for number in numbers]
    apart = way._replace(
        inputs=memory.inputs.view(2, 4 * SLOTS, 4, -1).flip(1), gates=memory.gates.view(2, 4 * SLOTS, 4, 2, -1).flip(1),
        table=4 * SLOTS - 1 - torch.tensor(pages, dtype=torch.int32).view(2, 3),
    )  # fmt: skip
    for one in (way, apart):
        for function in (step.replay, step.replay_reference):
            memory.state.fill_(float("nan"))
            function(taps, one, rows, memory)
            made.append(memory.state[:, [0, 2]].clone())
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[1], made[3])
    assert distance(made[0], made[1]) < EXACT


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize(
    ("counts", "positions"), [([1, 70], [5, 0]), ([0, 64], [0, 2]), ([150], [33]), ([13, 2, 20], [0, 1, 20])]
)
def test_a_chunk(counts: list[int], positions: list[int], plane: bool) -> None:
    weights, memory = random_layer(HEADS, SLOTS, RING)
    rows, chunks = rows_of(counts, [2, 0, 3][: len(counts)], positions), make_chunks(counts, torch.device("cpu"))
    inputs, made = random_step(sum(counts), memory), []
    for function in (delta_chunk, delta_chunk_reference):
        mine, out = copied(memory), out_of(sum(counts))
        function(*inputs, weights, rows, chunks, mine, make_chunk_scratch(len(chunks.row), memory), out, plane=plane)
        made.append((mine, out))
    (found, out), (expected, wanted) = made
    same_memory(found, expected, STATES)
    assert distance(out, wanted) < OUTPUTS


def test_a_chunk_of_equal_keys_that_never_decay_is_solved() -> None:
    """The matrix whose powers grow most: what a series would lose in cancellation stays."""
    weights, memory = random_layer(HEADS, SLOTS, RING)
    projected, ba = random_step(64, memory)
    projected[:, : 2 * HEADS[0] * HEADS[2]] = 1.0
    ba[:, : HEADS[1]], ba[:, HEADS[1] :] = 9.0, -30.0
    memory.inputs[:, :, : 2 * HEADS[0] * HEADS[2]] = 1.0
    rows, chunks, made = rows_of([64], [0], [20]), make_chunks([64], torch.device("cpu")), []
    for function in (delta_chunk, delta_chunk_reference):
        mine, out = copied(memory), out_of(64)
        function(projected, ba, weights, rows, chunks, mine, make_chunk_scratch(1, memory), out)
        made.append((mine, out))
    assert distance(made[0][0].state, made[1][0].state) < STATES
    assert distance(made[0][1], made[1][1]) < OUTPUTS


def test_a_prompt_in_pieces_is_a_prompt_in_one_go() -> None:
    weights, memory = random_layer(HEADS, SLOTS, RING)
    inputs, made = random_step(100, memory), []
    for pieces in ([100], [37, 63], [64, 1, 35]):
        mine, out = copied(memory), out_of(100)
        for index, count in enumerate(pieces):
            at = sum(pieces[:index])
            part = [tensor[at : at + count] for tensor in inputs]
            rows, chunks = rows_of([count], [1], [at]), make_chunks([count], torch.device("cpu"))
            scratch = make_chunk_scratch(len(chunks.row), memory)
            delta_chunk(*part, weights, rows, chunks, mine, scratch, out[at : at + count])
        made.append((mine, out))
    for found, out in made[1:]:
        same_memory(found, made[0][0], STATES)
        assert distance(out, made[0][1]) < OUTPUTS


def test_rows_of_many_tokens_leave_the_state_before_their_last_chunk() -> None:
    weights, memory = random_layer(HEADS, SLOTS, 80)
    counts, places, made = [150, 64, 3], torch.tensor([2, -1, -1], dtype=torch.int32), []
    rows, chunks = rows_of(counts, [2, 0, 3], [0, 5, 70]), make_chunks(counts, torch.device("cpu"))
    inputs, scratch = random_step(sum(counts), memory), make_chunk_scratch(5, memory)
    for function in (delta_chunk, delta_chunk_reference):
        mine, kept = copied(memory), Kept(torch.zeros(3, *memory.state.shape[1:]), places)
        function(*inputs, weights, rows, chunks, mine, scratch, out_of(sum(counts)), kept=kept)
        made.append((mine, kept.states))
    (found, kept), (expected, wanted) = made
    same_memory(found, expected, STATES)
    assert distance(kept[2], wanted[2]) < STATES
    assert not kept[:2].any()
