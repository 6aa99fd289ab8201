"""What the decoder says where the machine has no memory for its keys and values."""

from __future__ import annotations

import pytest
import torch

from engine.errors import ModelError
from engine.model.cpu.decoder import Decoder
from tests.kernels import tiny


def test_too_many_rows_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"1000000000 requests of 8192 tokens need .* GiB .* lower max_batch") as told:
        Decoder(tiny.shape(moe=False), tiny.floats(moe=False), slots=10**9, positions=8192, dtype=torch.float32)
    assert told.value.param == "max_batch"
