"""What is remembered of launches: each compiled form of a kernel asks for its shared memory itself."""

from __future__ import annotations

import torch

from engine.model.kernels.device.launch import compiled_key


def test_forms_of_a_kernel_differ_by_constants_types_and_alignment() -> None:
    x, constants = torch.zeros(64, dtype=torch.float16), {"N": 16}
    keys = {
        compiled_key("kernel", arguments, settings)
        for arguments, settings in (
            ((x, 5), constants),
            ((x.bfloat16(), 5), constants),
            ((x[1:], 5), constants),
            ((x, 5), {"N": 32}),
        )
    }
    assert len(keys) == 4
    assert compiled_key("kernel", (x.clone(), 7), constants) in keys
