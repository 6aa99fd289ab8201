"""Matrices [32, 64] that the tools' own packers wrote (AutoGPTQ 0.7.1, GPTQModel 7.7.0, AutoAWQ 0.2.9), groups of 32.

The values beside them are AutoGPTQ's forward of the unit matrix, AutoAWQ's `dequantize_gemm` in fp32, and the lattice
points that GPTQModel was given to pack (act-order, zero points of 0 among them, which borrow from their neighbours in
v1's words).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.model.formats.integers import read_awq, read_gptq
from engine.model.formats.stored import Stored

FILE = Path(__file__).parents[1] / "data" / "packed_by_tools.safetensors"


@pytest.mark.parametrize(
    "tool", ["autogptq4", "gptqmodel4_v1", "gptqmodel4_v2", "gptqmodel8_v1", "gptqmodel8_v2", "autoawq"]
)
def test_what_the_tools_packed_is_worth_what_they_say(tool: str) -> None:
    parts = {n.removeprefix(f"{tool}."): t for n, t in load_file(FILE).items() if n.startswith(f"{tool}.")}
    value = parts.pop("value")
    stored = Stored((f"{tool}.weight",), parts)
    if tool == "autoawq":
        found = read_awq(stored, 32, "awq-4")
    else:
        found = read_gptq(stored, 8 if tool.startswith("gptqmodel8") else 4, 32, not tool.endswith("v2"), "gptq")
    assert torch.allclose(found.dequantize(), value, rtol=2**-22, atol=0)
    assert value.abs().max() > 0.01
