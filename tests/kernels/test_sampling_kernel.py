"""The sampler's kernels in Triton's interpreter against the sampler's specification, ties and masks included."""

from __future__ import annotations

import pytest
import torch

from engine.model.kernels.sampling import sampling

VOCAB, ROWS = 4500, 4
WORDS = -(-VOCAB // 32)


def buffers(masked: bool) -> sampling.SampleBuffers:
    made = sampling.make_buffers(ROWS, VOCAB, torch.device("cpu"), torch.zeros(ROWS, dtype=torch.int32))
    made.work.fill_(float("nan"))
    for left in made.bins:
        left.fill_(77)  # what the step before left
    # rows: greedy; nucleus; top-k and nucleus with a penalty; everything with min-p
    made.floats.copy_(
        torch.tensor(
            [
                [0.0, 1.0, 0.7, 2.0],
                [1.0, 0.9, 0.8, 1.0],
                [0.0, 0.0, 0.0, 0.05],
                [1.0, 1.0, 1.3, 1.3],
                [0.5, 0.3, 0.99, 0.62],
            ]
        )
    )
    made.integers.copy_(torch.tensor([[0, 0, 40, 0], [0, 1, 2, 3], [int(masked)] * 4, [1, 1, 1, 0]]))
    made.bitmask.copy_(torch.randint(-(2**31), 2**31 - 1, (ROWS, WORDS)))
    made.bitmask[1] = 0
    made.bitmask[1, 70] = 1 << 9  # one legal token
    return made


@pytest.mark.parametrize(("masked", "rounded"), [(True, False), (False, True)])
def test_tokens_and_facts_equal_the_specification(masked: bool, rounded: bool) -> None:
    torch.manual_seed(3)
    logits = torch.randn(ROWS, VOCAB) * 3
    if rounded:
        logits = (logits * 2).round() / 2  # hundreds of exact ties at every threshold
    seen = torch.randint(-(2**31), 2**31 - 1, (ROWS, WORDS), dtype=torch.int32)
    made = []
    for function in (sampling.sample, sampling.sample_reference):
        torch.manual_seed(5)
        state, last = buffers(masked), torch.full((ROWS,), -1, dtype=torch.int32)
        function(logits, state, seen, last, stages=(0, 1), filtered=True, facts=True)
        made.append((state, last))
    assert made[0][0].ids.tolist() == made[1][0].ids.tolist()
    assert made[0][1].tolist() == made[1][1].tolist()
    assert made[0][1][3] == -1, "a row that is not its slot's last must not become it"
    assert torch.allclose(made[0][0].facts[:, :7], made[1][0].facts[:, :7], atol=2e-4)
    if masked:
        assert made[0][0].ids[1] == 70 * 32 + 9


def test_plain_temperature_needs_no_search() -> None:
    torch.manual_seed(4)
    logits, seen = torch.randn(ROWS, VOCAB), torch.zeros(ROWS, WORDS, dtype=torch.int32)
    made = []
    for function in (sampling.sample, sampling.sample_reference):
        torch.manual_seed(5)
        state, last = buffers(True), torch.zeros(ROWS, dtype=torch.int32)
        state.floats[1], state.floats[2], state.integers[0] = 1.0, 0.0, 0
        function(logits, state, seen, last, stages=(), filtered=False, facts=False)
        made.append(state.ids.tolist())
    assert made[0] == made[1]


@pytest.mark.parametrize(("seed", "spread", "stages"), [(0, 3.0, (0, 1)), (1, 30.0, (0, 1)), (2, 3.0, (1,))])
def test_random_parameters_over_several_chunks(seed: int, spread: float, stages: tuple[int, ...]) -> None:
    """Every combination of cuts, on flat and on peaked rows; half of the seeds have ties."""
    rows, vocab = 5, 8200
    draw = torch.Generator().manual_seed(seed)

    def uniform(share: float, otherwise: float) -> torch.Tensor:
        """One number a row; `otherwise` in a share of them."""
        value = torch.rand(rows, generator=draw)
        return torch.where(torch.rand(rows, generator=draw) < share, otherwise, value)

    logits = torch.randn(rows, vocab, generator=draw) * spread
    if seed % 2:
        logits = (logits * 64 / spread).round() * spread / 64
    seen = torch.randint(-(2**31), 2**31 - 1, (rows, -(-vocab // 32)), generator=draw).int()
    made = sampling.make_buffers(rows, vocab, torch.device("cpu"), torch.zeros(rows, dtype=torch.int32))
    made.floats.copy_(
        torch.stack([uniform(0.1, 0.0) * 1.5, uniform(0.3, 1.0), uniform(0.6, 0.0) / 4, uniform(0.5, 0.4) + 0.6,
                     uniform(0.0, 0.0)])
    )  # fmt: skip
    made.integers.copy_(
        torch.stack([(uniform(0.4, 0.0) ** 3 * vocab).int(), torch.arange(rows).int(), uniform(0.5, 0.0).ceil().int(),
                     torch.ones(rows).int()])
    )  # fmt: skip
    if 0 not in stages:
        made.integers[0] = 0
    made.bitmask.copy_(torch.randint(-(2**31), 2**31 - 1, made.bitmask.shape, generator=draw))
    found = []
    for function in (sampling.sample, sampling.sample_reference):
        last = torch.zeros(rows, dtype=torch.int32)
        function(logits, made, seen, last, stages=stages, filtered=True, facts=False)
        found.append(last.tolist())
    assert found[0] == found[1]
