"""A step's integers in tensors of their own, of a prefill that is longer than the graphs' buffers."""

from __future__ import annotations

import torch

from engine.interfaces import RowInput
from engine.model.cpu.kv_blocks import BlockTables
from engine.model.cuda.device_streams import DeviceStreams
from engine.model.cuda.step_input import StepInput


def test_a_step_longer_than_the_buffers() -> None:
    given = StepInput(DeviceStreams(torch.device("cpu")), 4, 2, 2, BlockTables(2, 2, 1))
    count, wanted = given.fill([RowInput(1, list(range(50, 150)), 7), RowInput(0, [3, 4, 5], 0)])
    assert (count, wanted) == (103, 2)
    step, tiles = given.exact(count)
    assert step.tokens.tolist() == [*range(50, 150), 3, 4, 5]
    assert step.slots.tolist() == [1] * 100 + [0] * 3
    assert step.positions.tolist() == [*range(7, 107), 0, 1, 2]
    assert (tiles.first.tolist(), tiles.count.tolist()) == ([0, 100], [100, 3])
    assert step.live.tolist() == [count]
    for part in step.tokens, step.slots, step.positions:  # what kernels are compiled for
        assert part.is_contiguous()
        assert (part.data_ptr() - step.tokens.data_ptr()) % 16 == 0
