"""The kernels of gated DeltaNet on a card, at the sizes of Qwen3-Coder-Next, against the recurrence in fp64.

Bounds as in `test_delta_kernels`: 1e-5 where all is fp32, 5e-4 where the result is fp16, 2e-3 and 1e-3 for outputs and
states of products of fp16.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.kernels.delta import step
from engine.model.kernels.delta.chunk import delta_chunk, delta_chunk_reference
from engine.model.kernels.delta.chunks import make_chunk_scratch, make_chunks
from engine.model.kernels.delta.memory import DeltaMemory, Rows, make_memory
from tests.kernels.delta.cases import Layer, copied, random_layer, random_rates, random_step, rows_of, way_in_rings
from tests.kernels.delta.test_delta_kernels import EXACT, OUTPUTS, STATES
from tests.kernels.weights import distance

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]  # fmt: skip
HEADS, RING = (16, 32, 128), 64
WIDTH = HEADS[1] * HEADS[2]
DEVICE = torch.device("cuda:0")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def blank(tokens: int) -> Tensor:
    return torch.full((tokens, WIDTH), float("nan"), dtype=torch.float16, device=DEVICE)


def same(found: DeltaMemory, expected: DeltaMemory, bound: float) -> None:
    assert distance(found.state, expected.state) < bound
    assert torch.equal(found.inputs, expected.inputs)
    assert torch.allclose(found.gates, expected.gates, atol=1e-5)


def go(made: Layer, inputs: tuple[Tensor, Tensor], rows: Rows, memory: DeltaMemory) -> Tensor:
    out = blank(len(inputs[0]))
    step.delta_step(*inputs, made.weights, rows, memory, out)
    torch.cuda.synchronize()
    return out


@pytest.mark.parametrize("rows", [1, 3, 8, 64])
@pytest.mark.parametrize("tokens", [1, 5])
def test_a_step(rows: int, tokens: int) -> None:
    made = random_layer(HEADS, rows + 1, RING, DEVICE)
    inputs = random_step(rows * tokens, made.memory)
    slots = torch.randperm(rows + 1)[:rows].tolist()
    where = rows_of([tokens] * rows, slots, [7 * row for row in range(rows)], DEVICE)
    expected, wanted = copied(made.memory, torch.float64), blank(rows * tokens)
    step.delta_step_reference(*inputs, made.weights, where, expected, wanted)
    mine = copied(made.memory)
    assert distance(go(made, inputs, where, mine), wanted) < 5e-4
    same(mine, expected, EXACT)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (3, 5), (32, 1)])
def test_a_step_makes_b_and_a_itself(rows: int, tokens: int) -> None:
    """The gates are of sums of 2,048 products in fp32, and what follows of them is as near."""
    made = random_layer(HEADS, rows, RING, DEVICE)
    projected, rates = random_step(rows * tokens, made.memory)[0], random_rates(rows * tokens, made.memory, 2048)
    where = rows_of([tokens] * rows, list(range(rows)), [7 * row for row in range(rows)], DEVICE)
    expected, wanted = copied(made.memory, torch.float64), blank(rows * tokens)
    exact = rates._replace(**{name: getattr(rates, name).double() for name in ("x", "gain", "weight")})
    value = exact.x * torch.rsqrt(exact.x.square().mean(-1, keepdim=True) + exact.eps) * exact.gain
    step.delta_step_reference(projected, value @ exact.weight.t(), made.weights, where, expected, wanted)
    mine, out = copied(made.memory), blank(rows * tokens)
    step.delta_step(projected, rates, made.weights, where, mine, out)
    assert distance(out, wanted) < 5e-4
    same(mine, expected, EXACT)


def test_tokens_together_alone_and_replayed_are_the_same_bits() -> None:
    made = random_layer(HEADS, 2, RING, DEVICE)
    inputs, memory = random_step(40, made.memory), copied(made.memory)
    single, seen = [], [memory.state[1].clone()]
    for at in range(40):
        one = tuple(part[at : at + 1].contiguous() for part in inputs)
        single.append(go(made, one, rows_of([1], [1], [at], DEVICE), memory))
        seen.append(memory.state[1].clone())
    together = copied(made.memory)
    out = go(made, inputs, rows_of([40], [1], [0], DEVICE), together)
    assert torch.equal(together.state[1], seen[40])
    assert torch.equal(together.inputs[1], memory.inputs[1])
    assert distance(out, torch.cat(single)) < 5e-4
    whole, taps = DeltaMemory(*(part.unsqueeze(0) for part in memory)), made.weights.taps.unsqueeze(0)
    start = torch.stack((seen[0], seen[11])).unsqueeze(0)
    for begin, count in ((0, 0), (0, 8), (11, 1), (11, 29)):
        whole.state.fill_(float("nan"))
        source = torch.tensor([int(begin > 0)], dtype=torch.int32, device=DEVICE)
        rows = rows_of([count], [1], [begin], DEVICE)
        step.replay(taps, way_in_rings(whole, start, source, rows), rows, whole)
        assert torch.equal(whole.state[0, 1], seen[begin + count]), (begin, count)


@pytest.mark.parametrize("counts", [[300], [64, 1, 500], [17, 0, 129]])
def test_a_chunk(counts: list[int]) -> None:
    made = random_layer(HEADS, 4, RING, DEVICE)
    inputs = random_step(sum(counts), made.memory)
    where = rows_of(counts, [2, 0, 3][: len(counts)], [5, 0, 70][: len(counts)], DEVICE)
    chunks, results = make_chunks(counts, DEVICE), []
    scratch = make_chunk_scratch(len(chunks.row), made.memory)
    expected, wanted = copied(made.memory, torch.float64), blank(sum(counts))
    delta_chunk_reference(*inputs, made.weights, where, chunks, expected, scratch, wanted, plane=True)
    for _ in range(2):
        mine, out = copied(made.memory), blank(sum(counts))
        delta_chunk(*inputs, made.weights, where, chunks, mine, scratch, out, plane=True)
        assert distance(out, wanted) < OUTPUTS
        same(mine, expected, STATES)
        results.append((mine, out))
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][0].state, results[1][0].state)


def test_many_layers_and_rows_are_brought_forward_at_once() -> None:
    memory = make_memory(3, 4, RING, HEADS, DEVICE)
    memory.inputs.copy_(torch.randn_like(memory.inputs))
    memory.gates.copy_(-torch.rand_like(memory.gates))
    memory.gates[:, :, :, 1] *= -1
    taps, start = torch.randn(3, 4, memory.inputs.shape[-1], device=DEVICE), torch.randn_like(memory.state) * 0.2
    where = rows_of([8, 0, 61], [3, 0, 1], [20, 9, 3], DEVICE)
    sources, expected = torch.tensor([2, 1, 0], dtype=torch.int32, device=DEVICE), copied(memory)
    step.replay(taps, way_in_rings(memory, start, sources, where), where, memory)
    step.replay_reference(taps, way_in_rings(expected, start, sources, where), where, expected)
    assert distance(memory.state, expected.state) < EXACT
